"""Reads the address of the database as the driver will, so that a wrong one is refused before it is used or logged.

An unescaped `/` in a password moves part of it to where the port or the name of the database stands, and from there
into the words of whoever stumbles over it. So the address is read once, here, and nothing that is wrong with it is
quoted.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

SHAPE = "postgresql://user:password@host:port/name"
ESCAPES = ", ".join(f"{sign} as {quote(sign, safe='')}" for sign in "/?#[]@:%")

_PORT_MAX = 65535
_ADDRESS_6 = re.compile(r"\[[^\[\]]+\](:[0-9]+)?")


def checked(url: str) -> str:
    """Return the address as it is.

    Raises:
        ValueError: the driver would not understand it, or not as it is meant; the message quotes nothing of it.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise _unreadable() from None
    after = (parts.path, parts.query, parts.fragment)
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment or any("@" in part for part in after):
        raise _unreadable()
    login, _, hosts = parts.netloc.rpartition("@")
    ports = [port for port in options.get("port", "").split(",") if port]
    if re.search(r"[@\[\]]", login) or not all(map(_is_host, hosts.split(",") if hosts else ())):
        raise _unreadable()
    if not all(map(_is_port, ports)):
        raise _unreadable()
    return url


def passwords(url: str) -> set[str]:
    """Return what is secret in an address, in each form in which it may be written; also in one that is wrong."""
    try:
        parts: SplitResult | None = urlsplit(url)
    except ValueError:
        parts = None
    found = {url.partition("://")[2].rpartition("@")[0].partition(":")[2]}
    if parts is not None:
        found.add(parts.netloc.rpartition("@")[0].partition(":")[2])
        found |= {value for name, value in parse_qsl(parts.query) if name.endswith("password")}
    return {form for one in found if one for form in (one, unquote(one), quote(one), quote(one, safe=""))}


def _is_host(written: str) -> bool:
    if written.startswith("["):
        return _ADDRESS_6.fullmatch(written) is not None
    name, _, port = written.partition(":")
    return bool(name) and not re.search(r"[\[\]]", written) and (not port or _is_port(port))


def _is_port(written: str) -> bool:
    return written.isascii() and written.isdigit() and 0 < int(written) <= _PORT_MAX


def _unreadable() -> ValueError:
    return ValueError(
        f"it cannot be read; it is {SHAPE}, and in user, password, name and options these are written otherwise: "
        f"{ESCAPES}"
    )
