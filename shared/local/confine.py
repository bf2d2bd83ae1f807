"""Let a child write below given folders only, by Landlock, which asks for no rights and no set-up.

The Cloud Storage stand-in writes an object named `../../x` outside its folder. The kernel refuses that here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_ABI_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

# Access rights that change something: write a file (1), remove and make entries (4 to 12), move between folders (13),
# truncate (14, from version 3). Reading stays free.
_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 14))
_TRUNCATE = 1 << 14
_LEAST_VERSION = 2  # the first with moves between folders
_TRUNCATE_VERSION = 3


def landlock_version() -> int:
    """Return the kernel's Landlock version; 0 where there is none that is of use here."""
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        return 0
    version = int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _ABI_VERSION_FLAG))
    return version if version >= _LEAST_VERSION else 0


def writes_only_below(folders: Sequence[Path]) -> Callable[[], None] | None:
    """Return what a child calls before exec to lose the right to write elsewhere; None where that cannot be had.

    The folders exist. Opening and listing files stays possible everywhere.
    """
    version = landlock_version()
    if not version:
        return None
    library = ctypes.CDLL(None)
    access = _WRITES | (_TRUNCATE if version >= _TRUNCATE_VERSION else 0)
    ruleset = struct.pack("=Q", access)
    paths = [os.fsencode(folder) for folder in folders]

    def run() -> None:
        descriptor = library.syscall(_CREATE_RULESET, ruleset, len(ruleset), 0)
        for path in paths:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            library.syscall(_ADD_RULE, descriptor, _RULE_PATH_BENEATH, struct.pack("=Qi", access, folder), 0)
            os.close(folder)
        library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if descriptor < 0 or library.syscall(_RESTRICT_SELF, descriptor, 0) != 0:
            raise OSError("Landlock refused the rules")  # the child does not start without its confinement
        os.close(descriptor)

    return run
