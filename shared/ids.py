"""Identifiers: time-ordered ids for rows, and hashes for content."""

import hashlib
import os
import uuid

from shared.clock import Clock, SystemClock


def uuid7(clock: Clock | None = None) -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits.

    Ids made in the same millisecond have no order among each other; rows that need one have a `seq`.
    """
    milliseconds = int((clock or SystemClock()).now().timestamp() * 1000)
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= ((random >> 64) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return uuid.UUID(int=value)


def text_hash(text: str) -> bytes:
    """Return the 32-byte SHA-256 of a chunk's text: the identity under which its vector is kept and reused."""
    return hashlib.sha256(text.encode("utf-8")).digest()
