"""The words of a mail, in the encoding that is meant; those written as HTML are read as any page."""

from __future__ import annotations

import email
import struct
from email.message import Message

from services.process.extract import hypertext, texts
from services.process.extract.attachments import is_attached
from services.process.extract.hypertext import Block
from services.process.extract.ole import Compound, OleError
from shared.model import media

_ODD = (ValueError, LookupError, TypeError, AttributeError, AssertionError, OleError, struct.error)
_PAGE_OF_MSG = "__substg1.0_10130102"


def words(data: bytes, media_type: str) -> list[Block]:
    """Return the blocks of a mail's words; none where it has none, or where it is odd."""
    try:
        return _of_msg(data) if media_type == media.MSG else _blocks(email.message_from_bytes(data))
    except _ODD:
        return []  # what the library reads of it stands


def _of_msg(data: bytes) -> list[Block]:
    compound = Compound(data)
    page = compound.entries(None).get(_PAGE_OF_MSG)
    return hypertext.blocks(_decoded(compound.read(page), None)) if page is not None else []


def _blocks(part: Message) -> list[Block]:
    """Of several forms of the same, the last one that says something is the richest (RFC 2046, 5.1.4)."""
    payload = part.get_payload()
    if part.get_content_maintype() == "multipart" and isinstance(payload, list):
        forms = [_blocks(item) for item in payload if isinstance(item, Message)]
        if part.get_content_subtype() == "alternative":
            return next((form for form in reversed(forms) if any(map(str.isalnum, _told(form)))), [])
        return [block for form in forms for block in form]
    if is_attached(part):
        return []
    if part.get_content_type() == "text/html":
        return hypertext.blocks(_text_of(part))
    if part.get_content_type() == "text/plain" and (text := _text_of(part).strip()):
        return [(0, text)]
    return []


def _told(blocks: list[Block]) -> str:
    return "".join(text for _, text in blocks)


def _text_of(part: Message) -> str:
    data = part.get_payload(decode=True)
    data = data if isinstance(data, bytes) else b""
    return _decoded(data, part.get_content_charset())


def _decoded(data: bytes, charset: str | None) -> str:
    if charset is None or texts.known_encoding(charset) is None or charset.lower() in {"utf-8", "utf8"}:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            charset = texts.charset_of(data)
    names = (charset or "cp1252", "cp1252")
    return next(text for name in names if (text := texts.decode_as(data, name)) is not None)
