"""`python -m services.recover [--once]`: see `services.recover.main`."""

from __future__ import annotations

import sys

from shared.collector import pause

if __name__ == "__main__":
    pause()

    from services.recover.main import main

    sys.exit(main())
