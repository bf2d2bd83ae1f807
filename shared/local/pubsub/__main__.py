"""`python -m shared.local.pubsub`: the endpoint as a process, for the laptop's stack and for other languages."""

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationError

from shared.errors import ConfigurationError, HeadraceError
from shared.local.pubsub.endpoint import serve
from shared.local.pubsub.topology import Topology

_PR_SET_PDEATHSIG = 1


def refuse_if_cloud(k_service: str | None) -> None:
    """Refuse to run where Cloud Run says that it is Cloud Run (K_SERVICE is set there).

    Raises:
        ConfigurationError: this is the cloud; the endpoint keeps everything in memory and checks no caller.
    """
    if k_service:
        raise ConfigurationError("The local Pub/Sub endpoint does not run in the cloud; use Pub/Sub itself.")


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.local.pubsub", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--topology", type=Path, help="JSON file of topics and subscriptions to begin with")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent process does (Linux)")
    options = parser.parse_args(arguments)
    try:
        # The only read of the environment outside the settings: the guard has to hold without any of them.
        refuse_if_cloud(os.environ.get("K_SERVICE"))  # noqa: TID251
        if options.die_with_parent:
            _die_with_parent()
        topology = Topology.model_validate_json(options.topology.read_bytes()) if options.topology else None
        asyncio.run(_run(options.host, options.port, topology))
    except (HeadraceError, ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _run(host: str, port: int, topology: Topology | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(host, port, topology=topology) as endpoint:
        sys.stdout.write(f"ready {endpoint.address}\n")
        sys.stdout.flush()
        await stop.wait()


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, and end now if it has died already."""
    parent = os.getppid()
    if sys.platform != "linux":
        raise ConfigurationError("--die-with-parent needs Linux.")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
