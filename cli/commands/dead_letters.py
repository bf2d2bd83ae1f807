"""Dead letters in a list, by cause, one of them with its payload, and what people may do to them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import look
from cli.client import Api
from services.api.letter_schemas import (
    PATH,
    BatchList,
    BatchView,
    Discarded,
    GroupList,
    LetterDetail,
    LetterList,
    LetterView,
    ReplayAnswer,
)
from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest, NotFound
from shared.ports.dead_letters import BatchState, LetterState

PAGE = 200
SHORT_ID = 8
_LOOKED_AT_MAX = 2000
_PAYLOAD_SHOWN_CHARACTERS = 2000
_AGO = re.compile(r"(\d{1,5})([mhd])")

_STYLES = {
    LetterState.OPEN: "failed",
    LetterState.REPLAYING: "processing",
    LetterState.RESOLVED: "completed",
    LetterState.DISCARDED: "cancelled",
}
_BATCH_STYLES = {BatchState.DONE: "completed", BatchState.STOPPED: "failed"}


class LetterApi(Api):
    """The API's questions about dead letters."""

    async def letters(self, *, cursor: str | None = None, limit: int = 50, **filters: str | None) -> LetterList:
        """Return a page."""
        params = {name: value for name, value in (filters | {"cursor": cursor}).items() if value is not None}
        return await self._ask("GET", PATH, LetterList, params=params | {"limit": str(limit)})

    async def letter(self, letter_id: UUID) -> LetterDetail:
        """Return one letter."""
        return await self._ask("GET", f"{PATH}/{letter_id}", LetterDetail)

    async def groups(self) -> GroupList:
        """Return causes."""
        return await self._ask("GET", f"{PATH}/groups", GroupList)

    async def note(self, *, code: str, stage: str, note: str) -> GroupList:
        """Write a note on a cause."""
        return await self._ask("PUT", f"{PATH}/groups", GroupList, json={"code": code, "stage": stage, "note": note})

    async def replay(self, body: Mapping[str, Any]) -> ReplayAnswer:
        """Replay letters."""
        return await self._ask("POST", f"{PATH}/replay", ReplayAnswer, json=dict(body))

    async def discard(self, body: Mapping[str, Any]) -> Discarded:
        """Discard letters."""
        return await self._ask("POST", f"{PATH}/discard", Discarded, json=dict(body))

    async def batches(self, *, limit: int) -> BatchList:
        """Return the newest batches."""
        return await self._ask("GET", f"{PATH}/replays", BatchList, params={"limit": str(limit)})

    async def stop(self, batch_id: UUID) -> BatchView:
        """Stop a batch."""
        return await self._ask("POST", f"{PATH}/replays/{batch_id}/stop", BatchView)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Which letters, as people say it."""

    code: str | None = None
    stage: str | None = None
    origin: str | None = None
    organization: str | None = None
    since: str | None = None
    ids: Sequence[str] = field(default_factory=tuple)
    all: bool = False

    def filters(self, now: datetime) -> dict[str, str]:
        """Return the filters as the API takes them."""
        said = {
            "code": self.code, "stage": self.stage, "origin": self.origin and str(self.origin),
            "organization_id": self.organization, "since": self.since and moment(self.since, now).isoformat(),
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    async def selection(self, api: LetterApi, now: datetime) -> dict[str, Any]:
        """Return the selection as the API takes it, with ids in full."""
        selection: dict[str, Any] = self.filters(now)
        if self.ids:
            selection["ids"] = [str(await _resolve(api, text)) for text in self.ids]
        if self.all:
            selection["all"] = True
        return selection


def moment(text: str, now: datetime) -> datetime:
    """Return what `30m`, `12h`, `7d` or a date means.

    Raises:
        InvalidRequest: it means nothing.
    """
    if found := _AGO.fullmatch(text):
        unit = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[found[2]]
        return now - int(found[1]) * unit
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no time: say 30m, 12h, 7d, or a date as 2026-11-22") from None
    return said if said.tzinfo else said.replace(tzinfo=UTC)


async def list_letters(
    console: Console,
    api_address: str,
    chosen: Chosen,
    *,
    state: str | None,
    limit: int,
    as_json: bool,
    clock: Clock | None = None,
) -> None:
    """Print letters, newest first, in as many requests as it takes."""
    now = (clock or SystemClock()).now()
    found: list[LetterView] = []
    cursor: str | None = None
    async with LetterApi(api_address) as api:
        while len(found) < limit:
            size = min(PAGE, limit - len(found))
            page = await api.letters(cursor=cursor, limit=size, state=state, **chosen.filters(now))
            found += page.letters
            cursor = page.next_cursor
            if cursor is None:
                break
    if as_json:
        for letter in found:
            console.print(letter.model_dump_json(), markup=False, soft_wrap=True)
        return
    if not found:
        console.print("No such dead letters.", style="minor")
        return
    table = look.table("state", "code", "of", "failed", "replays", "when", "id", right=("failed", "replays"))
    for letter in found:
        table.add_row(
            Text(letter.state.value, style=_STYLES[letter.state]),
            letter.code,
            look.shortened(_subject(letter), max(12, console.width - 86)),
            str(letter.failures),
            str(letter.replays),
            Text(look.ago(letter.last_seen_at, now), style="minor"),
            Text(str(letter.id)[-SHORT_ID:], style="minor"),
        )
    console.print(table)
    if cursor is not None:
        console.print(f"… and older ones; show more with --limit {limit * 5}", style="minor")


async def show(console: Console, api_address: str, text: str, *, as_json: bool, clock: Clock | None = None) -> None:
    """Print one letter."""
    async with LetterApi(api_address) as api:
        letter = await api.letter(await _resolve(api, text))
    if as_json:
        console.print(letter.model_dump_json(indent=2), markup=False, soft_wrap=True)
        return
    now = (clock or SystemClock()).now()
    rows: list[tuple[str, Text | str]] = [
        ("letter", str(letter.id)),
        ("state", Text(letter.state.value, style=_STYLES[letter.state])),
        ("why", Text(f"{letter.code}: {letter.message}", style="failed")),
        ("of", Text(_subject(letter), style="heading")),
        ("failed", f"{look.count(letter.failures, 'time')}, last {look.ago(letter.last_seen_at, now)}"),
        ("replayed", look.count(letter.replays, "time")),
    ]
    facts: dict[str, object] = {
        "stage": letter.stage, "job": letter.job_id, "organization": letter.organization_id,
        "deliveries": letter.deliveries, "published": letter.published_at, "ended": letter.resolution,
        "note": letter.note,
    }  # fmt: skip
    rows += [(name, Text(str(value))) for name, value in facts.items() if value is not None]
    rows += [("attribute", Text(f"{name}={value}")) for name, value in sorted(letter.attributes.items())]
    console.print(look.facts(rows))
    if letter.payload is not None:
        console.print()
        console.print(f"payload, {look.size(letter.size_bytes)}", style="minor")
        payload = base64.b64decode(letter.payload).decode(errors="backslashreplace")
        shown = "".join(character if character.isprintable() or character == "\n" else "·" for character in payload)
        console.print(Text(shown[:_PAYLOAD_SHOWN_CHARACTERS]), soft_wrap=True)


async def groups(
    console: Console,
    api_address: str,
    *,
    note: str | None,
    code: str | None,
    stage: str,
    as_json: bool,
    clock: Clock | None = None,
) -> None:
    """Print causes; with a note, write it first."""
    async with LetterApi(api_address) as api:
        if note is not None and code is not None:
            found = await api.note(code=code, stage=stage, note=note)
        else:
            found = await api.groups()
    if as_json:
        console.print(found.model_dump_json(indent=2), markup=False, soft_wrap=True)
        return
    if not found.groups:
        console.print("Nothing is open.", style="minor")
        return
    now = (clock or SystemClock()).now()
    table = look.table("code", "stage", "open", "first", "last", "newest", "note", right=("open",))
    for group in found.groups:
        table.add_row(
            Text(group.code, style="failed"),
            group.stage or "–",
            f"{group.count:,}",
            Text(look.ago(group.first_seen_at, now), style="minor"),
            Text(look.ago(group.last_seen_at, now), style="minor"),
            Text(str(group.newest_id)[-SHORT_ID:], style="minor"),
            group.note or "",
        )
    console.print(table)


async def replay(
    console: Console,
    api_address: str,
    chosen: Chosen,
    options: Mapping[str, Any],
    *,
    as_json: bool,
    clock: Clock | None = None,
) -> int:
    """Ask for a replay and say what becomes of it; return 1 when nothing can be replayed."""
    now = (clock or SystemClock()).now()
    async with LetterApi(api_address) as api:
        body = await chosen.selection(api, now) | {name: value for name, value in options.items() if value is not None}
        answer = await api.replay(body)
    if as_json:
        console.print(answer.model_dump_json(indent=2), markup=False, soft_wrap=True)
        return 0 if answer.replayable else 1
    if options.get("dry_run"):
        console.print(f"{look.count(answer.replayable, 'letter')} would be replayed.")
    elif answer.batch is None:
        console.print("Nothing to replay.")
    else:
        console.print(batch_table([answer.batch], now))
    left_out = [
        (answer.replaying, "being replayed already"),
        (answer.need_force, "replayed too often: add --force"),
        (answer.not_replayable, "of an unknown source: discard them"),
    ]
    for count, why in left_out:
        if count:
            console.print(f"{count:,} left out, {why}", style="minor")
    return 0 if answer.replayable else 1


async def discard(
    console: Console, api_address: str, chosen: Chosen, *, reason: str, clock: Clock | None = None
) -> None:
    """Discard letters and say how many."""
    total = 0
    async with LetterApi(api_address) as api:
        body = await chosen.selection(api, (clock or SystemClock()).now()) | {"reason": reason}
        while discarded := (await api.discard(body)).discarded:
            total += discarded
    console.print(f"{look.count(total, 'letter')} discarded.")


async def batches(
    console: Console, api_address: str, *, stop: str | None, limit: int, as_json: bool, clock: Clock | None = None
) -> None:
    """Print the newest batches; with `stop`, stop that one first."""
    async with LetterApi(api_address) as api:
        if stop is not None:
            newest = await api.batches(limit=100)
            await api.stop(_ending(stop, [batch.id for batch in newest.batches], "batch"))
        found = (await api.batches(limit=limit)).batches
    if as_json:
        for batch in found:
            console.print(batch.model_dump_json(), markup=False, soft_wrap=True)
    elif found:
        console.print(batch_table(found, (clock or SystemClock()).now()))
    else:
        console.print("Nothing was replayed yet.", style="minor")


def batch_table(found: Sequence[BatchView], now: datetime) -> Table:
    """Return batches below each other."""
    counts = ("staged", "sent", "resolved", "failed")
    table = look.table("batch", "letters", *counts, "asked", "by", "id", right=("letters", *counts))
    for batch in found:
        state = batch.state.value + (f": {batch.reason}" if batch.reason else "")
        table.add_row(
            Text(state, style=_BATCH_STYLES.get(batch.state, "processing")),
            f"{batch.total:,}",
            *(f"{getattr(batch, name):,}" for name in counts),
            Text(look.ago(batch.created_at, now), style="minor"),
            look.shortened(batch.requested_by, 28),
            Text(str(batch.id)[-SHORT_ID:], style="minor"),
        )
    return table


def _subject(letter: LetterView) -> str:
    if letter.file_path:
        return letter.file_path.removeprefix("gs://").partition("/")[2]
    return letter.attributes.get("objectId") or letter.subscription or letter.origin.value


async def _resolve(api: LetterApi, text: str) -> UUID:
    """Return the id of the letter that is meant: in full, or the end of one of the newest 2,000."""
    try:
        return UUID(text)
    except ValueError:
        pass
    ids: list[UUID] = []
    cursor: str | None = None
    for _ in range(_LOOKED_AT_MAX // PAGE):
        page = await api.letters(cursor=cursor, limit=PAGE)
        ids += [letter.id for letter in page.letters]
        cursor = page.next_cursor
        if cursor is None:
            break
    return _ending(text, ids, "dead letter")


def _ending(text: str, ids: Sequence[UUID], what: str) -> UUID:
    if len(text) < 4:
        raise InvalidRequest(f"give the whole id of a {what}, or at least its last 4 characters")
    matches = [one for one in ids if str(one).endswith(text.lower())]
    if not matches:
        raise NotFound(f"no recent {what}'s id ends with {text!r}")
    if len(matches) > 1:
        raise InvalidRequest(f"{len(matches)} ids end with {text!r}; give more of it")
    return matches[0]
