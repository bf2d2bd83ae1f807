"""Files that are made to hurt: small on the way in, huge, endless, bottomless or curious once they are opened."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from PIL import Image

from shared.model import media
from tests.plugins import hostile
from tests.plugins.hostile import WORDS, archive, open_document, pdf, pdf_of, word

MEGABYTE = 1024 * 1024
DEEP = 200_000


def zeros(size_bytes: int) -> bytes:
    """Return so many characters, deflated."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = b" " * MEGABYTE
    return b"".join(squeezer.compress(piece) for _ in range(size_bytes // MEGABYTE)) + squeezer.flush()


def unfolding(entries: dict[str, tuple[bytes, int]], *, plain: dict[str, bytes]) -> bytes:
    """Return a ZIP file whose entries are given deflated, with their size; `plain` ones are packed here."""
    packed = io.BytesIO(archive(plain))
    with zipfile.ZipFile(packed, "a") as file:
        directory = list(file.infolist())
        at = file.start_dir
    body = packed.getvalue()[:at]
    central = b"".join(
        _central(i.filename, i.CRC, i.compress_size, i.file_size, i.compress_type, i.header_offset) for i in directory
    )
    for name, (data, size) in entries.items():
        head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(data), size, len(name), 0) + name.encode()
        central += _central(name, 0, len(data), size, 8, len(body))
        body += head + data
    count = len(directory) + len(entries)
    return body + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(central), len(body), 0)


def _central(name: str, crc: int, packed: int, size: int, method: int, offset: int) -> bytes:
    fields = (20, 20, 0, method, 0, 33, crc, packed, size, len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\1\2", *fields) + name.encode()


def overlapping(copies: int, kernel_bytes: int) -> bytes:
    """Return a Word file in whose directory thousands of entries stand for one and the same data."""
    data = zeros(kernel_bytes)
    whole = unfolding({"word/media/0.xml": (data, kernel_bytes)}, plain=parts_of(word()))
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        infos, at = file.infolist(), file.start_dir
    last = infos[-1]
    central = b"".join(
        _central(i.filename, i.CRC, i.compress_size, i.file_size, i.compress_type, i.header_offset) for i in infos
    )
    central += b"".join(
        _central(f"word/media/{n}.xml", 0, last.compress_size, kernel_bytes, 8, last.header_offset)
        for n in range(1, copies)
    )
    count = len(infos) + copies - 1
    return whole[:at] + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(central), at, 0)


def parts_of(data: bytes) -> dict[str, bytes]:
    """Return the entries of a ZIP file."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def laughs(levels: int = 10) -> str:
    """Return a document type whose entity `l{levels}` unfolds into ten to the power of `levels` words."""
    entities = '<!ENTITY l0 "ha">' + "".join(
        f'<!ENTITY l{after} "{f"&l{before};" * 10}">' for before, after in pairwise(range(levels + 1))
    )
    return f"<!DOCTYPE a [{entities}]>"


def sheet(cells: str) -> bytes:
    """Return a workbook with these cells."""
    said = parts_of((hostile.CORPUS / "spare-parts.xlsx").read_bytes())
    name = "xl/worksheets/sheet1.xml"
    head = (
        '<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    )
    return archive(said | {name: f"{head}{cells}</sheetData></worksheet>".encode()})


def png(width: int, height: int, *, with_pixels: bool = True) -> bytes:
    """Return a picture of so many black or white pixels, or one that only says so."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height if with_pixels else 1))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = rows + squeezer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    """Return a small picture with a comment of 500 MB."""
    whole = png(8, 8)
    data = b"note\0\0" + zlib.compress(bytes(500 * MEGABYTE), 9)
    note = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return whole[:33] + note + whole[33:]


def gif(count: int) -> bytes:
    """Return a picture of so many tiny frames."""
    out = io.BytesIO()
    first, *rest = [Image.new("L", (8, 8), n % 255) for n in range(count)]
    first.save(out, "gif", save_all=True, append_images=rest)
    return out.getvalue()


def tiff(pages: int) -> bytes:
    """Return a picture of so many pages of one white point."""
    fields = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1)]
    body = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    size = len(body) + 4
    chain = b"".join(
        body + struct.pack("<I", 12 + size * (page + 1) if page + 1 < pages else 0) for page in range(pages)
    )
    return struct.pack("<2sHI", b"II", 42, 12) + b"\xff\0\0\0" + chain


def endless_tiff() -> bytes:
    """Return a picture whose first page says that it is also the next one."""
    out = bytearray(hostile.picture("tiff"))
    (at,) = struct.unpack_from("<I", out, 4)
    (count,) = struct.unpack_from("<H", out, at)
    struct.pack_into("<I", out, at + 2 + 12 * count, at)
    return bytes(out)


def wide_tiff() -> bytes:
    """Return a picture that says it is 60,000 pixels wide and high, and has a few."""
    out = bytearray(hostile.picture("tiff"))
    (at,) = struct.unpack_from("<I", out, 4)
    (count,) = struct.unpack_from("<H", out, at)
    for n in range(count):
        (tag,) = struct.unpack_from("<H", out, at + 2 + 12 * n)
        if tag in {256, 257}:
            struct.pack_into("<HII", out, at + 4 + 12 * n, 4, 1, 60_000)
    return bytes(out)


def _stream(said: str, data: bytes) -> str:
    return f"<<{said}/Length {len(data)}>>stream\n{data.decode('latin-1')}\nendstream"


def _page(resources: str, contents: str, *more: str, box: str = "0 0 595 842") -> bytes:
    return pdf_of(
        [
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]/Resources<<{resources}>>/Contents 4 0 R>>",
            _stream("", contents.encode()),
            *more,
        ]
    )


def recursive_form() -> bytes:
    """Return a page that draws a form, which draws itself twice."""
    form = _stream(
        "/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>", b"/X Do /X Do 0 0 5 5 re f"
    )
    return _page("/XObject<</X 5 0 R>>", "/X Do", form)


def endless_pages() -> bytes:
    """Return a page tree that holds itself."""
    return pdf_of(["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Count 3/Kids[2 0 R 2 0 R 2 0 R]/Parent 2 0 R>>"])


def lying_count() -> bytes:
    """Return one page and the word that there are two thousand million."""
    return pdf(1).replace(b"/Count 1/", b"/Count 2000000000/")


def circular_references() -> bytes:
    """Return objects that are each other's length, filter and value."""
    return pdf_of(
        [
            "<</Type/Catalog/Pages 2 0 R/Names 5 0 R>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources 5 0 R>>",
            "<</Length 6 0 R/Filter 7 0 R>>stream\nBT ET\nendstream",
            "6 0 R",
            "7 0 R",
            "5 0 R",
        ]
    )


def huge_stream(size_bytes: int, layers: int = 1) -> bytes:
    """Return a page whose drawing orders unfold into so many bytes, packed several times."""
    data = zlib.compress(b"0 0 5 5 re f\n" * (size_bytes // 13), 9)
    for _ in range(layers - 1):
        data = zlib.compress(data, 9)
    filters = "/FlateDecode" * layers
    return pdf_of(
        [
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Count 1/Kids[3 0 R]>>",
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R>>",
            _stream(f"/Filter[{filters}]", data),
        ]
    )


def picture_in_pdf(side: int) -> bytes:
    """Return a page with a picture of so many pixels in each direction."""
    squeezer = zlib.compressobj(9)
    data = b"".join(squeezer.compress(bytes(side // 8)) for _ in range(side)) + squeezer.flush()
    said = f"/Type/XObject/Subtype/Image/Width {side}/Height {side}/BitsPerComponent 1/ColorSpace/DeviceGray"
    return _page("/XObject<</X 5 0 R>>", "q 500 0 0 500 0 0 cm /X Do Q", _stream(said + "/Filter/FlateDecode", data))


def endless_paper() -> bytes:
    """Return a page of a million points in each direction with a line on it."""
    return _page("", "0 0 m 1000000 1000000 l S", box="0 0 1000000 1000000")


def nested_mail(depth: int) -> bytes:
    """Return a message within a message, and so on."""
    head = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(depth))
    return f"From: a@example.org\r\nSubject: deep\r\nMIME-Version: 1.0\r\n{head}\r\n{WORDS}\r\n".encode()


def nested_zip(depth: int) -> bytes:
    """Return a Word file with a file in it that holds one, and so on, the last unfolding into 200 MB."""
    inner = unfolding({"word/z.xml": (zeros(200 * MEGABYTE), 200 * MEGABYTE)}, plain=parts_of(word()))
    for _ in range(depth):
        inner = archive(parts_of(word()) | {"word/embeddings/a.docx": inner})
    return inner


def _without(data: bytes, name: str) -> dict[str, bytes]:
    said = parts_of(data)
    del said[name]
    return said


def _repeated() -> bytes:
    """Return a sheet in which one cell stands for sixteen thousand million."""
    return archive(
        {
            name: data.replace(b"<table:table-row>", b'<table:table-row table:number-rows-repeated="1048576">').replace(
                b"<table:table-cell ", b'<table:table-cell table:number-columns-repeated="16384" '
            )
            for name, data in parts_of(open_document(media.ODS)).items()
        }
    )


def _xml(text: str, doctype: str) -> bytes:
    return f"<?xml version='1.0'?>{doctype}<a>{text}</a>".encode()


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "flat": ("a.docx", lambda: unfolding({"word/document.xml": (zeros(300 * MEGABYTE), 300 * MEGABYTE)}, plain={})),
    "flat-lying": ("a.docx", lambda: unfolding({"word/document.xml": (zeros(300 * MEGABYTE), 1000)}, plain={})),
    "workbook": (
        "a.xlsx",
        lambda: unfolding(
            {"xl/workbook.xml": (zeros(400 * MEGABYTE), 400 * MEGABYTE)}, plain=_without(sheet(""), "xl/workbook.xml")
        ),
    ),
    "sheet-part": (
        "a.xlsx",
        lambda: unfolding(
            {"xl/worksheets/sheet1.xml": (zeros(300 * MEGABYTE), 300 * MEGABYTE)},
            plain=_without(sheet(""), "xl/worksheets/sheet1.xml"),
        ),
    ),
    "nested": ("a.docx", lambda: nested_zip(5)),
    "overlap": ("a.docx", lambda: overlapping(10_000, 20 * MEGABYTE)),
    "plain-zip": ("a.zip", lambda: archive({"a.txt": bytes(50 * MEGABYTE)})),
    "laughs-xml": ("a.xml", partial(_xml, "&l10;", laughs())),
    "laughs-docx": ("a.docx", lambda: word(text="&l10;", doctype=laughs())),
    "laughs-odt": ("a.odt", lambda: open_document(media.ODT, text="&l10;", doctype=laughs())),
    "laughs-xlsx": (
        "a.xlsx",
        lambda: archive(
            parts_of(sheet(""))
            | {"xl/workbook.xml": f"<?xml version='1.0'?>{laughs()}<workbook>&l10;</workbook>".encode()}
        ),
    ),
    "laughs-epub": (
        "a.epub",
        lambda: archive(
            parts_of(hostile.epub()) | {"c1.xhtml": f"{laughs()}<html><body><p>&l10;</p></body></html>".encode()}
        ),
    ),
    "quadratic-xml": ("a.xml", partial(_xml, "&x;" * 20_000, f'<!DOCTYPE a [<!ENTITY x "{"x" * 100_000}">]>')),
    "pdf-100000-empty": ("a.pdf", lambda: pdf(100_000, words="")),
    "pdf-500-empty": ("a.pdf", lambda: pdf(500, words="")),
    "pdf-recursive-form": ("a.pdf", recursive_form),
    "pdf-endless-pages": ("a.pdf", endless_pages),
    "pdf-lying-count": ("a.pdf", lying_count),
    "pdf-circular": ("a.pdf", circular_references),
    "pdf-huge-stream": ("a.pdf", lambda: huge_stream(600 * MEGABYTE)),
    "pdf-huge-stream-packed-thrice": ("a.pdf", lambda: huge_stream(600 * MEGABYTE, 3)),
    "pdf-picture": ("a.pdf", lambda: picture_in_pdf(48_000)),
    "pdf-paper": ("a.pdf", endless_paper),
    "pdf-deep-array": ("a.pdf", lambda: _page("", "[" * DEEP + "]" * DEEP + " TJ")),
    "pdf-deep-dictionary": (
        "a.pdf",
        lambda: pdf(1).replace(b"/Type/Catalog", b"/Type/Catalog/A " + b"[" * DEEP + b"]" * DEEP),
    ),
    "png-50000": ("a.png", lambda: png(50_000, 50_000)),
    "png-50000-hollow": ("a.png", lambda: png(50_000, 50_000, with_pixels=False)),
    "png-8900": ("a.png", lambda: png(8_900, 8_900)),
    "png-text": ("a.png", png_with_text_bomb),
    "gif-frames": ("a.gif", lambda: gif(5_000)),
    "tiff-frames": ("a.tiff", lambda: tiff(6_000)),
    "tiff-endless": ("a.tiff", endless_tiff),
    "tiff-wide": ("a.tiff", wide_tiff),
    "html-deep": ("a.html", lambda: b"<html>" + b"<div>" * DEEP + b"x"),
    "html-tables": ("a.html", lambda: b"<html>" + b"<table><tr><td>" * 20_000 + b"x"),
    "json-deep": ("a.json", lambda: b"[" * DEEP + b"]" * DEEP),
    "json-deep-keys": ("a.json", lambda: b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "xml-deep": ("a.xml", lambda: b"<a>" * DEEP + b"x" + b"</a>" * DEEP),
    "md-deep-quotes": ("a.md", lambda: b">" * DEEP + b" x"),
    "md-brackets": ("a.md", lambda: b"[" * DEEP + b"x"),
    "md-emphasis": ("a.md", lambda: b"**a _b " * 50_000),
    "md-lists": ("a.md", lambda: b"".join(b" " * n + b"- x\n" for n in range(2_000))),
    "rtf-deep": ("a.rtf", lambda: b"{\\rtf1 " + b"{" * DEEP + b"x" + b"}" * DEEP + b"}"),
    "eml-deep": ("a.eml", lambda: nested_mail(20_000)),
    "docx-deep": (
        "a.docx",
        lambda: word(text="</w:t></w:r></w:p>" + "<w:tbl><w:tr><w:tc>" * 20_000 + "<w:p><w:r><w:t>x"),
    ),
    "line-txt": ("a.txt", lambda: b"abcdefghi " * 2 * MEGABYTE),
    "line-txt-no-space": ("a.txt", lambda: b"abcdefghij" * 2 * MEGABYTE),
    "line-md": ("a.md", lambda: b"abcdefghi " * 2 * MEGABYTE),
    "line-html": ("a.html", lambda: b"<html><p>" + b"abcdefghi " * 2 * MEGABYTE),
    "line-json": ("a.json", lambda: b'"' + b"abcdefghi " * 2 * MEGABYTE + b'"'),
    "line-csv": ("a.csv", lambda: b"abcdefghi " * 2 * MEGABYTE),
    "csv-columns": ("a.csv", lambda: b"\n".join([b",".join([b"ab"] * 1_000_000)] * 3)),
    "csv-columns-rows": ("a.csv", lambda: b",".join([b"ab"] * 100_000) + b"\n1,2" * 2_000),
    "csv-empty-lines": ("a.csv", lambda: b"\n" * 20 * MEGABYTE + b"a,b"),
    "csv-quote": ("a.csv", lambda: b'a,b\n"' + b"x,y\n" * 2 * MEGABYTE),
    "csv-ragged": ("a.csv", lambda: b",".join([b"a"] * 20_000) + b"\n" + b"1\n" * 50_000),
    "xlsx-far-corner": (
        "a.xlsx",
        lambda: sheet('<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'),
    ),
    "ods-repeated": ("a.ods", _repeated),
}
