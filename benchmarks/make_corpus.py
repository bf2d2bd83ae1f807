"""Make the binary files of the demo corpus: PDF, DOCX, PPTX, XLSX and PNG, from the text below.

Needs python-docx, python-pptx, openpyxl, reportlab and pillow, which the product itself does not; install them into an
environment of their own, then run `python benchmarks/make_corpus.py`. The text formats (Markdown, HTML, CSV, e-mail,
plain text) are written by hand and are their own source. The station is invented; the same run gives the same bytes.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
from corpus_text import INDUCTION, MANUAL, SCHEDULE
from openpyxl.styles import Font
from PIL import Image, ImageDraw, ImageFont
from pptx.util import Pt
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer

CORPUS = Path(__file__).parents[1] / "cli" / "corpus"
MADE_AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)
AUTHOR = "Alder Fork power station"

PARTS = [
    ("Part number", "Description", "Fits", "In stock", "Store place", "Order at", "Price EUR", "Delivery weeks"),
    ("AF-1004", "Carbon brush for slip rings, 20 x 32 mm", "Unit 1 and 2", 48, "Shelf A2", 20, 14.5, 3),
    ("AF-1011", "Feedback pin of the governor, hardened", "Unit 1 and 2", 6, "Shelf A3", 2, 39.0, 6),
    ("AF-1020", "Pilot valve of the governor, complete", "Unit 1 and 2", 1, "Shelf A3", 1, 4850.0, 22),
    ("AF-1107", "Shear pin for guide vanes, 24 mm", "Unit 1", 36, "Drawer C5", 12, 11.2, 4),
    ("AF-1108", "Shear pin for guide vanes, 28 mm", "Unit 2", 30, "Drawer C6", 12, 12.8, 4),
    ("AF-1130", "Guide vane bush, bronze with graphite", "Unit 1 and 2", 40, "Shelf B1", 20, 96.0, 10),
    ("AF-1201", "Shaft seal, carbon segments, one set", "Unit 1 and 2", 2, "Cabinet D, lower", 1, 3120.0, 16),
    ("AF-1215", "Guide bearing pads, white metal, one set", "Unit 1", 1, "Crate 14, hall north", 1, 18400.0, 30),
    ("AF-1216", "Thrust bearing cooler coil, copper nickel", "Unit 1 and 2", 1, "Crate 15, hall north", 1, 7600.0, 18),
    ("AF-1302", "Cooling water filter basket, 0.5 mm", "Station", 4, "Shelf E1", 2, 210.0, 5),
    ("AF-1310", "Solenoid valve 110 V for emergency closing", "Unit 1 and 2", 3, "Shelf A4", 2, 365.0, 8),
    ("AF-1404", "Seal strip for intake gate, rubber, 12 m", "Intake", 2, "Rack F, intake hut", 2, 540.0, 7),
    ("AF-1410", "Hoist rope for stop logs, 16 mm, 60 m", "Intake", 1, "Rack F, intake hut", 1, 480.0, 4),
    ("AF-1415", "Rake tooth, steel 355", "Trash rack", 25, "Intake hut, floor", 10, 33.0, 3),
    ("AF-1502", "Battery cell 2 V, 300 Ah", "Station", 3, "Battery room", 2, 265.0, 9),
    ("AF-1507", "Surge arrester 36 kV", "Switchyard", 1, "Cabinet H", 1, 720.0, 12),
    ("AF-1510", "Transformer bushing 36 kV with gasket", "Transformer", 1, "Crate 21, dry store", 1, 5300.0, 26),
    ("AF-1601", "Fuel filter for the emergency diesel", "Diesel", 5, "Shelf E3", 2, 28.0, 1),
    ("AF-1702", "Float switch for the drainage pit", "Station", 2, "Shelf E4", 1, 88.0, 2),
    ("AF-1703", "Impeller of drainage pump, cast iron", "Station", 1, "Shelf E5", 1, 640.0, 11),
]
GENERATION = [
    ("Month", "Unit 1 MWh", "Unit 2 MWh", "Own use MWh", "Spilled water, million m3", "Hours out of service"),
    ("January", 2410, 1980, 41, 0.0, 12),
    ("February", 1890, 1420, 38, 0.0, 31),
    ("March", 2630, 2240, 37, 0.4, 8),
    ("April", 3690, 3510, 33, 6.1, 4),
    ("May", 4120, 4060, 30, 14.8, 2),
    ("June", 3840, 3720, 29, 9.3, 6),
    ("July", 2950, 2480, 31, 1.2, 9),
    ("August", 1740, 1130, 33, 0.0, 17),
    ("September", 0, 1960, 36, 0.0, 720),
    ("October", 1150, 2310, 37, 0.3, 402),
    ("November", 2770, 2590, 39, 0.9, 15),
    ("December", 2560, 2190, 42, 0.0, 11),
]
SIGN = [
    ("FLOOD ALARM IN THE VALLEY", 54),
    ("When the siren sounds three long tones:", 38),
    ("leave the river bank at once and meet at", 38),
    ("the chapel at Mill Hill.", 44),
    ("Flood line: call extension 7702", 46),
    ("Do not use the bridge at the saw mill.", 38),
]


def make_pdf(path: Path) -> None:
    """Write the operations manual, one chapter a page."""
    styles = getSampleStyleSheet()
    story: list[object] = []
    for title, paragraphs in MANUAL:
        story.append(Paragraph(title, styles["Heading1"]))
        for text in paragraphs:
            story += [Paragraph(text, styles["BodyText"]), Spacer(1, 6)]
        story.append(PageBreak())
    SimpleDocTemplate(str(path), pagesize=A4, title="Operations manual", author=AUTHOR, invariant=1).build(story)


def make_docx(path: Path) -> None:
    """Write the maintenance schedule: headings, paragraphs, one table."""
    document = docx.Document()
    for level, title, content in SCHEDULE:
        document.add_heading(title, level)
        for text in content:
            if isinstance(text, str):
                document.add_paragraph(text)
                continue
            table = document.add_table(rows=0, cols=len(text[0]))
            table.style = "Table Grid"
            for row in text:
                for cell, value in zip(table.add_row().cells, row, strict=True):
                    cell.text = value
    _name(document.core_properties, "Maintenance schedule")
    document.save(str(path))
    _freeze(path)


def make_pptx(path: Path) -> None:
    """Write the safety induction: a title, points and notes on each slide."""
    deck = pptx.Presentation()
    for title, points, notes in INDUCTION:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        frame = slide.placeholders[1].text_frame
        for number, point in enumerate(points):
            paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
            paragraph.text = point
            paragraph.font.size = Pt(24)
        slide.notes_slide.notes_text_frame.text = notes
    _name(deck.core_properties, "Safety induction")
    deck.save(str(path))
    _freeze(path)


def make_xlsx(path: Path) -> None:
    """Write two sheets: spare parts from B3 on, and one year of generation."""
    book = openpyxl.Workbook()
    parts, generation = book.active, book.create_sheet("Generation 2025")
    parts.title = "Spare parts"
    for sheet, rows, first_row, first_column in ((parts, PARTS, 3, 2), (generation, GENERATION, 1, 1)):
        for row, values in enumerate(rows, first_row):
            for column, value in enumerate(values, first_column):
                cell = sheet.cell(row, column, value)
                cell.font = Font(bold=row == first_row)
    book.properties.creator, book.properties.created, book.properties.modified = AUTHOR, MADE_AT, MADE_AT
    book.save(path)
    _freeze(path)


def make_png(path: Path) -> None:
    """Draw the sign that hangs in the control room; its words are in no other file."""
    image = Image.new("RGB", (1100, 560), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, 1091, 551), outline=(180, 0, 0), width=6)
    top = 40
    for text, size in SIGN:
        draw.text((60, top), text, fill="black", font=ImageFont.load_default(size))
        top += size + 36
    image.quantize(8).save(path, optimize=True)


def _name(properties: object, title: str) -> None:
    properties.title, properties.author, properties.last_modified_by = title, AUTHOR, AUTHOR
    properties.created = properties.modified = MADE_AT
    properties.revision = 1


def _freeze(path: Path) -> None:
    """Write an archive again with one date on every entry, and without the time of saving inside."""
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == "docProps/core.xml":
                data = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2026-01-01T00:00:00Z", data)
            target.writestr(zipfile.ZipInfo(entry.filename, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


def main() -> None:
    """Write every file and say how large it is."""
    makers = {
        "operations-manual.pdf": make_pdf,
        "maintenance-schedule.docx": make_docx,
        "safety-induction.pptx": make_pptx,
        "spare-parts.xlsx": make_xlsx,
        "control-room-sign.png": make_png,
    }
    for name, make in makers.items():
        make(CORPUS / name)
        print(f"{name}: {(CORPUS / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
