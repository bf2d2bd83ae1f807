"""Who may be in the room with whom, move by move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from services.process.quarantine import Quarantine

ROUNDS = 20
"""Turns of the event loop, after which whoever may go in is in: nothing here waits for anything but the room."""


class Visitor:
    """A job that goes into the room as soon as it may, and leaves when it is told to."""

    def __init__(self, room: AbstractAsyncContextManager[None]) -> None:
        self.is_in = False
        self._leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit(room))

    async def _visit(self, room: AbstractAsyncContextManager[None]) -> None:
        async with room:
            self.is_in = True
            try:
                await self._leave.wait()
            finally:
                self.is_in = False

    async def leave(self) -> None:
        """Go, and let those outside notice."""
        self._leave.set()
        await self.task
        await settle()

    async def die(self) -> None:
        """End in the middle, inside or before the door."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await settle()


async def settle() -> None:
    """Let everybody who can move do so."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class Rooms:
    """A quarantine, and everybody who ever came."""

    def __init__(self) -> None:
        self.quarantine = Quarantine()
        self.visitors: list[Visitor] = []

    async def comes(self, *, alone: bool) -> Visitor:
        """Let another one come, who goes in if it may."""
        room = self.quarantine.alone() if alone else self.quarantine.together()
        self.visitors.append(Visitor(room))
        await settle()
        return self.visitors[-1]


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    """Give an empty room; whoever is left at the end is sent away."""
    rooms = Rooms()
    yield rooms
    for visitor in rooms.visitors:
        await visitor.die()


async def test_many_work_together(rooms: Rooms) -> None:
    """Jobs that nobody suspects do not wait for each other."""
    assert all([(await rooms.comes(alone=False)).is_in for _ in range(5)])


async def test_who_is_to_be_alone_waits_for_the_last_to_leave(rooms: Rooms) -> None:
    """A suspect goes in when the room is empty, and not before."""
    first, second = await rooms.comes(alone=False), await rooms.comes(alone=False)
    suspect = await rooms.comes(alone=True)
    assert not suspect.is_in
    await first.leave()
    assert not suspect.is_in
    await second.leave()
    assert suspect.is_in


async def test_nobody_comes_in_beside_who_is_alone(rooms: Rooms) -> None:
    """Neither another suspect nor anybody else goes in before the suspect has left; then one after the other."""
    suspect = await rooms.comes(alone=True)
    assert suspect.is_in
    other, another = await rooms.comes(alone=False), await rooms.comes(alone=True)
    assert (other.is_in, another.is_in) == (False, False)
    await suspect.leave()
    assert (other.is_in, another.is_in) == (False, True)
    await another.leave()
    assert other.is_in


async def test_who_waits_to_be_alone_is_not_overtaken(rooms: Rooms) -> None:
    """While a suspect waits, nobody new goes in beside those who are in: else it might wait for ever."""
    first = await rooms.comes(alone=False)
    suspect = await rooms.comes(alone=True)
    late = await rooms.comes(alone=False)
    assert (first.is_in, suspect.is_in, late.is_in) == (True, False, False)
    await first.leave()
    assert (suspect.is_in, late.is_in) == (True, False)
    await suspect.leave()
    assert late.is_in


async def test_who_gives_up_waiting_to_be_alone_holds_nobody_up(rooms: Rooms) -> None:
    """A shutdown while a suspect waits: the others go in, and the next suspect can still be alone."""
    first = await rooms.comes(alone=False)
    suspect = await rooms.comes(alone=True)
    late = await rooms.comes(alone=False)
    await suspect.die()
    assert late.is_in
    await first.leave()
    await late.leave()
    assert (await rooms.comes(alone=True)).is_in


@pytest.mark.parametrize("alone", [False, True])
async def test_whose_work_breaks_off_leaves_the_room(rooms: Rooms, alone: bool) -> None:
    """Work that ends in the middle makes room like work that ends well."""
    await (await rooms.comes(alone=alone)).die()
    suspect = await rooms.comes(alone=True)
    assert suspect.is_in
    await suspect.leave()
    assert (await rooms.comes(alone=False)).is_in
