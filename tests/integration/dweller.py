"""Runs a command that dwells at a place in the program, so that a test can find it there.

    python -m tests.integration.dweller FILE MODULE:NAME SECONDS COMMAND...

When MODULE:NAME is called for the first time, FILE.RANK is made, and the process sleeps until there
is a FILE.go, at most so many seconds.
"""

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from seq2seq import cli

mark, place, seconds = sys.argv[1:4]
module, _, name = place.partition(":")
owner: Any = importlib.import_module(module)
*outer, last = name.split(".")
for part in outer:
    owner = getattr(owner, part)
work = getattr(owner, last)
been = Path(f"{mark}.{os.environ.get('RANK', '0')}")


def dwell(*arguments: Any, **named: Any) -> Any:
    if not been.exists():
        been.touch()
        deadline = time.monotonic() + float(seconds)
        while not Path(f"{mark}.go").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    return work(*arguments, **named)


setattr(owner, last, dwell)
sys.argv = ["seq2seq", *sys.argv[4:]]
cli.main()
