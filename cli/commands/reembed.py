"""Embedding spaces over the API: fill, look, compare, switch, drop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import LONG, Api
from services.api.space_schemas import CheckAnswer, FillAnswer, SpaceList, SpaceView
from shared.errors import NotFound
from shared.model.space import SpaceState

PATH = "/api/v1/admin/spaces"
POLL_SECONDS = 1.0
_STYLES = {SpaceState.ACTIVE: "completed", SpaceState.FILLING: "processing", SpaceState.RETIRED: "minor"}


class SpacesApi(Api):
    """The API's routes about spaces."""

    async def spaces(self) -> SpaceList:
        """Return all spaces."""
        return await self._ask("GET", PATH, SpaceList)

    async def named(self, name: str) -> SpaceView:
        """Return the one space that a key, its beginning or a number means."""
        known = (await self.spaces()).spaces
        exact = [space for space in known if name in {space.space, str(space.id)}]
        found = exact or [space for space in known if space.space.startswith(name)]
        if len(found) != 1:
            raise NotFound(
                f"{'several spaces begin' if found else 'no space begins'} with {name!r}; see: headrace spaces list",
                code="UNKNOWN_SPACE",
            )
        return found[0]

    async def fill(self, body: Mapping[str, object]) -> FillAnswer:
        """Fill a space."""
        return await self._ask("POST", PATH, FillAnswer, json=dict(body), timeout=LONG)

    async def check(self, space: SpaceView, body: Mapping[str, object]) -> CheckAnswer:
        """Compare a space with the searched one."""
        return await self._ask("POST", f"{PATH}/{space.id}/check", CheckAnswer, json=dict(body), timeout=LONG)

    async def switch(self, space: SpaceView, body: Mapping[str, object]) -> SpaceList:
        """Search this space from now on."""
        return await self._ask("POST", f"{PATH}/{space.id}/switch", SpaceList, json=dict(body), timeout=LONG)

    async def drop(self, space: SpaceView) -> SpaceList:
        """Remove a space."""
        return await self._ask("DELETE", f"{PATH}/{space.id}", SpaceList, timeout=LONG)


async def fill(
    console: Console, address: str, *, to: str | None, model: str | None, dimensions: int | None, wait: bool
) -> int:
    """Start the jobs that fill a space, and follow them; 1 when one of them did not complete."""
    asked: dict[str, Any] = {"space": to, "model": model, "dimensions": dimensions}
    async with SpacesApi(address) as api:
        if to is not None and to.count("/") < 4:
            asked["space"] = (await api.named(to)).space
        answer = await api.fill({name: value for name, value in asked.items() if value is not None})
        jobs = look.count(len(answer.jobs), "job")
        console.print(Text.assemble(("✓ ", "good"), f"{answer.space}: {jobs}, {answer.started} of them new"))
        view = await _followed(console, api, answer.space) if wait else None
    if view is None:
        return 0
    good = set(view.jobs) <= {"completed"}
    sign, style = ("✓ ", "good") if good else ("✗ ", "bad")
    console.print(Text.assemble((sign, style), f"{view.texts_done:,} of {view.texts_total:,} texts have a vector"))
    after = f"headrace spaces check {view.id}, then headrace spaces switch {view.id}"
    console.print(after if good else "headrace jobs list --type embedding_generation says what went wrong.")
    return 0 if good else 1


async def _followed(console: Console, api: SpacesApi, key: str) -> SpaceView:
    with console.status("filling…") as status:
        while True:
            view = await api.named(key)
            if not view.jobs.keys() & {"pending", "processing"}:
                return view
            status.update(f"filling… {view.texts_done:,} of {view.texts_total:,} texts")
            await asyncio.sleep(POLL_SECONDS)


async def show(console: Console, address: str, *, as_json: bool) -> None:
    """Print the spaces."""
    async with SpacesApi(address) as api:
        found = await api.spaces()
    if as_json:
        console.print(json.dumps(found.model_dump(mode="json"), indent=2), markup=False, soft_wrap=True)
    else:
        _print(console, found)


async def check(
    console: Console, address: str, name: str, asked: Mapping[str, object], *, min_overlap: float | None
) -> int:
    """Print how much two spaces agree; 1 when that is less than asked for."""
    async with SpacesApi(address) as api:
        found = await api.check(await api.named(name), asked)
    if found.mean is None or found.worst is None:
        console.print("nothing can be compared: no passage has a vector in both spaces.")
        return 1 if min_overlap is not None else 0
    good = min_overlap is None or found.mean >= min_overlap
    console.print(
        Text.assemble(
            ("✓ " if good else "✗ ", "good" if good else "bad"),
            f"of the {found.nearest} passages nearest to each of {found.compared:,} passages, {found.mean:.0%} are the "
            f"same in both spaces ({found.worst:.0%} in the worst case)",
        ),
        soft_wrap=True,
    )
    return 0 if good else 1


async def switch(console: Console, address: str, name: str, asked: Mapping[str, object]) -> None:
    """Switch, and print what is searched now."""
    async with SpacesApi(address) as api:
        _print(console, await api.switch(await api.named(name), asked))


async def drop(console: Console, address: str, name: str) -> None:
    """Drop, and print what is left."""
    async with SpacesApi(address) as api:
        _print(console, await api.drop(await api.named(name)))


def _print(console: Console, found: SpaceList) -> None:
    table = look.table("no.", "space", "state", "vectors", "filled", right=("no.", "vectors", "filled"))
    for space in found.spaces:
        filled = f"{space.texts_done:,} of {space.texts_total:,}" if space.jobs else "–"
        state = Text(space.state.value, style=_STYLES[space.state])
        table.add_row(str(space.id), space.space, state, f"~{space.vectors:,}", filled)
    console.print(table)
