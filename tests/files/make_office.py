"""Documents, slides and sheets of office programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import story
from tools import HERE, java, libreoffice, node, pandoc, run


def make_docx(folder: Path, work: Path) -> None:
    """Four writers of Word's format."""
    import docx

    libreoffice(work / "handbook.html", "docx:MS Word 2007 XML", folder / "libreoffice.docx", reads="HTML (StarWriter)")
    pandoc(work / "handbook.html", folder / "pandoc.docx")
    node("docx", work, folder / "node-docx.docx")
    document = docx.Document()
    document.core_properties.title = story.TITLE
    document.sections[0].header.paragraphs[0].text = "For the crew"
    document.add_heading(story.TITLE, 1)
    document.add_paragraph(story.INTRO)
    document.add_heading("Boarding", 2)
    for title, text in (("Vehicles", story.VEHICLES), ("Bicycles", story.BICYCLES)):
        document.add_heading(title, 3)
        document.add_paragraph(text)
    document.add_heading("Timetable", 2)
    document.add_paragraph(story.TIMETABLE)
    table = document.add_table(rows=1, cols=4)
    for row in [story.HEADER, *story.sailings()]:
        cells = table.rows[0].cells if row is story.HEADER else table.add_row().cells
        for cell, value in zip(cells, row, strict=True):
            cell.text = value
    document.add_heading("Safety", 2)
    outer = document.add_table(rows=1, cols=2)
    outer.cell(0, 0).text = "In an emergency"
    inner = outer.cell(0, 1).add_table(rows=1, cols=1)
    inner.cell(0, 0).text = story.JACKETS
    for rule in story.RULES:
        document.add_paragraph(rule, style="List Bullet")
    document.save(str(folder / "python-docx.docx"))


def make_odt(folder: Path, work: Path) -> None:
    """Four writers of OpenDocument text."""
    from odf.opendocument import OpenDocumentText
    from odf.text import H, P

    libreoffice(work / "handbook.html", "odt:writer8", folder / "libreoffice.odt", reads="HTML (StarWriter)")
    pandoc(work / "handbook.html", folder / "pandoc.odt")
    pandoc(work / "handbook.html", work / "handbook.rst")
    run("rst2odt", work / "handbook.rst", folder / "docutils.odt")
    document = OpenDocumentText()
    for level, title, text in (
        (1, story.TITLE, story.INTRO),
        (2, "Boarding", ""),
        (3, "Vehicles", story.VEHICLES),
        (3, "Bicycles", story.BICYCLES),
        (2, "Safety", story.JACKETS),
    ):
        document.text.addElement(H(outlinelevel=level, text=title))
        if text:
            document.text.addElement(P(text=text))
    document.save(str(folder / "odfpy.odt"))


def make_rtf(folder: Path, work: Path) -> None:
    """Three writers of RTF."""
    libreoffice(work / "handbook.html", "rtf:Rich Text Format", folder / "libreoffice.rtf", reads="HTML (StarWriter)")
    pandoc(work / "handbook.html", folder / "pandoc.rtf")
    pandoc(work / "handbook.html", work / "from-pandoc.docx")
    run("abiword", "--to=rtf", f"--to-name={folder / 'abiword.rtf'}", work / "from-pandoc.docx")


def make_doc(folder: Path, work: Path) -> None:
    """The old binary format is written by LibreOffice only; it starts from files of others."""
    libreoffice(work / "handbook.html", "doc:MS Word 97", folder / "libreoffice.doc", reads="HTML (StarWriter)")
    pandoc(work / "handbook.html", work / "from-pandoc.docx")
    libreoffice(work / "from-pandoc.docx", "doc:MS Word 97", folder / "libreoffice-from-pandoc.doc")


def make_pptx(folder: Path, work: Path) -> None:
    """Four writers of PowerPoint's format."""
    from pptx import Presentation
    from pptx.util import Inches

    deck: Any = Presentation()
    for title, lines, notes in story.SLIDES:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(lines)
        slide.notes_slide.notes_text_frame.text = notes
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Timetable"
    rows = [story.HEADER, *story.sailings(6)]
    table = slide.shapes.add_table(len(rows), 4, Inches(1), Inches(2), Inches(8), Inches(3)).table
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            table.cell(r, c).text = value
    deck.save(str(folder / "python-pptx.pptx"))
    node("pptx", work, folder / "pptxgenjs.pptx")
    text = "\n\n".join(
        f"# {title}\n\n" + "\n".join(f"- {line}" for line in lines) + f"\n\n::: notes\n{notes}\n:::"
        for title, lines, notes in story.SLIDES
    )
    (work / "slides.md").write_text(text)
    pandoc(work / "slides.md", folder / "pandoc.pptx", "--slide-level=1")
    make_odp_file(work / "odfpy.odp")
    libreoffice(work / "odfpy.odp", "pptx:Impress MS PowerPoint 2007 XML", folder / "libreoffice.pptx")


def make_odp_file(path: Path) -> None:
    """Write the slides with odfpy."""
    from odf.draw import Frame, Page, TextBox
    from odf.opendocument import OpenDocumentPresentation
    from odf.presentation import Notes
    from odf.style import MasterPage, PageLayout, PageLayoutProperties
    from odf.text import P

    document = OpenDocumentPresentation()
    layout = PageLayout(name="screen")
    layout.addElement(PageLayoutProperties(pagewidth="28cm", pageheight="21cm", printorientation="landscape"))
    document.automaticstyles.addElement(layout)
    master = MasterPage(name="plain", pagelayoutname=layout)
    document.masterstyles.addElement(master)
    for number, (title, lines, notes) in enumerate(story.SLIDES, 1):
        page = Page(name=f"page{number}", masterpagename=master)
        for y, texts in (("1cm", [title]), ("4cm", lines)):
            frame = Frame(width="24cm", height="3cm", x="2cm", y=y)
            box = TextBox()
            for text in texts:
                box.addElement(P(text=text))
            frame.addElement(box)
            page.addElement(frame)
        spoken = Notes()
        frame = Frame(width="16cm", height="12cm", x="2cm", y="14cm")
        box = TextBox()
        box.addElement(P(text=notes))
        frame.addElement(box)
        spoken.addElement(frame)
        page.addElement(spoken)
        document.presentation.addElement(page)
    document.save(str(path))


def make_odp(folder: Path, work: Path) -> None:
    """OpenDocument slides of LibreOffice, odfpy and odfdo."""
    import odfdo

    make_odp_file(folder / "odfpy.odp")
    make_pptx(_scratch(work), work)
    libreoffice(_scratch(work) / "python-pptx.pptx", "odp:impress8", folder / "libreoffice.odp")
    document = odfdo.Document("presentation")
    body: Any = document.body
    body.clear()
    for number, (title, lines, _) in enumerate(story.SLIDES, 1):
        page = odfdo.DrawPage(f"page{number}", name=title)
        for y, text in enumerate([title, *lines]):
            page.append(odfdo.Frame.text_frame(text, size=("20cm", "2cm"), position=("1cm", f"{1 + 2 * y}cm")))
        body.append(page)
    document.save(str(folder / "odfdo.odp"))


def make_ppt(folder: Path, work: Path) -> None:
    """The old binary format of slides."""
    make_odp_file(work / "odfpy.odp")
    libreoffice(work / "odfpy.odp", "ppt:MS PowerPoint 97", folder / "libreoffice.ppt")
    make_pptx(_scratch(work), work)
    libreoffice(_scratch(work) / "python-pptx.pptx", "ppt:MS PowerPoint 97", folder / "libreoffice-from-pptx.ppt")
    (work / "slides.tsv").write_text(
        "".join("\t".join([title, *lines]) + "\n" for title, lines, _ in story.SLIDES), encoding="utf-8"
    )
    java("ppt", work / "slides.tsv", folder / "poi.ppt")


def _scratch(work: Path) -> Path:
    folder = work / "scratch"
    folder.mkdir(exist_ok=True)
    return folder


def _typed(row: Sequence[str]) -> list[str | int]:
    return [int(value) if value.isdigit() else value for value in row]


def make_xlsx(folder: Path, work: Path) -> None:
    """Five writers of Excel's format; the sheet `Fuel` begins at B3, and some have a chart, a merge or a formula."""
    import openpyxl
    import xlsxwriter

    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = "Fuel"
    for r, row in enumerate(story.FUEL, 3):
        for c, value in enumerate(_typed(row), 2):
            sheet.cell(r, c, value)
    crew = book.create_sheet("Crew")
    crew.append(["Name", "Note"])
    crew.append(["Ada", story.JACKETS])
    book.save(folder / "openpyxl.xlsx")
    written: Any = xlsxwriter.Workbook(folder / "xlsxwriter.xlsx")
    page = written.add_worksheet("Fuel")
    for r, row in enumerate(story.FUEL, 2):
        page.write_row(r, 1, _typed(row))
    page.write_formula(len(story.FUEL) + 2, 3, f"=SUM(D4:D{len(story.FUEL) + 2})", None, 235_332)
    notes = written.add_worksheet("Crew")
    notes.write_row(0, 0, ["Name", "Note"])
    notes.write_row(1, 0, ["Ada", story.JACKETS])
    written.close()
    node("xlsx", work, folder / "exceljs.xlsx")
    make_ods_file(work / "odfpy.ods")
    libreoffice(work / "odfpy.ods", "xlsx:Calc MS Excel 2007 XML", folder / "libreoffice.xlsx")
    run("ssconvert", work / "odfpy.ods", folder / "gnumeric.xlsx")


def make_ods_file(path: Path) -> None:
    """Write the sheets with odfpy; two empty rows and one empty column come first, as repeats."""
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    def cell(value: str | int) -> Any:
        made = TableCell(valuetype="float", value=value) if isinstance(value, int) else TableCell(valuetype="string")
        made.addElement(P(text=str(value)))
        return made

    document = OpenDocumentSpreadsheet()
    fuel = Table(name="Fuel")
    empty = TableRow(numberrowsrepeated=2)
    empty.addElement(TableCell())
    fuel.addElement(empty)
    for row in story.FUEL:
        line = TableRow()
        line.addElement(TableCell())
        for value in _typed(row):
            line.addElement(cell(value))
        fuel.addElement(line)
    crew = Table(name="Crew")
    for row in (("Name", "Note"), ("Ada", story.JACKETS)):
        line = TableRow()
        for value in row:
            line.addElement(cell(value))
        crew.addElement(line)
    document.spreadsheet.addElement(fuel)
    document.spreadsheet.addElement(crew)
    document.save(str(path))


def make_ods(folder: Path, work: Path) -> None:
    """OpenDocument sheets of LibreOffice, Gnumeric, odfpy and odfdo."""
    import odfdo

    make_ods_file(folder / "odfpy.ods")
    make_xlsx(_scratch(work), work)
    libreoffice(_scratch(work) / "openpyxl.xlsx", "ods:calc8", folder / "libreoffice.ods")
    run("ssconvert", _scratch(work) / "openpyxl.xlsx", folder / "gnumeric.ods")
    document = odfdo.Document("spreadsheet")
    document.body.clear()
    table = odfdo.Table("Fuel")
    for r, row in enumerate(story.FUEL, 2):
        for c, value in enumerate(_typed(row), 1):
            table.set_value((c, r), value)
    document.body.append(table)
    document.save(str(folder / "odfdo.ods"))


def make_xls(folder: Path, work: Path) -> None:
    """The old binary format of sheets, by LibreOffice, xlwt and Perl."""
    import xlwt

    book: Any = xlwt.Workbook()
    sheet = book.add_sheet("Fuel")
    for r, row in enumerate(story.FUEL, 2):
        for c, value in enumerate(_typed(row), 1):
            sheet.write(r, c, value)
    book.save(str(folder / "xlwt.xls"))
    make_ods_file(work / "odfpy.ods")
    libreoffice(work / "odfpy.ods", "xls:MS Excel 97", folder / "libreoffice.xls")
    run("perl", HERE / "make.pl", "xls", work / "story.json", folder / "writeexcel.xls")
    (work / "fuel.tsv").write_text("".join("\t".join(row) + "\n" for row in story.FUEL), encoding="utf-8")
    java("xls", work / "fuel.tsv", folder / "poi.xls")


MAKERS = {
    "docx": make_docx,
    "odt": make_odt,
    "rtf": make_rtf,
    "doc": make_doc,
    "pptx": make_pptx,
    "odp": make_odp,
    "ppt": make_ppt,
    "xlsx": make_xlsx,
    "ods": make_ods,
    "xls": make_xls,
}
