"""The garbage collector, which finds nothing to collect while a service is imported and put together.

What is made then stays for the life of the process, and each collection walks through all of it: about a seventh of
the time of an import. This module imports nothing else, so that it can be the first.
"""

import gc


def pause() -> None:
    """Collect nothing until `resume`; for the first line of an entry point."""
    gc.disable()


def resume() -> None:
    """Go on, and leave alone what was made meanwhile; nothing happens if it was not paused."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
