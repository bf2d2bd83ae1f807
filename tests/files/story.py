"""The text of all files in this folder: a ferry line that does not exist."""

TITLE = "Lindholm Ferry Handbook"
INTRO = (
    "The ferry line joins Lindholm on the mainland with the island of Varnö. Two vessels sail every day of the year,"
    " and a third one helps in July."
)
VEHICLES = (
    "Cars queue in lane four no later than twenty minutes before sailing. Lorries above nine tonnes book a place by"
    " telephone on the day before."
)
BICYCLES = (
    "Bicycles travel free of charge and stand at the bow, tied with the yellow straps. Trailers for children count"
    " as hand luggage."
)
TIMETABLE = "All times are local. In a storm the last sailing is cancelled first."
JACKETS = "Life jackets lie under the benches of deck two, and small ones in the red box beside the kiosk."
RULES = ("Keep the doors of the car deck free.", "Gas bottles stay closed during the crossing.", "Dogs wear a lead.")
UMLAUTS = "Grüße från Varnö: the naïve café takes 5 € for a coffee at 20 °C."

HEADER = ("Departure", "Pier", "Vessel", "Remark")
VESSELS = ("Aurelia", "Borealis", "Castor")
REMARKS = ("daily", "not on Sundays", "July only", "with restaurant", "cars only", "slow crossing in ice")


def sailings(count: int = 40) -> list[tuple[str, str, str, str]]:
    """Return the rows of the timetable: one sailing every twenty minutes from five in the morning."""
    return [
        (
            f"{5 + number // 3:02d}:{number % 3 * 20:02d}",
            f"Pier {number % 4 + 1}",
            VESSELS[number % 3],
            REMARKS[number % 6],
        )
        for number in range(count)
    ]


def html(*, rows: int = 40) -> str:
    """Return the handbook as a page, from which most other programs start."""
    cells = "".join("<tr>" + "".join(f"<td>{value}</td>" for value in row) + "</tr>\n" for row in sailings(rows))
    head = "".join(f"<th>{value}</th>" for value in HEADER)
    rules = "".join(f"<li>{rule}</li>\n" for rule in RULES)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title></head><body>
<h1>{TITLE}</h1>
<p>{INTRO}</p>
<h2>Boarding</h2>
<h3>Vehicles</h3>
<p>{VEHICLES}</p>
<h3>Bicycles</h3>
<p>{BICYCLES}</p>
<h2>Timetable</h2>
<p>{TIMETABLE}</p>
<table border="1"><thead><tr>{head}</tr></thead><tbody>
{cells}</tbody></table>
<h2>Safety</h2>
<p>{JACKETS}</p>
<ul>
{rules}</ul>
<p>{UMLAUTS}</p>
</body></html>
"""


SLIDES = (
    (TITLE, (INTRO,), "Welcome everybody by name."),
    ("Boarding", (VEHICLES, BICYCLES), "Show the yellow straps."),
    ("Safety", (JACKETS, *RULES), "The red box is locked in winter."),
)

FUEL = (
    ("Month", "Vessel", "Litres"),
    *tuple(
        (f"2026-{month:02d}", vessel, str(1000 * month + 37 * number))
        for month in range(1, 13)
        for number, vessel in enumerate(VESSELS)
    ),
)
"""A sheet of 37 rows, in files it begins at B3."""

NOTICE = ("NOTICE TO PASSENGERS", "The upper deck is closed", "in winds above 17 knots.", "Ask the purser for tickets.")
"""What pictures show."""
