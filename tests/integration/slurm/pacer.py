"""Runs a command whose training steps take at least so many seconds, so that a test can follow it.

python -m tests.integration.slurm.pacer SECONDS COMMAND...
"""

import sys
import time
from typing import Any

from seq2seq import cli
from seq2seq.training.module import TranslationModule

seconds = float(sys.argv[1])
compute = TranslationModule.training_step


def paced(self: TranslationModule, step: Any, batch_idx: int) -> Any:
    if not self.rehearsing:
        time.sleep(seconds)
    return compute(self, step, batch_idx)


TranslationModule.training_step = paced
sys.argv = ["seq2seq", *sys.argv[2:]]
cli.main()
