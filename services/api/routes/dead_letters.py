"""Dead letters as operators see them: list, causes, replay and discard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.callers import Caller
from services.api.letter_schemas import (
    PATH,
    BatchList,
    BatchListParams,
    BatchParams,
    BatchView,
    DiscardBody,
    Discarded,
    DiscardOneBody,
    GroupList,
    GroupNoteBody,
    GroupView,
    LetterDetail,
    LetterList,
    LetterListParams,
    LetterParams,
    LetterView,
    ReplayAnswer,
    ReplayBody,
    ReplayOneBody,
)
from services.api.route import Call, Route
from services.api.schemas import NoParams
from shared.errors import InvalidRequest, NotFound
from shared.ports.dead_letters import LetterDirectory, LetterFilter, ReplayRequest
from shared.worker.replay import Replays


class DeadLetterEndpoints:
    """Needs the role of an administrator throughout."""

    def __init__(self, letters: LetterDirectory, replays: Replays) -> None:
        self._letters, self._replays = letters, replays

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints; those with fixed names come before those with ids."""
        return (*self._reading(), *self._acting())

    def _reading(self) -> Sequence[Route[Any, Any]]:
        return (
            Route(
                method="GET",
                path=PATH,
                summary="Dead letters, newest first, filtered and in pages",
                params=LetterListParams,
                answer=LetterList,
                handler=self.list,
                admin=True,
            ),
            Route(
                method="GET",
                path=f"{PATH}/groups",
                summary="Causes (code and stage) of what is open, the most frequent first",
                params=NoParams,
                answer=GroupList,
                handler=self.groups,
                admin=True,
            ),
            Route(
                method="GET",
                path=f"{PATH}/replays",
                summary="The newest batches of replays",
                params=BatchListParams,
                answer=BatchList,
                handler=self.batches,
                admin=True,
            ),
            Route(
                method="GET",
                path=f"{PATH}/replays/{{id}}",
                summary="One batch of replays, and what became of its letters",
                params=BatchParams,
                answer=BatchView,
                handler=self.batch,
                admin=True,
                errors=(404,),
            ),
            Route(
                method="GET",
                path=f"{PATH}/{{id}}",
                summary="One dead letter with its payload",
                params=LetterParams,
                answer=LetterDetail,
                handler=self.show,
                admin=True,
                errors=(404,),
            ),
        )

    def _acting(self) -> Sequence[Route[Any, Any]]:
        return (
            Route(
                method="PUT",
                path=f"{PATH}/groups",
                summary="Write a note on a cause",
                params=NoParams,
                body=GroupNoteBody,
                answer=GroupList,
                handler=self.note,
                admin=True,
            ),
            Route(
                method="POST",
                path=f"{PATH}/replay",
                summary="Replay letters: dry run, limit, rate, canary; stopped when more than a tenth fails again",
                params=NoParams,
                body=ReplayBody,
                answer=ReplayAnswer,
                handler=self.replay,
                admin=True,
            ),
            Route(
                method="POST",
                path=f"{PATH}/discard",
                summary="Discard letters, with a reason",
                params=NoParams,
                body=DiscardBody,
                answer=Discarded,
                handler=self.discard,
                admin=True,
            ),
            Route(
                method="POST",
                path=f"{PATH}/replays/{{id}}/stop",
                summary="Stop a batch: letters that were not sent are open again; stopping twice is allowed",
                params=BatchParams,
                answer=BatchView,
                handler=self.stop,
                admin=True,
                errors=(404,),
            ),
            Route(
                method="POST",
                path=f"{PATH}/{{id}}/replay",
                summary="Replay one letter now",
                params=LetterParams,
                body=ReplayOneBody,
                answer=BatchView,
                handler=self.replay_one,
                admin=True,
                errors=(404, 409),
            ),
            Route(
                method="POST",
                path=f"{PATH}/{{id}}/discard",
                summary="Discard one letter, with a reason",
                params=LetterParams,
                body=DiscardOneBody,
                answer=LetterView,
                handler=self.discard_one,
                admin=True,
                errors=(404, 409),
            ),
        )

    async def list(self, call: Call[LetterListParams, None]) -> LetterList:
        """Answer with a page."""
        page = await self._letters.page(call.params.filters(), cursor=call.params.cursor, limit=call.params.limit)
        return LetterList(letters=[LetterView.of(letter) for letter in page.letters], next_cursor=page.next_cursor)

    async def groups(self, _call: Call[NoParams, None]) -> GroupList:
        """Answer with causes."""
        return GroupList(groups=[GroupView.of(group) for group in await self._letters.groups()])

    async def batches(self, call: Call[BatchListParams, None]) -> BatchList:
        """Answer with the newest batches."""
        return BatchList(
            batches=[BatchView.of(batch) for batch in await self._replays.batches(limit=call.params.limit)]
        )

    async def batch(self, call: Call[BatchParams, None]) -> BatchView:
        """Answer with one batch."""
        batch = await self._replays.batch(call.params.id)
        if batch is None:
            raise NotFound(f"There is no batch {call.params.id}.")
        return BatchView.of(batch)

    async def show(self, call: Call[LetterParams, None]) -> LetterDetail:
        """Answer with one letter."""
        letter = await self._letters.get(call.params.id)
        if letter is None:
            raise NotFound(f"There is no dead letter {call.params.id}.")
        return LetterDetail.whole(letter)

    async def note(self, call: Call[NoParams, GroupNoteBody]) -> GroupList:
        """Answer with the causes as they are now."""
        said = call.body
        await self._letters.note_group(code=said.code, stage=said.stage, note=said.note.strip())
        return GroupList(groups=[GroupView.of(group) for group in await self._letters.groups()])

    async def replay(self, call: Call[NoParams, ReplayBody]) -> ReplayAnswer:
        """Answer with what is (or would be) replayed."""
        asked = call.body
        request = ReplayRequest(
            filters=asked.filters(),
            by=_who(call.caller),
            max_letters=asked.limit,
            rate_per_second=asked.rate,
            canary=asked.canary,
            force=asked.force,
        )
        found = await self._replays.preview(request)
        if asked.dry_run or not found.replayable:
            return ReplayAnswer.of(found, None)
        return ReplayAnswer.of(found, await self._replays.request(request))

    async def discard(self, call: Call[NoParams, DiscardBody]) -> Discarded:
        """Answer with how many were discarded."""
        count = await self._letters.discard(
            call.body.filters(), reason=_reason(call.caller, call.body.reason), limit=call.body.limit
        )
        return Discarded(discarded=count)

    async def stop(self, call: Call[BatchParams, None]) -> BatchView:
        """Answer with the batch as it is now."""
        return BatchView.of(await self._replays.stop(call.params.id, by=_who(call.caller)))

    async def replay_one(self, call: Call[LetterParams, ReplayOneBody]) -> BatchView:
        """Answer with the batch of this one letter."""
        return BatchView.of(await self._replays.one(call.params.id, by=_who(call.caller), force=call.body.force))

    async def discard_one(self, call: Call[LetterParams, DiscardOneBody]) -> LetterView:
        """Answer with the letter as it is now."""
        reason = _reason(call.caller, call.body.reason)
        discarded = await self._letters.discard(LetterFilter(ids=[call.params.id]), reason=reason, limit=1)
        letter = await self._letters.get(call.params.id)
        if letter is None:
            raise NotFound(f"There is no dead letter {call.params.id}.")
        if not discarded:
            raise InvalidRequest(f"the letter has ended: {letter.state}.", code="LETTER_ENDED")
        return LetterView.of(letter)


def _who(caller: Caller) -> str:
    return caller.user_id or f"an administrator of {caller.organization_id}"


def _reason(caller: Caller, said: str) -> str:
    return f"{_who(caller)}: {said}"
