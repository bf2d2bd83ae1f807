"""Files that are text already, and mails."""

from __future__ import annotations

import csv
import email.message
import email.policy
import io
import json
import quopri
from pathlib import Path
from xml.etree import ElementTree as ET

import story
from tools import HERE, libreoffice, node, pandoc, run


def _csv(**options: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, **options).writerows([story.HEADER, *story.sailings()])  # type: ignore[arg-type]
    return buffer.getvalue()


def make_html(folder: Path, work: Path) -> None:
    """LibreOffice and docutils write pages of their own style; the last one is as from the web of 2005."""
    libreoffice(work / "handbook.html", "odt:writer8", work / "handbook.odt", reads="HTML (StarWriter)")
    libreoffice(work / "handbook.odt", "html:HTML (StarWriter)", folder / "libreoffice.html")
    pandoc(work / "handbook.html", folder / "pandoc.html")
    pandoc(work / "handbook.html", work / "handbook.rst")
    (folder / "docutils.html").write_bytes(run("rst2html", work / "handbook.rst"))
    menu = "".join(f'<a href="{number}.htm">Page {number}</a> | ' for number in range(9))
    old = story.html().replace(
        '<meta charset="utf-8">', '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'
    )
    old = old.replace("<body>", f"<body bgcolor=white><script>var menu = 1;</script><center>{menu}</center>")
    (folder / "browser.htm").write_bytes(old.encode("cp1252"))


def make_md(folder: Path, work: Path) -> None:
    """Two dialects of pandoc, and one as people write it."""
    pandoc(work / "handbook.html", folder / "pandoc-gfm.md", "-t", "gfm")
    pandoc(
        work / "handbook.html",
        folder / "pandoc-setext.markdown",
        "-t",
        "markdown_strict+pipe_tables",
        "--markdown-headings=setext",
    )
    rows = "\n".join(" | ".join(row) for row in story.sailings())
    (folder / "notes.md").write_text(
        f"---\ntitle: {story.TITLE}\ndate: 2026-04-01\n---\n\n{story.INTRO}\n\nBoarding\n========\n\n"
        f"Vehicles\n--------\n\n{story.VEHICLES}\n\n## Bicycles ##\n\n* {story.BICYCLES}\n\n"
        "```sh\n# no heading\nboard --all\n```\n\n"
        f"# Timetable\n\n{' | '.join(story.HEADER)}\n--- | --- | --- | ---\n{rows}\n\n"
        f"# Safety\n\n> {story.JACKETS}\n\n{story.UMLAUTS}\n"
    )


def make_txt(folder: Path, work: Path) -> None:
    """Four encodings and line ends: pandoc's UTF-8, LibreOffice's UTF-16, groff's overstrikes, and old Windows."""
    pandoc(work / "handbook.html", folder / "pandoc.txt", "-t", "plain")
    libreoffice(
        work / "handbook.html", "txt:Text (encoded):UTF16,CRLF", folder / "libreoffice.txt", reads="HTML (StarWriter)"
    )
    pandoc(work / "handbook.html", work / "handbook.man", "-t", "man")
    (folder / "groff.txt").write_bytes(run("groff", "-t", "-man", "-Tutf8", "-k", work / "handbook.man"))
    lines = [story.TITLE, "", story.INTRO, "", story.VEHICLES, "", story.JACKETS, story.UMLAUTS, ""]
    (folder / "windows.txt").write_bytes("\r\n".join(lines).encode("cp1252"))


def make_csv(folder: Path, work: Path) -> None:
    """Commas, semicolons, tabs in UTF-16, and cells with line breaks."""
    (folder / "python.csv").write_text(_csv(lineterminator="\n"))
    (folder / "excel.csv").write_bytes(_csv(delimiter=";").encode("utf-8-sig"))
    (work / "sailings.csv").write_text(_csv(lineterminator="\n"))
    libreoffice(work / "sailings.csv", "ods", work / "sailings.ods")
    libreoffice(work / "sailings.ods", "csv:Text - txt - csv (StarCalc):59,34,ANSI,1", folder / "libreoffice.csv")
    run("ssconvert", work / "sailings.ods", folder / "gnumeric.csv")
    rows = [
        ["Question", "Answer"],
        ["Where are\nthe jackets?", story.JACKETS],
        ['The "red" box', "beside the kiosk; locked in winter"],
    ]
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(rows)
    (folder / "form.csv").write_text(buffer.getvalue(), newline="")
    (folder / "excel-unicode.tsv").write_bytes(_csv(delimiter="\t").encode("utf-16"))
    (folder / "python.tsv").write_text(_csv(delimiter="\t"))
    run("ssconvert", "-O", "separator='\t' format=raw", work / "sailings.ods", work / "gnumeric.txt")
    (work / "gnumeric.txt").rename(folder / "gnumeric.tsv")


def make_json(folder: Path, work: Path) -> None:
    """Records, a tree, and points on a map."""
    records = [dict(zip(map(str.lower, story.HEADER), row, strict=True)) for row in story.sailings()]
    (folder / "python.json").write_text(json.dumps({"line": story.TITLE, "sailings": records}, indent=2))
    node("json", work, folder / "node.json")
    pandoc(work / "handbook.html", folder / "pandoc.json", "-t", "json")
    piers = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [18.1, 59.3 + n / 100]},
            "properties": {"name": f"Pier {n}", "note": note},
        }
        for n, note in enumerate((story.VEHICLES, story.BICYCLES, story.JACKETS), 1)
    ]
    (folder / "map.json").write_text(json.dumps({"type": "FeatureCollection", "features": piers}))


def make_xml(folder: Path, work: Path) -> None:
    """A feed, a book, and an office document in one XML file."""
    feed = ET.Element("rss", version="2.0")
    channel = ET.SubElement(feed, "channel")
    ET.SubElement(channel, "title").text = story.TITLE
    for title, lines, _ in story.SLIDES:
        item = ET.SubElement(channel, "item")
        ET.SubElement(item, "title").text = title
        ET.SubElement(item, "description").text = " ".join(lines)
    ET.ElementTree(feed).write(folder / "python-rss.xml", encoding="utf-8", xml_declaration=True)
    pandoc(work / "handbook.html", folder / "pandoc-docbook.xml", "-t", "docbook5")
    libreoffice(work / "handbook.html", "fodt", work / "x.fodt", reads="HTML (StarWriter)")
    (work / "x.fodt").rename(folder / "libreoffice-flat.xml")


def make_epub(folder: Path, work: Path) -> None:
    """Four makers of books."""
    import ebooklib.epub as ebook

    pandoc(
        work / "handbook.html", folder / "pandoc.epub", "--metadata", f"title={story.TITLE}", "--epub-chapter-level=2"
    )
    libreoffice(work / "handbook.html", "epub", folder / "libreoffice.epub", reads="HTML (StarWriter)")
    node("epub", work, folder / "epub-gen.epub")
    book = ebook.EpubBook()
    book.set_identifier("lindholm")
    book.set_title(story.TITLE)
    book.set_language("en")
    chapters = []
    for number, (title, lines, _) in enumerate(story.SLIDES, 1):
        chapter = ebook.EpubHtml(title=title, file_name=f"{number}.xhtml")
        chapter.content = f"<h1>{title}</h1>" + "".join(f"<p>{line}</p>" for line in lines)
        book.add_item(chapter)
        chapters.append(chapter)
    book.toc, book.spine = chapters, ["nav", *chapters]
    book.add_item(ebook.EpubNcx())
    book.add_item(ebook.EpubNav())
    ebook.write_epub(folder / "ebooklib.epub", book)


def make_eml(folder: Path, work: Path) -> None:
    """A plain mail in an old encoding, one with a page and an attachment, and one of a program that sends."""
    plain = (
        "From: Purser <purser@ferry.example>\nTo: crew@ferry.example\n"
        "Subject: =?iso-8859-1?Q?Gr=FC=DFe_from_Varn=F6?=\n"
        "Date: Wed, 01 Apr 2026 08:30:00 +0200\nMIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\n"
        "Content-Transfer-Encoding: quoted-printable\n\n"
    )
    body = "\n".join([story.INTRO, "", story.JACKETS, "", story.UMLAUTS.replace("€", "EUR")]).encode("latin-1")
    (folder / "hand.eml").write_bytes(plain.encode() + quopri.encodestring(body))
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"] = "Purser <purser@ferry.example>", "crew@ferry.example"
    message["Subject"], message["Date"] = "Boarding rules", "Wed, 01 Apr 2026 09:00:00 +0200"
    message["Message-ID"] = "<1@ferry.example>"
    message.set_content(f"{story.VEHICLES}\n\n{story.BICYCLES}\n")
    message.add_alternative(f"<html><body><p>{story.VEHICLES}</p><p>{story.BICYCLES}</p></body></html>", subtype="html")
    message.add_attachment(f"{story.JACKETS}\n".encode(), maintype="text", subtype="plain", filename="safety.txt")
    (folder / "python.eml").write_bytes(message.as_bytes())
    (folder / "python-attachments.eml").write_bytes(_mail_with_attachments(HERE).as_bytes())
    node("eml", work, folder / "nodemailer.eml")


def _mail_with_attachments(files: Path) -> email.message.EmailMessage:
    """Return a mail with other programs' files, one of which is damaged, and a mail that has one as well."""

    def mail(subject: str, words: str, *names: str) -> email.message.EmailMessage:
        made = email.message.EmailMessage(policy=email.policy.SMTP)
        made["From"], made["To"], made["Subject"] = "purser@ferry.example", "crew@ferry.example", subject
        made.set_content(words)
        for name in names:
            data = (files / name).read_bytes()
            made.add_attachment(data, maintype="application", subtype="octet-stream", filename=Path(name).name)
        return made

    outer = mail("Papers for the season", f"{story.INTRO}\n", "pdf/reportlab.pdf", "xlsx/openpyxl.xlsx")
    broken = (files / "docx/pandoc.docx").read_bytes()[:4_000]
    outer.add_attachment(broken, maintype="application", subtype="octet-stream", filename="Entwurf für März.docx")
    outer.add_attachment(b"MZ\x90\0" * 20, maintype="application", subtype="octet-stream", filename="setup.exe")
    outer.add_attachment(mail("Bicycles", "As promised.\n", "docx/node-docx.docx", "csv/excel.csv"))
    return outer


def make_msg(folder: Path, work: Path) -> None:
    """Three writers of compound files; the mail's properties are set here and in `make.cjs` and `make.pl`."""
    from aspose.email_foss import msg

    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "Purser <purser@ferry.example>",
        "crew@ferry.example",
        "Boarding rules",
    )
    message["Date"] = "Wed, 01 Apr 2026 09:00:00 +0200"
    message.set_content(f"{story.VEHICLES}\n\n{story.BICYCLES}\n")
    message.add_attachment(f"{story.JACKETS}\n".encode(), maintype="text", subtype="plain", filename="safety.txt")
    msg.MapiMessage.from_email_message(message).save(str(folder / "aspose-foss.msg"))
    inner = msg.MapiMessage.from_email_message(message)
    outer = msg.MapiMessage.from_email_message(message)
    outer.subject = "Papers for the season"
    outer.add_attachment("fuel.xls", (HERE / "xls/xlwt.xls").read_bytes())
    outer.add_attachment("pier.pdf", (HERE / "pdf/reportlab.pdf").read_bytes())
    outer.add_embedded_message_attachment(inner, filename="Boarding rules.msg")
    outer.save(str(folder / "aspose-foss-attachments.msg"))
    node("msg", work, folder / "node-cfb.msg")
    run("perl", HERE / "make.pl", "msg", work / "story.json", folder / "ole-storage-lite.msg")


MAKERS = {
    "html": make_html,
    "md": make_md,
    "txt": make_txt,
    "csv": make_csv,
    "json": make_json,
    "xml": make_xml,
    "epub": make_epub,
    "eml": make_eml,
    "msg": make_msg,
}
