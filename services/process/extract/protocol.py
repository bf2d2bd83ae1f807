"""What is said between parent, fork server and child.

Parent and child: frames of JSON behind a length of four bytes. The parent sends one request. The child answers with any
number of segments, then with `done` or `error`. Everything the child says is checked: what it reads is hostile.

Parent and server: packets of JSON, some with a descriptor. The server says `ready` once. Each packet of the parent
brings the child's end of a socket, and is answered, in order, with `started` (a pid, and with it the pidfd) or
`failed`. `ended` comes when a child is reaped.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import socket
import struct
from pathlib import Path
from typing import Any

from shared.errors import UnprocessableContent, WorkerCrashed
from shared.model.document import BoxSpan, Picture, Segment
from shared.model.locator import Box, Locator

MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_SEGMENT_CHARACTERS = 32_000
"""Longer stretches are cut, so that one is chunked in a moment and the pipe's back-pressure means something."""

LENGTH_BYTES = 4
_MAX_PACKET_BYTES = 4096
_DESCRIPTOR = struct.Struct("i")
_PICTURES = frozenset({"image/png", "image/jpeg"})
_CODES = frozenset({"UNSUPPORTED_TYPE", "CORRUPT", "ENCRYPTED", "EMPTY", "NO_TEXT", "TOO_COMPLEX"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One file to read. The child exits after it."""

    path: Path
    folder: Path
    """Where the child may put temporary files."""
    media_type: str
    start: int
    max_text_bytes: int
    cpu_seconds: int
    pictures: bool = False
    """Hand out pages without text, and images, as pictures; otherwise they are read by OCR."""

    def to_frame(self) -> bytes:
        """Return the frame that `from_payload` reads."""
        return frame(dataclasses.asdict(self) | {"path": str(self.path), "folder": str(self.folder)})

    @classmethod
    def from_payload(cls, payload: bytes) -> Request:
        """Read what the parent sent."""
        values = json.loads(payload)
        return cls(**values | {"path": Path(values["path"]), "folder": Path(values["folder"])})


def frame(message: dict[str, Any]) -> bytes:
    """Return a message behind its length.

    Raises:
        ValueError: it is longer than `MAX_FRAME_BYTES`.
    """
    payload = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError("message too long")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def segment_message(segment: Segment) -> dict[str, Any]:
    """Return the message for one segment."""
    values: dict[str, Any] = {"index": segment.index, "text": segment.text, "locator": segment.locator.to_json()}
    if segment.boxes:
        values["boxes"] = segment.boxes
    if segment.by_ocr:
        values["by_ocr"] = True
    if segment.picture is not None:
        values["picture"] = base64.b64encode(segment.picture.data).decode()
        values["picture_type"] = segment.picture.media_type
    return {"segment": values}


def read_answer(payload: bytes, *, expected_index: int) -> Segment | None:
    """Return the segment in a payload, or None when the child says that it is done.

    Raises:
        UnprocessableContent: the child's verdict on the file.
        WorkerCrashed: the child failed, or what came is not what a child says.
    """
    try:
        message = json.loads(payload)
        if "done" in message:
            return None
        if "error" in message:
            code, sentence = str(message["error"]["code"]), str(message["error"]["message"])
        else:
            values = message["segment"]
            index, text = int(values["index"]), values["text"]
            locator = Locator.from_json(values["locator"])
            if index != expected_index or not isinstance(text, str):
                raise ValueError("out of order")  # noqa: TRY301  # one place decides what garbage means
            boxes = tuple(BoxSpan(int(start), int(end), _box(box)) for start, end, box in values.get("boxes", ()))
            by_ocr = bool(values.get("by_ocr"))
            picture = _picture(values)
            return Segment(index=index, text=text, locator=locator, boxes=boxes, by_ocr=by_ocr, picture=picture)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkerCrashed("The process that reads files answered with garbage; the file is tried again.") from error
    if code in _CODES:
        raise UnprocessableContent(sentence, code=code)
    raise WorkerCrashed(f"The process that reads files failed ({sentence}); the file is tried again.")


def _picture(values: Any) -> Picture | None:
    if "picture" not in values:
        return None
    media_type = values["picture_type"]
    if media_type not in _PICTURES:
        raise ValueError("no kind of picture")
    return Picture(base64.b64decode(values["picture"], validate=True), media_type)


def _box(values: Any) -> Box:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def send_message(control: socket.socket, message: dict[str, Any], descriptor: int | None = None) -> None:
    """Send a packet between parent and server, with a descriptor if there is one.

    Raises:
        OSError: the other side is gone, or does not read.
    """
    socket.send_fds(control, [json.dumps(message).encode()], [] if descriptor is None else [descriptor])


def receive_message(control: socket.socket) -> tuple[dict[str, Any], int | None]:
    """Return the next packet and its descriptor, which is not inherited; an empty one when the other side is gone.

    Raises:
        BlockingIOError: there is none yet, on a socket that does not block.
        OSError, ValueError: what comes is not what is said here.
    """
    # `socket.recv_fds` does not hand on its flags.
    data, notes, _, _ = control.recvmsg(_MAX_PACKET_BYTES, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC)
    descriptor = next((_DESCRIPTOR.unpack(note[: _DESCRIPTOR.size])[0] for _, _, note in notes), None)
    message = json.loads(data or b"{}")
    if not isinstance(message, dict):
        raise ValueError("not a message")  # noqa: TRY004  # garbage, as what is no JSON
    return message, descriptor
