"""What a file is, by its bytes. Looks at two bounded windows, parses nothing, and so cannot be tricked into work."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import filetype

from shared.errors import UnprocessableContent
from shared.model import media

_HEAD_BYTES = 64 * 1024
_TAIL_BYTES = 1024 * 1024
_PDF_WITHIN_BYTES = 1024
_PDF_OBJECT = re.compile(rb"[\r\n]\s*\d+\s+\d+\s+obj\b")
_ZIP_END = b"PK\x05\x06"
_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_CONTROL = re.compile(rb"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
# Possessive: where a comment ends is never thought over, which would double the work with each one.
_HTML = re.compile(rb"\s*+(?:<!--.*?-->\s*+)*+<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")

# Names of entries stand uncompressed in a ZIP file's local headers and in its directory at the end.
_ZIP_ENTRIES = {
    b"word/document": media.DOCX,
    b"ppt/presentation": media.PPTX,
    b"xl/workbook": media.XLSX,
    b"mimetypeapplication/epub+zip": media.EPUB,
    b"mimetypeapplication/vnd.oasis.opendocument.text": media.ODT,
    b"mimetypeapplication/vnd.oasis.opendocument.presentation": media.ODP,
    b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet": media.ODS,
}
# Names of streams in an OLE file are UTF-16; the more telling ones come first.
_OLE_STREAMS = {
    "EncryptedPackage": "",
    "__properties_version1.0": media.MSG,
    "WordDocument": media.DOC,
    "PowerPoint Document": media.PPT,
    "Workbook": media.XLS,
    "Book": media.XLS,
}


def sniff(path: Path, *, name: str) -> str:
    """Return the media type by the bytes; `name` only decides between kinds of text.

    Raises:
        UnprocessableContent: `EMPTY`, `UNSUPPORTED_TYPE`, `ENCRYPTED` (an Office file behind a password) or `CORRUPT`
            (an archive without an end).
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if not head:
            raise UnprocessableContent("The file is empty (0 bytes).", code="EMPTY")
        found = _binary_type(head, path) or _text_type(head, name)
    if found not in media.SUPPORTED:
        what = f"{found} files are" if found else "This kind of file is"
        raise UnprocessableContent(f"{what} not indexed; see the list of supported types.", code="UNSUPPORTED_TYPE")
    return found


def _binary_type(head: bytes, path: Path) -> str | None:
    if _is_pdf(head):
        return media.PDF
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(head, path)
    if head.startswith(_OLE_MAGIC):
        return _ole_type(path)
    if head.startswith(b"{\\rtf"):
        return media.RTF
    guess: Any = filetype.guess  # it has no types
    guessed = guess(head)
    return None if guessed is None else str(guessed.mime)


def _is_pdf(head: bytes) -> bool:
    """Say whether a PDF begins here, if need be after something else; texts about PDF mention the mark, too."""
    before, mark, after = head.partition(b"%PDF-")
    return bool(mark) and len(before) < _PDF_WITHIN_BYTES and (not before.strip() or bool(_PDF_OBJECT.search(after)))


def _zip_type(head: bytes, path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    kind = next((kind for entry, kind in _ZIP_ENTRIES.items() if entry in head or entry in tail), None)
    if kind is None and _ZIP_END not in tail:
        raise UnprocessableContent("The file is damaged or cut off; upload it anew.", code="CORRUPT")
    return kind or "application/zip"


def _ole_type(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        kind = next((kind for name, kind in _OLE_STREAMS.items() if view.find(name.encode("utf-16-le")) >= 0), None)
    if kind == "":
        raise UnprocessableContent("The file is protected with a password; upload it without one.", code="ENCRYPTED")
    return kind or "application/x-ole-storage"


def _text_type(head: bytes, name: str) -> str | None:
    if not head.startswith(_WIDE_MARKS) and _CONTROL.search(head):
        return None
    named = media.text_kind_of(name)
    if named in {media.TEXT, media.CSV, media.TSV, media.JSON} and _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return media.HTML
    return named
