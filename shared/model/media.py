"""Media types: which are indexed, and which kinds of text only a name can tell apart."""

from __future__ import annotations

from pathlib import PurePosixPath

MAX_FILE_BYTES = 100 * 1024 * 1024
"""The largest object that is indexed, unless a setting says otherwise."""

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
XLS = "application/vnd.ms-excel"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
RTF = "application/rtf"
EPUB = "application/epub+zip"
MSG = "application/vnd.ms-outlook"
EML = "message/rfc822"
HTML = "text/html"
MARKDOWN = "text/markdown"
CSV = "text/csv"
TSV = "text/tab-separated-values"
TEXT = "text/plain"
JSON = "application/json"
XML = "application/xml"

DOCUMENTS = frozenset({PDF, DOCX, DOC, ODT, RTF, EPUB, EML, MSG, HTML, MARKDOWN, TEXT, JSON, XML})
SLIDES = frozenset({PPTX, PPT, ODP})
SHEETS = frozenset({XLSX, XLS, ODS})
DELIMITED = frozenset({CSV, TSV})
IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/tiff", "image/gif", "image/bmp"})
SUPPORTED = DOCUMENTS | SLIDES | SHEETS | DELIMITED | IMAGES

_TEXT_KINDS = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".eml": EML,
    ".json": JSON,
    ".xml": XML,
}


def text_kind_of(name: str) -> str:
    """Return the media type that a name gives to bytes which are known to be text; plain text when it says nothing."""
    return _TEXT_KINDS.get(PurePosixPath(name).suffix.lower(), TEXT)
