"""The words of the demo corpus's binary files; `make_corpus.py` sets them."""
# ruff: noqa: E501, ISC004 -- prose, joined over lines

# Chapters of the operations manual: a title and paragraphs, one page each.
MANUAL: list[tuple[str, list[str]]] = [
    (
        "1. The station at a glance",
        [
            "Alder Fork is a run-of-river power station with a small daily reservoir. A concrete weir, 11 metres high, "
            "dams the river where two valleys meet. From there the water flows through a headrace tunnel and a steel "
            "penstock to the powerhouse, drives two Francis turbines, and returns to the river through the tailrace.",
            "The gross head is 86 metres. At full load both units together take 17.2 cubic metres of water per second "
            "and give 12.4 megawatts at the terminals of the generators. In an average year the station delivers "
            "61 gigawatt hours, about as much as fifteen thousand households use.",
            "The plant was put into service in 1958 with one unit. The second unit followed in 1971, and the control "
            "system was renewed in 2014. Since then the station can be run from the regional dispatch centre, but a "
            "shift of two persons is on site by day, and one person is on call at night.",
            "The useful volume of the reservoir is 340,000 cubic metres. That is enough to store the inflow of five "
            "hours in a dry summer, so that water of the night can be turned into power in the evening.",
        ],
    ),
    (
        "2. Headrace tunnel",
        [
            "The headrace tunnel is 2,140 metres long and has the shape of a horseshoe, 3.1 metres wide and 3.3 metres "
            "high. The first 600 metres are lined with concrete because the rock there is weathered slate; the rest "
            "runs through sound granite, which is bare except for shotcrete at three crossings of faults.",
            "The tunnel falls by two in a thousand towards the surge tank, so that it drains by itself. At full load "
            "the water moves at 1.9 metres per second, and friction costs 4.6 metres of head. A loss that grows by more "
            "than half a metre from one year to the next tells of fallen rock or of growth on the walls.",
            "Filling the empty tunnel takes at least nine hours. The bypass at the intake is opened to a quarter and "
            "the air valve at the surge tank is watched: as long as air comes out with a whistle, nobody may open the "
            "bypass further. Filling too fast traps air, and trapped air has thrown the manhole cover off in 1963.",
            "The tunnel is emptied and walked through every six years. Nobody enters before the gas detector has shown "
            "more than 20 percent oxygen at both ends for half an hour, and never fewer than three people go in.",
        ],
    ),
    (
        "3. Intake gates",
        [
            "Two fixed-wheel gates, each 3.2 by 3.6 metres, close the mouth of the tunnel. Each gate hangs on a "
            "hydraulic cylinder, which lifts it with oil at 160 bar. No power is needed to close: when the oil is let "
            "go, the gate falls by its own weight of nine tonnes against the flowing water.",
            "When the oil pressure is lost or the emergency button is pressed, the intake gate closes in 75 seconds. "
            "An orifice in the cylinder brakes the last half metre, so that the sill is not damaged. The closing time "
            "is measured twice a year, and a gate that needs longer than 90 seconds is taken out of service.",
            "A gate is opened only against balanced pressure. The bypass valve fills the space behind the gate first; "
            "the interlock lets the pump start when the levels on both sides differ by less than 40 centimetres.",
            "In front of the gates stands the trash rack with bars at a clear distance of 45 millimetres. The rake "
            "starts at a difference of 12 centimetres across the rack, or every six hours. At 30 centimetres an alarm "
            "is given, and at 60 centimetres the units are unloaded so that the rack does not collapse.",
            "In hard frost, needle ice can close the rack within an hour. Then the bubbling system is switched on, the "
            "level is raised to form a closed cover of ice, and the rake stays at the top.",
        ],
    ),
    (
        "4. Surge tank and penstock",
        [
            "Where the tunnel ends, a shaft of 6 metres in diameter and 41 metres in height is open to the sky. This "
            "surge tank takes up the water that keeps moving when the turbines close. After a full load rejection the "
            "level rises by 13.5 metres within 70 seconds and swings up and down for about half an hour.",
            "Two load rejections within ten minutes may add their swings and spill the tank. For that reason a unit "
            "that has tripped from full load is not synchronised again before twelve minutes have passed.",
            "The penstock is a welded steel pipe, 290 metres long and 2.2 metres wide, on 19 saddles with two "
            "expansion joints. Its wall is 12 millimetres thick at the top and 22 at the bottom. Thickness is measured "
            "by ultrasound at forty marked points; the smallest value allowed is 80 percent of the original.",
            "A butterfly valve at the top shuts when the flow is more than 25 percent above full load, because such a "
            "flow can only mean that the pipe has burst. It is tripped by a paddle in the pipe and needs no "
            "electricity. Behind it, an air valve protects the empty pipe from being crushed by the weather's pressure.",
        ],
    ),
    (
        "5. Starting and stopping a unit",
        [
            "Before a start the operator checks that the brakes are released, that the shaft seal has water at 2 bar, "
            "that the oil of the governor is above 20 degrees, and that nobody's padlock hangs on the unit's board.",
            "The start itself is automatic and takes four minutes. The inlet valve opens, the guide vanes move to "
            "18 percent, and the unit runs up. At 95 percent of 500 revolutions per minute the excitation comes on. "
            "The synchroniser closes the breaker when voltage, frequency and phase agree.",
            "A normal stop unloads the unit at 100 kilowatts per second, opens the breaker at no load, and closes the "
            "guide vanes. The brakes come on at 30 percent speed; used earlier, they glaze. From full load to "
            "standstill a normal stop takes seven minutes.",
            "An emergency stop closes the guide vanes in six seconds and opens the breaker at once. It is kind to no "
            "part of the machine, and each one is counted: after 200 emergency stops the runner is examined for cracks.",
            "Black start is possible on Unit 2. The emergency diesel supplies the oil pumps, the unit is excited from "
            "the battery, and the dead line is raised slowly from zero to full voltage in agreement with the dispatcher.",
        ],
    ),
    (
        "6. Floods",
        [
            "The spillway has a flap gate, 22 metres wide, and two bottom outlets. Together they pass 410 cubic metres "
            "per second, the flood that comes once in a thousand years, with one of the outlets blocked.",
            "The flap gate is lowered in steps of ten centimetres, not faster than one step in five minutes, so that "
            "the river below rises by no more than a walker can outrun. The siren runs for one minute before the first "
            "step. When the inflow exceeds 120 cubic metres per second, both units are stopped, since the tailwater "
            "then stands too high for them to give useful power.",
            "Above 413.80 metres the crest is closed to everybody, and the municipality is told that the second alarm "
            "level has been reached. Above 414.40 metres the evacuation of the lower village begins.",
            "After each flood the stilling basin is sounded with a weight on a line from a boat. Holes deeper than one "
            "metre are filled with concrete in the next season of low water.",
        ],
    ),
    (
        "7. Working with the grid",
        [
            "The generators work at 6.3 kilovolts. One transformer of 16 megavolt amperes raises this to 33 kilovolts, "
            "and a single line of 14 kilometres leads to the substation of the valley. If the line is out, the station "
            "can feed the village and the saw mill as an island, up to 3 megawatts.",
            "In island operation only one unit governs the frequency, with a droop of 4 percent; the other is stopped. "
            "Large motors at the saw mill are started only after a telephone call, one after the other.",
            "Power is sold on the day-ahead market. The schedule is sent before 11 o'clock for the 24 hours of the next "
            "day; deviations of more than 5 percent in any quarter of an hour are charged to us. Primary control of "
            "plus or minus 0.6 megawatts is offered from November to March.",
            "The electric meters are read at midnight. Their seals may be broken by the grid company only.",
        ],
    ),
]

_TASKS = [
    ("Task", "Interval", "Unit at standstill", "Hours"),
    ("Grease the guide vane links", "every 4 weeks", "no", "1.5"),
    ("Clean the cooling water filters", "every 2 weeks", "no", "0.5"),
    ("Test the overspeed switch", "every 6 months", "no", "2"),
    ("Change the governor oil filter", "every 6 months", "yes", "3"),
    ("Measure the runner clearance", "every year", "yes", "8"),
    ("Replace the brake pads", "every 3 years", "yes", "6"),
    ("Rewind test of the stator", "every 6 years", "yes", "40"),
]

# Sections of the maintenance schedule: heading level, title, paragraphs and tables.
SCHEDULE: list[tuple[int, str, list[str | list[tuple[str, ...]]]]] = [
    (
        0,
        "Maintenance schedule",
        [
            "What is done when, and by whom. Work at a standstill is planned for August and September, when water is low."
        ],
    ),
    (1, "Turbines", []),
    (
        2,
        "Regular tasks",
        ["The hours are for two fitters. A task may be late by a tenth of its interval and never by more.", _TASKS],
    ),
    (
        2,
        "Runner inspection",
        [
            "The runner is inspected each year through the draft tube. Cavitation shows as a grey, spongy surface near "
            "the outlet edge of the blades. Pits of up to 3 millimetres are ground smooth. Deeper ones are filled by "
            "welding with stainless electrodes after heating the blade to 80 degrees, in beads no longer than a hand, "
            "so that the blade does not warp.",
            "After welding, the surface is checked with dye penetrant, and the shape with the template that hangs in "
            "the workshop. The mass that was added is written down; above 4 kilograms the runner is balanced anew.",
        ],
    ),
    (
        2,
        "Shaft seal",
        [
            "The carbon segments of the shaft seal wear by about a millimetre a year. They are replaced when the leak "
            "exceeds 12 litres per minute, or after five years. New segments are run in for two hours at no load with "
            "plenty of flushing water.",
        ],
    ),
    (1, "Hydraulic steelwork", []),
    (
        2,
        "Gates and valves",
        [
            "Every gate moves at least once in three months, also those that are never needed. The wheels of the "
            "intake gates are greased with a lubricant that is harmless in water. Rubber seals last about nine years; "
            "a seal that lets more than 5 litres per second pass on its whole length is replaced in the next low water.",
        ],
    ),
    (
        2,
        "Corrosion protection",
        [
            "The penstock was painted last in 2017 with three coats of epoxy, 480 micrometres in all. The next full "
            "repainting is planned for 2032. In between, damaged spots larger than a coin are brushed to bare metal and "
            "repaired on a dry day above 8 degrees.",
        ],
    ),
    (1, "Electrical equipment", []),
    (
        2,
        "Transformer",
        [
            "Oil of the transformer is sampled once a year for dissolved gases. Acetylene above 3 parts in a million "
            "means arcing inside, and the transformer is switched off for examination. The silica gel of the breather "
            "is replaced when two thirds of it have turned from orange to green.",
        ],
    ),
    (
        2,
        "Station battery",
        [
            "The battery has 55 cells and gives 110 volts. Each month the voltage of every cell is read; once a year it "
            "is discharged for five hours at 60 amperes. When less than 80 percent of the capacity is left, the battery "
            "is replaced as a whole, because new cells among old ones age quickly.",
        ],
    ),
    (
        2,
        "Protection relays",
        [
            "Relays are tested every four years with injected currents. The settings are kept in a sealed envelope at "
            "the dispatch centre as well as in the relay itself; a difference between the two is an incident.",
        ],
    ),
    (
        1,
        "Records",
        [
            "Each finished task is signed in the maintenance book with date, hours, parts used and measured values. A "
            "value outside its limits is underlined in red and stays on the list until somebody has explained it.",
        ],
    ),
]

# Slides of the safety induction: title, points, notes.
INDUCTION: list[tuple[str, list[str], str]] = [
    (
        "Welcome to Alder Fork",
        ["This induction takes twenty minutes", "It is valid for one year", "Sign the list before you leave the room"],
        "Ask whether anybody has a pacemaker: the generator hall and the switchyard are closed to them.",
    ),
    (
        "What you wear",
        [
            "Helmet and safety shoes everywhere behind the yellow line",
            "Ear protection on the turbine floor: 94 decibels",
            "Life jacket on the weir, on the intake deck and in any boat",
            "No loose scarves or rings near turning shafts",
        ],
        "Spare helmets are in the locker on the left of the entrance. Life jackets are checked every spring.",
    ),
    (
        "Lock out, tag out",
        [
            "Your own padlock on the isolator, and the key in your pocket",
            "Try to start the machine before you touch it",
            "Five steps for high voltage: disconnect, secure, test, earth, screen",
            "Only the one who hung a lock takes it off",
        ],
        "If somebody went home with the key, only the station head may cut the lock, after a telephone call with the owner.",
    ),
    (
        "Confined spaces",
        [
            "Draft tube, spiral case, tunnel, cable duct and oil tanks",
            "A written permit, valid for one shift",
            "One person stays outside and keeps in contact every five minutes",
            "Never go in to help without breathing apparatus",
        ],
        "Most people who die in confined spaces wanted to rescue somebody else.",
    ),
    (
        "Fire in the powerhouse",
        [
            "Generator: carbon dioxide is released 30 seconds after the horn - get out",
            "Transformer: water spray works by itself; stay behind the wall",
            "Cables: use the red extinguishers, never water",
            "Assembly point: the flagpole at the car park",
        ],
        "After carbon dioxide was released, the hall is aired for an hour and measured before anybody goes in.",
    ),
    (
        "First aid",
        [
            "Defibrillator: on the wall beside the control room door",
            "Eye wash: battery room and oil store",
            "Ambulance needs 18 minutes from the valley, helicopter lands on the football field",
        ],
        "After any electric shock, even a light one, the person sees a doctor for an electrocardiogram on the same day.",
    ),
    (
        "Water and weather",
        [
            "The river below the weir can rise by one metre within minutes",
            "Do not stand on the gravel bank, not even to take a picture",
            "In a thunderstorm leave the crest and the switchyard",
            "Throw bags hang every 50 metres along the canal",
        ],
        "Explain the siren: a single tone of one minute is a release through the flap gate.",
    ),
]
