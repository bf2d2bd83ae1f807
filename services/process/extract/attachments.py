"""What hangs on a mail: its attachments by name, out of MIME (EML) and out of Outlook's compound files (MSG).

Whatever a part is called and however it is packed, it is handed out as bytes; what they are is sniffed as for any file.
"""

from __future__ import annotations

import dataclasses
import email
import struct
from collections.abc import Callable, Iterator, Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.policy import compat32

from services.process.extract import library
from services.process.extract.ole import Compound, Entry, OleError
from shared.errors import UnprocessableContent
from shared.model import media

MAX_DEPTH = 4
"""A mail in a mail in a mail may have attachments; one further in is more than people send."""

MAX_PARTS = 200
MAX_BYTES = 256 * 1024 * 1024
_NAME_CHARACTERS = 200
_BODY_KINDS = frozenset({"text/plain", "text/html"})
_FILE_KINDS = frozenset({"text/calendar", "text/markdown", "text/csv", "text/vcard"})  # nobody shows them as words
_MAIL = "message/rfc822"
_ODD = (ValueError, LookupError, TypeError, AttributeError, AssertionError, HeaderParseError, OleError, struct.error)


@dataclasses.dataclass(frozen=True, slots=True)
class Attached:
    """One attachment, packed as it is in the mail."""

    name: str
    load: Callable[[], bytes]
    """Unpack it; raises `UnprocessableContent` when it is damaged."""
    is_mail: bool = False


def of_mail(data: bytes, media_type: str) -> tuple[bytes, list[Attached]]:
    """Return a mail without the mails in it, whose words are not its own, and everything that hangs on it."""
    try:
        return _of_msg(data) if media_type == media.MSG else _of_eml(data)
    except _ODD:
        return data, []  # the library reads what it can of it, or says what is wrong


def too_many() -> UnprocessableContent:
    """Return the verdict on a mail that holds more than people send."""
    return UnprocessableContent(
        f"The mail holds more than {MAX_PARTS} attachments, {MAX_BYTES // 1024 // 1024} MB, "
        f"or mails {MAX_DEPTH} levels deep; upload them one by one.",
        code="TOO_COMPLEX",
    )


def _of_eml(data: bytes) -> tuple[bytes, list[Attached]]:
    mail = email.message_from_bytes(data)
    found: list[Attached] = []
    has_mails = False
    for part in _parts(mail):
        if part.get_content_type() == _MAIL:
            inner = part.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                name = _name_of(part) or _subject_of(inner[0])
                found.append(Attached(name, _bytes_of(inner[0]), is_mail=True))
                part.set_payload([Message()])
                if "Content-Type" not in part:
                    part["Content-Type"] = _MAIL  # what is in a digest is a mail without saying so
                part.set_param("name", name)
                has_mails = True
        elif is_attached(part):
            name = _name_of(part) or f"attachment {len(found) + 1}"
            found.append(Attached(name, _guarded(part.get_payload, decode=True)))
    return (mail.as_bytes() if has_mails else data), found


def _parts(mail: Message) -> Iterator[Message]:
    """Yield the leaves of a mail in order; a mail in it is one of them."""
    waiting = [mail]
    while waiting:
        part = waiting.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            waiting += [item for item in reversed(payload) if isinstance(item, Message)]
        else:
            yield part


def is_attached(part: Message) -> bool:
    """Say whether a leaf of a mail is a file of its own, and no words of the mail."""
    where = part.get_content_disposition()
    if where == "attachment":
        return True
    if part.get_content_type() in _BODY_KINDS:
        # Without a name it is read with the words of the mail.
        return where == "inline" and bool(part.get_filename())
    if part.get_content_type() in _FILE_KINDS:
        return True
    # A picture within the words, such as the sign of a firm, is no document.
    is_shown = part.get_content_maintype() == "image" and part.get("Content-ID") is not None
    return bool(part.get_filename()) and not is_shown


def _name_of(part: Message) -> str:
    return _plain(_decoded(part.get_filename() or ""))


def _subject_of(mail: Message) -> str:
    return _plain(_decoded(str(mail.get("Subject", "")))) or "mail"


def _decoded(value: str) -> str:
    try:
        return str(make_header(decode_header(value)))
    except _ODD:
        return value


def _plain(name: str) -> str:
    """Return a name on one line, without what cannot be stored or shown."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    return words[:_NAME_CHARACTERS]


def _bytes_of(mail: Message) -> Callable[[], bytes]:
    return _guarded(mail.as_bytes, policy=compat32)


def _guarded(read: Callable[..., object], **options: object) -> Callable[[], bytes]:
    def load() -> bytes:
        try:
            data = read(**options)
        except _ODD as error:
            raise library.corrupt() from error
        return data if isinstance(data, bytes) else b""

    return load


def _of_msg(data: bytes) -> tuple[bytes, list[Attached]]:
    compound = Compound(data)
    return data, [_attached(compound, storage, 1) for storage in _attachments(compound, None)]


def _attachments(compound: Compound, mail: Entry | None) -> list[Entry]:
    found = compound.entries(mail)
    return [
        found[name] for name in sorted(found) if name.startswith("__attach_version1.0_") and not found[name].is_stream
    ]


def _attached(compound: Compound, storage: Entry, depth: int) -> Attached:
    values = compound.entries(storage)
    name = _text(compound, values, "3707") or _text(compound, values, "3704") or _text(compound, values, "3001")
    inner = values.get("__substg1.0_3701000d")
    if inner is not None and not inner.is_stream:
        return Attached(
            _plain(name) or "mail", _guarded(_as_eml, compound=compound, mail=inner, depth=depth), is_mail=True
        )
    stream = values.get("__substg1.0_37010102")
    load = _guarded(compound.read, entry=stream) if stream is not None else lambda: b""
    return Attached(_plain(name) or "attachment", load)


def _as_eml(*, compound: Compound, mail: Entry, depth: int) -> bytes:
    """Return a mail that hangs on an Outlook mail in the common form, which is then read as any."""
    if depth > MAX_DEPTH:
        raise too_many()
    values = compound.entries(mail)
    made = EmailMessage()
    for header, number in (("Subject", "0037"), ("From", "0c1a"), ("To", "0e04")):
        if value := _plain(_text(compound, values, number)):
            made[header] = value if header == "Subject" else f'"{value.replace(chr(34), "")}" <>'
    page = values.get("__substg1.0_10130102")
    words = _text(compound, values, "1000")
    if words or page is None:
        made.set_content(words)
    else:
        made.set_content(compound.read(page).decode(errors="replace"), subtype="html")
    size_bytes = 0
    for count, storage in enumerate(_attachments(compound, mail)):
        part = _attached(compound, storage, depth + 1)
        data = part.load()
        size_bytes += len(data)
        if count >= MAX_PARTS or size_bytes > MAX_BYTES:
            raise too_many()
        name = f"{part.name}.eml" if part.is_mail and not part.name.endswith(".eml") else part.name
        made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def _text(compound: Compound, values: Mapping[str, Entry], number: str) -> str:
    if (wide := values.get(f"__substg1.0_{number}001f")) is not None:
        return compound.read(wide).decode("utf-16-le", errors="replace").rstrip("\0")
    if (narrow := values.get(f"__substg1.0_{number}001e")) is not None:
        return compound.read(narrow).decode("cp1252", errors="replace").rstrip("\0")
    return ""
