"""The endpoint under the suite that every Pub/Sub has to pass."""

from collections.abc import AsyncIterator

import pytest

from shared.local.pubsub.endpoint import serve
from tests.contracts.pubsub import PubSubContract
from tests.contracts.pubsub_desk import Target
from tests.contracts.pubsub_history import HistoryContract
from tests.contracts.pubsub_push import PushContract
from tests.plugins.clock import ManualClock


class TestEndpoint(PubSubContract, HistoryContract, PushContract):
    """Our endpoint has every feature."""

    @pytest.fixture
    async def target(self) -> AsyncIterator[Target]:
        """Serve on a free port, on a clock that the suite moves."""
        clock = ManualClock()

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        async with serve(clock=clock) as endpoint:
            yield Target(endpoint.address, advance=advance)
