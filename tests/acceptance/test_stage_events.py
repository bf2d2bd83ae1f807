"""Stage events: what was committed is told, in order, to whoever watches."""

from __future__ import annotations

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from shared.events.catalogue import StageChanged
from shared.events.envelope import read
from tests.plugins.stack import Site, eventually

STAGES = ["pending", "downloading", "processing", "embedding", "storing", "completed"]


async def test_stage_events_of_a_job_arrive_in_order_and_after_their_commit(site: Site) -> None:
    """Each move arrives once or more, by rising seq from 1 without gaps; what it says is in the database already."""
    received: list[StageChanged] = []
    async with (
        site.service(build_ingest, IngestSettings),
        site.service(build_process, ProcessSettings),
        site.subscriber("stages-watch") as take,
    ):
        await site.upload("a.txt", b"The gate closes in 75 seconds.")

        async def look() -> bool:
            for message in await take():
                event = read(StageChanged, message.data, message.attributes)
                assert message.ordering_key == str(event.job_id)
                committed = await site.rows(
                    "select status, stage from job_events where job_id = $1 and seq = $2", event.job_id, event.seq
                )
                assert [tuple(row) for row in committed] == [(event.status, event.stage)]
                received.append(event)
            return bool(received) and received[-1].stage == "completed"

        await eventually(look)
    assert len({event.job_id for event in received}) == 1
    told = [event.seq for event in received]
    first_times = list(dict.fromkeys(told))
    assert first_times == list(range(1, len(STAGES) + 1))
    assert told == sorted(told)
    assert list(dict.fromkeys(event.stage.value for event in received)) == STAGES
