"""Runs a command that gets only so much memory while it tries the longest batch.

python -m tests.integration.limiter MEBIBYTES COMMAND...
"""

import resource
import sys
from pathlib import Path

from seq2seq import cli
from seq2seq.training.capacity import Capacity

check = Capacity.check


def check_within_limit(self: Capacity, tokens: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(mebibytes) * 2**20
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        check(self, tokens)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


Capacity.check = check_within_limit
_, mebibytes, *words = sys.argv
sys.argv = ["seq2seq", *words]
cli.main()
