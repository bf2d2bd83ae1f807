"""Small valid files of every kind, the damage that is done to them, and files that are made to hurt.

Everything is made from nothing or from the demo corpus, and the same each time.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from shared.model import media

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "cli" / "corpus"
FILES = ROOT / "tests" / "files"
TRUNCATIONS, FLIPS = 50, 200

WORDS = "The intake gate closes in 75 seconds. Keep the key of cabinet H with the shift leader. "


def seeds() -> dict[str, tuple[str, bytes]]:
    """Return a name and the bytes of a small valid file by media type, for all types that can be made or are here."""
    made = {
        media.PDF: ("a.pdf", pdf(3)),
        media.DOCX: ("a.docx", (CORPUS / "maintenance-schedule.docx").read_bytes()),
        media.PPTX: ("a.pptx", (CORPUS / "safety-induction.pptx").read_bytes()),
        media.XLSX: ("a.xlsx", (CORPUS / "spare-parts.xlsx").read_bytes()),
        media.ODT: ("a.odt", open_document(media.ODT)),
        media.ODS: ("a.ods", open_document(media.ODS)),
        media.ODP: ("a.odp", open_document(media.ODP)),
        media.RTF: (
            "a.rtf",
            b"{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}\\f0\\b Gates\\b0\\par " + WORDS.encode() * 5 + b"\\par}",
        ),
        media.EPUB: ("a.epub", epub()),
        media.MSG: ("a.msg", message()),
        media.EML: ("a.eml", (CORPUS / "dam-inspection.eml").read_bytes()),
        media.HTML: ("a.html", (CORPUS / "water-licence.html").read_bytes()),
        media.MARKDOWN: ("a.md", (CORPUS / "turbine-faults.md").read_bytes()),
        media.TEXT: ("a.txt", (CORPUS / "shift-log.txt").read_bytes()),
        media.CSV: ("a.csv", (CORPUS / "energy-prices.csv").read_bytes()),
        media.TSV: ("a.tsv", b"name\tvalue\n" + b"row of a table\t12\n" * 50),
        media.JSON: (
            "a.json",
            json.dumps({"station": WORDS, "gates": [{"number": n, "m": n / 3} for n in range(9)]}).encode(),
        ),
        media.XML: ("a.xml", f"<?xml version='1.0'?><a><b c='d'>{WORDS}</b><b>{WORDS}</b></a>".encode()),
        **{f"image/{kind}": (f"a.{kind}", picture(kind)) for kind in ("png", "jpeg", "webp", "tiff", "gif", "bmp")},
    }
    for kind, ending in ((media.DOC, "doc"), (media.XLS, "xls"), (media.PPT, "ppt")):
        found = min(FILES.rglob(f"*.{ending}"), key=lambda path: path.stat().st_size, default=None)
        if found is not None:
            made[kind] = (f"a.{ending}", found.read_bytes())
    return made


def mutations(
    data: bytes, *, seed: int, truncations: int = TRUNCATIONS, flips: int = FLIPS
) -> Iterator[tuple[str, bytes]]:
    """Yield the damaged copies of a file, each with its name: cut off at random points, and with one byte changed."""
    chance = random.Random(seed)
    for end in sorted(chance.randrange(len(data)) for _ in range(truncations)):
        yield f"cut-{end}", data[:end]
    for place in sorted(chance.randrange(len(data)) for _ in range(flips)):
        damaged = bytearray(data)
        damaged[place] ^= chance.randrange(1, 256)
        yield f"flip-{place}-{damaged[place]:02x}", bytes(damaged)


def pdf(pages: int, *, words: str = WORDS, lines: int = 4) -> bytes:
    """Write a PDF by hand, a few lines of text on each page; none at all without `words`."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for number in range(pages):
        text = "".join(f"({words}{number}.{line}) Tj T* " for line in range(lines))
        stream = f"BT /F 11 Tf 14 TL 40 760 Td {text}ET"
        contents = f"/Contents {len(objects) + 2} 0 R" if words else ""
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 3 0 R>>>>{contents}>>")
        if words:
            objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    objects[1] = f"<</Type/Pages/Count {pages}/Kids[{' '.join(kids)}]>>"
    return pdf_of(objects)


def pdf_of(objects: list[str]) -> bytes:
    """Return a PDF file of these objects, the first of which is its catalog."""
    out, offsets = io.BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1"))
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()


def archive(entries: Mapping[str, bytes], *, stored: tuple[str, ...] = ("mimetype",)) -> bytes:
    """Return a ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data, zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED)
    return out.getvalue()


_ODF = (
    '<?xml version="1.0"?>{doctype}'
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
    ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    ' xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0" office:version="1.2">'
    "<office:body>{body}</office:body></office:document-content>"
)


def open_document(kind: str, *, text: str = WORDS, doctype: str = "") -> bytes:
    """Return a text, a sheet or a presentation in OpenDocument's form."""
    paragraph = f"<text:p>{text}</text:p>"
    cell = f'<table:table-cell office:value-type="string">{paragraph}</table:table-cell>'
    frame = f"<draw:frame><draw:text-box>{paragraph}</draw:text-box></draw:frame>"
    page = f'<draw:page draw:name="p">{frame}<presentation:notes>{frame}</presentation:notes></draw:page>'
    body = {
        media.ODT: f'<office:text><text:h text:outline-level="1">Gates</text:h>{paragraph * 3}</office:text>',
        media.ODS: "<office:spreadsheet><table:table table:name='S'>"
        + f"<table:table-row>{cell * 3}</table:table-row>" * 4
        + "</table:table></office:spreadsheet>",
        media.ODP: f"<office:presentation>{page * 2}</office:presentation>",
    }[kind]
    manifest = (
        '<?xml version="1.0"?><manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
    )
    return archive(
        {
            "mimetype": kind.encode(),
            "META-INF/manifest.xml": manifest.encode(),
            "content.xml": _ODF.format(body=body, doctype=doctype).encode(),
        }
    )


def word(*, text: str = WORDS, doctype: str = "", more: Mapping[str, bytes] | None = None) -> bytes:
    """Return the smallest Word file."""
    types = (
        '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    relations = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
        ' Target="word/document.xml"/></Relationships>'
    )
    document = (
        f'<?xml version="1.0"?>{doctype}'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    )
    said = {"[Content_Types].xml": types, "_rels/.rels": relations, "word/document.xml": document}
    return archive({name: value.encode() for name, value in said.items()} | dict(more or {}))


def epub() -> bytes:
    """Return a book of two chapters."""
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="b.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/>'
        '<manifest><item id="c1" href="c1.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="c2" href="c2.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c1"/><itemref idref="c2"/></spine></package>'
    )
    chapter = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Gates</h1><p>{WORDS * 3}</p></body></html>'
    said = {"META-INF/container.xml": container, "b.opf": package, "c1.xhtml": chapter, "c2.xhtml": chapter}
    return archive({"mimetype": b"application/epub+zip"} | {name: value.encode() for name, value in said.items()})


def picture(kind: str) -> bytes:
    """Return a small picture of three words."""
    out = io.BytesIO()
    image = Image.new("RGB", (260, 60), "white")
    ImageDraw.Draw(image).text((10, 12), "OPEN GATE 75", fill="black", font=ImageFont.load_default(30))
    image.save(out, kind)
    return out.getvalue()


_SECTOR, _SHORT = 512, 64
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def message() -> bytes:
    """Return an Outlook message with a subject and a body: a compound file, its streams in the short ones' sectors."""
    said = {0x0037: "Gate 3 is stuck", 0x1000: WORDS * 3, 0x0C1A: "Shift leader", 0x001A: "IPM.Note"}
    streams = {f"__substg1.0_{tag:04X}001F": text.encode("utf-16-le") for tag, text in said.items()}
    fixed = b"".join(struct.pack("<HHIII", 0x1F, tag, 6, len(text) * 2 + 2, 0) for tag, text in said.items())
    streams["__properties_version1.0"] = bytes(32) + fixed
    return compound(streams)


def compound(streams: Mapping[str, bytes]) -> bytes:
    """Return a compound file (OLE) of short streams, none of which has 4,096 bytes."""
    short, chain, entries = b"", list[int](), []
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    for number, name in enumerate(names):
        data = streams[name]
        count = -(-len(data) // _SHORT)
        entries.append(_entry(name, 2, len(chain), len(data), right=number + 2 if number + 1 < len(names) else _FREE))
        chain += [*range(len(chain) + 1, len(chain) + count), _END]
        short += data.ljust(count * _SHORT, b"\0")
    directory_sectors = -(-(len(entries) + 1) * 128 // _SECTOR)
    chain_sectors = -(-len(chain) * 4 // _SECTOR)
    short_sectors = -(-len(short) // _SECTOR)
    at_chain = 1 + directory_sectors
    at_short = at_chain + chain_sectors
    root = _entry("Root Entry", 5, at_short, len(short), child=1)
    fat = [_FAT]
    for count in (directory_sectors, chain_sectors, short_sectors):
        fat += [*range(len(fat) + 1, len(fat) + count), _END]
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIIII", 0, 1, 1, 0, 4096, at_chain, chain_sectors, _END, 0, 0)
    header += struct.pack("<108I", *([_FREE] * 108))
    empty = struct.pack("<64sHBBIII", b"", 0, 0, 0, _FREE, _FREE, _FREE).ljust(128, b"\0")
    directory = b"".join([root, *entries]) + empty * (directory_sectors * 4 - 1 - len(entries))
    table = struct.pack("<128I", *(fat + [_FREE] * (128 - len(fat))))
    chained = struct.pack(f"<{len(chain)}I", *chain).ljust(chain_sectors * _SECTOR, b"\xff")
    return header + table + directory + chained + short.ljust(short_sectors * _SECTOR, b"\0")


def _entry(name: str, kind: int, start: int, size: int, *, right: int = _FREE, child: int = _FREE) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<64sHBBIII36xIQ", encoded, len(encoded), kind, 1, _FREE, right, child, start, size)
