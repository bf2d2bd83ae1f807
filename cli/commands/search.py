"""A question, and the passages that answer it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from cli.client import Api
from services.api.schemas import Hit

_PASSAGE_CHARACTERS = 420
_LEAD_CHARACTERS = 60
_LINE_CELLS = 100
_INDENT = 3
_EVERYWHERE = frozenset(
    {"does", "from", "have", "into", "that", "their", "this", "what", "when", "where", "which", "will", "with", "your"}
)


async def run(
    console: Console,
    api_address: str,
    query: str,
    *,
    limit: int,
    prefix: str | None,
    organization: str | None,
    as_json: bool,
) -> bool:
    """Print the passages; return whether there are any."""
    async with Api(api_address, organization=organization) as api:
        answer = await api.search(query, limit=limit, prefix=prefix)
    if as_json:
        console.print(answer.model_dump_json(indent=2), markup=False, soft_wrap=True)
    elif answer.hits:
        print_hits(console, answer.hits, query)
    else:
        console.print("Nothing found. `headrace stats` says how much is indexed.", style="minor")
    return bool(answer.hits)


def print_hits(console: Console, hits: Sequence[Hit], query: str) -> None:
    """Print passages with file, place and score, best first."""
    width = min(console.width, _LINE_CELLS)
    for rank, hit in enumerate(hits, start=1):
        console.print(_heading(rank, hit, width))
        for line in _passage(hit.text, query).wrap(console, max(20, width - _INDENT)):
            line.rstrip()
            console.print(Text(" " * _INDENT).append_text(line))
        if rank < len(hits):
            console.print()


def _heading(rank: int, hit: Hit, width: int) -> Text:
    """Return rank, file and place, with the score at the end of the line if there is room."""
    score = f"score {hit.score:.2f}"
    line = Text.assemble((f"{rank:>2} ", "minor"), (hit.name, "heading"), "  ", (hit.label, "address"))
    room = width - len(score) - 2
    line.truncate(max(20, room), overflow="ellipsis", pad=True)
    return line.append("  ").append(score, style="minor")


def _passage(text: str, query: str) -> Text:
    """Return the part of a passage where most of the words stand that were asked for, with these words marked."""
    flat = _readable(text)
    words = {word.lower() for word in re.findall(r"\w{4,}", query)} - _EVERYWHERE
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\w*", re.IGNORECASE) if words else None
    found = [] if pattern is None else [(match.start(), match[0].lower()) for match in pattern.finditer(flat)]
    start = _best_start(found, len(flat))
    end = start + _PASSAGE_CHARACTERS
    if start:
        start = flat.find(" ", start) + 1
    if end < len(flat):
        end = max(flat.rfind(" ", start, end), start + 1)
    shown = Text(("… " if start else "") + flat[start:end] + (" …" if end < len(flat) else ""))
    if pattern is not None:
        shown.highlight_regex(pattern, "bold")
    return shown


def _best_start(found: Sequence[tuple[int, str]], length: int) -> int:
    """Return where to begin so that the most different words are seen; the earliest such place."""
    if length <= _PASSAGE_CHARACTERS:
        return 0
    best, most = 0, 0
    for position, _ in found:
        begin = max(0, min(position - _LEAD_CHARACTERS, length - _PASSAGE_CHARACTERS))
        seen = len({word for at, word in found if begin <= at < begin + _PASSAGE_CHARACTERS - _LEAD_CHARACTERS})
        if seen > most:
            best, most = begin, seen
    return best


def _readable(text: str) -> str:
    """Return a passage as one line, without the rules and escapes of its notation."""
    without_rules = re.sub(r"\|(?:\s*:?-{3,}:?\s*\|)+", "|", text)
    unescaped = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", without_rules)
    return re.sub(r"(?:\|\s*){2,}", "| ", " ".join(unescaped.split()))
