"""Readers of JSON and XML: small branches stay whole, large ones are cited by the path that leads to them.

Short neighbours are read together, from anchor to anchor: an item that is added to a list regroups those around it,
and no others. Where an item stands is in the locator alone, since its number changes with every item before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

from services.process.anchors import row_anchors
from services.process.extract.sections import Section, table_text
from shared.model import media
from shared.model.locator import Locator, LocatorKind

_BRANCH_CHARACTERS = 800
_MAX_BYTES = 32 * 1024 * 1024
_MAX_COLUMNS = 30


class _Numbers(str):
    """A part of a path that only counts."""

    __slots__ = ()


def tree_sections(text: str, media_type: str) -> list[Section] | None:
    """Return the branches of a tree in reading order; None when it is malformed, or too large to be held whole."""
    if len(text) > _MAX_BYTES:
        return None
    try:
        if media_type == media.JSON:
            return list(_branches(json.loads(text), ()))
        # No entity from elsewhere is ever read, and the parser bounds what those of the file itself unfold into. It is
        # given characters, not bytes: of those it does not believe what the file says of its encoding.
        return list(_elements(ET.fromstring(text), ()))  # noqa: S314
    except (ValueError, LookupError, ET.ParseError):
        return None


def _section(path: tuple[str, ...], text: str) -> Section:
    # Every section below a branch begins with its title, which is not to be longer than what stands below it.
    titles = [part[:_BRANCH_CHARACTERS] for part in path if not isinstance(part, _Numbers)]
    return Section("\n\n".join([*titles[-1:], text]), Locator(kind=LocatorKind.HEADING, heading_path=path))


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where groups of neighbours begin and end."""
    firsts = [0, *row_anchors(texts), len(texts)] if texts else []
    yield from pairwise(firsts)


def _branches(value: Any, path: tuple[str, ...]) -> Iterator[Section]:
    if (table := _table(value)) is not None:
        yield _section(path, table)
        return
    text = "\n".join(_lines(value))
    if len(text) <= _BRANCH_CHARACTERS or not isinstance(value, dict | list):
        if text.strip():
            yield _section(path, text)
        return
    if isinstance(value, list):
        yield from _items(value, path)
        return
    if leaves := {name: item for name, item in value.items() if not isinstance(item, dict | list)}:
        yield _section(path, "\n".join(_lines(leaves)))
    for name, item in value.items():
        if isinstance(item, dict | list):
            yield from _branches(item, (*path, str(name)))


def _items(value: list[Any], path: tuple[str, ...]) -> Iterator[Section]:
    """Yield the items of a list, short ones together."""
    pending: list[str] = []

    def together(end: int) -> Iterator[Section]:
        before = end - len(pending)
        for first, last in _groups(pending):
            yield _section((*path, _range(before + first + 1, before + last)), "\n".join(pending[first:last]))
        pending.clear()

    for number, item in enumerate(value, 1):
        text = "\n".join(_lines([item]))
        if len(text) <= _BRANCH_CHARACTERS:
            pending.append(text)
            continue
        yield from together(number - 1)
        yield from _branches(item, (*path, _range(number, number)))
    yield from together(len(value))


def _range(first: int, last: int) -> str:
    return _Numbers(f"item {first}" if first == last else f"items {first}–{last}")


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    if not isinstance(value, dict | list):
        yield f"{indent}{_leaf(value)}"
        return
    for name, item in value.items() if isinstance(value, dict) else (("-", item) for item in value):
        label = f"{indent}- " if isinstance(value, list) else f"{indent}{name}: "
        if isinstance(item, dict | list):
            yield label.rstrip()
            yield from _lines(item, indent + "  ")
        else:
            yield label + _leaf(item)


def _leaf(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(value: Any) -> str | None:
    """Return records of the same few plain fields as a table."""
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(item, dict) and item for item in value):
        return None
    columns = list(dict.fromkeys(name for item in value for name in item))
    if len(columns) > _MAX_COLUMNS or any(isinstance(v, dict | list) for item in value for v in item.values()):
        return None
    rows = [[_leaf(item[name]) if name in item else "" for name in columns] for item in value]
    return table_text([columns, *rows])


def _elements(element: Any, path: tuple[str, ...]) -> Iterator[Section]:
    path = (*path, _title_of(element) or _name(element))
    text = "\n".join(_element_lines(element))
    titled = any(_title_of(child) for child in element.iter() if child is not element)
    if _is_leaf(element) or (len(text) <= _BRANCH_CHARACTERS and not titled):
        if text.strip():
            yield _section(path, text)
        return
    pending: list[str] = []

    def together() -> Iterator[Section]:
        for first, last in _groups(pending):
            yield _section(path, "\n".join(pending[first:last]))
        pending.clear()

    for child in element:
        child_text = "\n".join(_element_lines(child))
        # Neighbours that are short and have no title, such as paragraphs and rows, are read together.
        if _is_leaf(child) or (len(child_text) <= _BRANCH_CHARACTERS and not any(map(_title_of, child.iter()))):
            if child_text:
                pending.append(child_text)
        else:
            yield from together()
            yield from _elements(child, path)
    yield from together()


def _element_lines(element: Any) -> Iterator[str]:
    values = [f"{_name(key)}: {value}" for key, value in element.attrib.items()]
    if _is_leaf(element):
        text = " ".join("".join(element.itertext()).split())
        if text or values:
            yield " ".join([f"{_name(element)}: {text}", *(f"({value})" for value in values)])
        return
    yield from values
    if all(_is_leaf(child) and not child.attrib for child in element) and len({_name(child) for child in element}) == 1:
        yield " | ".join(" ".join("".join(child.itertext()).split()) for child in element)
        return
    for child in element:
        yield from _element_lines(child)


def _is_leaf(element: Any) -> bool:
    """Say whether an element is one stretch of text, with or without marked words in it."""
    texts = [element.text, *(child.tail for child in element)]
    return len(element) == 0 or any(text and text.strip() for text in texts)


def _title_of(element: Any) -> str:
    title = next((child for child in element if _name(child) == "title"), None)
    return "" if title is None else " ".join("".join(title.itertext()).split())


def _name(element: Any) -> str:
    name = element if isinstance(element, str) else str(element.tag)
    return name.rpartition("}")[2]
