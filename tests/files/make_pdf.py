"""PDF files: of office programs, browsers and typesetters, scanned, mixed and turned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import img2pdf
import story
from make_images import notice
from PIL import Image, ImageDraw, ImageFont
from tools import libreoffice, run

_FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"


def _scan(lines: list[str], *, quarter_turns: int = 0) -> bytes:
    """Return a page as a scanner for black and white would give it."""
    image = Image.new("L", (1240, 900), 250)
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, 26)
    for number, line in enumerate(lines):
        draw.text((120, 120 + 44 * number), line, fill=20, font=font)
    image = image.rotate(90 * quarter_turns, expand=True, fillcolor=250)
    buffer = io.BytesIO()
    image.point(lambda value: 255 * (value > 140)).convert("1").save(
        buffer, "TIFF", compression="group4", dpi=(150, 150)
    )
    return buffer.getvalue()


def _lines(text: str) -> list[str]:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 60:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def make_pdf(folder: Path, work: Path) -> None:
    """Programs that print, then what scanners and stamps make of it."""
    from fpdf import FPDF
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

    libreoffice(work / "handbook.html", "pdf:writer_web_pdf_Export", folder / "libreoffice.pdf")
    run("wkhtmltopdf", "-q", work / "handbook.html", folder / "wkhtmltopdf.pdf")
    run("pandoc", "-s", "-t", "ms", work / "handbook.html", "-o", work / "handbook.ms")
    postscript = run("groff", "-ms", "-t", "-k", "-Tps", work / "handbook.ms")
    (folder / "groff-ghostscript.pdf").write_bytes(
        run("gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=pdfwrite", "-sOutputFile=-", "-", stdin=postscript)
    )
    styles = getSampleStyleSheet()
    parts: list[Any] = [
        Paragraph(story.TITLE, styles["Title"]),
        Paragraph(story.INTRO, styles["BodyText"]),
        PageBreak(),
    ]
    for title, text in (("Vehicles", story.VEHICLES), ("Bicycles", story.BICYCLES)):
        parts += [Paragraph(title, styles["Heading2"]), Paragraph(text, styles["BodyText"])]
    parts += [PageBreak(), Table([story.HEADER, *story.sailings()], style=[("GRID", (0, 0), (-1, -1), 0.5, "black")])]
    SimpleDocTemplate(str(folder / "reportlab.pdf"), pagesize=A4).build(parts)
    columns: Any = FPDF(format="letter")
    columns.add_font("DejaVu", fname=_FONT)
    columns.set_font("DejaVu", size=11)
    columns.add_page()
    with columns.text_columns(ncols=2, gutter=10) as flow:
        for text in (story.INTRO, story.VEHICLES, story.BICYCLES, story.TIMETABLE, story.JACKETS, *story.RULES) * 2:
            flow.write(text + "\n\n")
    columns.output(str(folder / "fpdf-columns.pdf"))

    scan = img2pdf.convert([_scan(_lines(story.JACKETS)), _scan(_lines(story.VEHICLES))])
    (folder / "img2pdf-scan.pdf").write_bytes(scan)
    # Text, then a scan, then a scan under a stamp with a page number, then a page with nothing.
    _mixed(folder / "reportlab-mixed.pdf", work)
    run("qpdf", folder / "reportlab.pdf", "--rotate=+90:2", "--rotate=+270:3", folder / "qpdf-turned.pdf")
    sideways = img2pdf.convert([_scan(_lines(story.JACKETS), quarter_turns=1)])
    (work / "sideways.pdf").write_bytes(sideways)
    run("qpdf", work / "sideways.pdf", "--rotate=+90:1", folder / "qpdf-turned-scan.pdf")
    (folder / "img2pdf-sideways.pdf").write_bytes(sideways)
    notice().save(folder / "pillow-photo.pdf")


def _mixed(path: Path, work: Path) -> None:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=A4)
    text = canvas.beginText(72, 700)
    text.textLines(_lines(story.INTRO))
    canvas.drawText(text)
    canvas.showPage()
    for lines, stamp in ((story.JACKETS, ""), (story.BICYCLES, "Page 3 of 4")):
        canvas.drawImage(ImageReader(io.BytesIO(_scan(_lines(lines)))), 0, 300, 595, 432)
        canvas.drawString(270, 20, stamp)
        canvas.showPage()
    canvas.showPage()
    canvas.save()


MAKERS = {"pdf": make_pdf}
