"""Runs a command as one process of several, and records what training computes.

    python -m tests.integration.recorder FILE COMMAND...

FILE.RANK gets, for each optimizer step, the examples of each micro-batch that counted, and the
gradients before they are clipped. After step SLEEP_AT_STEP it sleeps; at step STOP_AT_STEP it gets
a signal that asks it to stop.
"""

import os
import signal
import sys
import time
from typing import Any

import torch

from seq2seq import cli
from seq2seq.training.module import TranslationModule

path = f"{sys.argv[1]}.{os.environ.get('RANK') or os.environ.get('SLURM_PROCID', '0')}"
records: list[dict[str, Any]] = []
compute = TranslationModule.training_step
clip = torch.nn.utils.clip_grad_norm_


def record_step(self: TranslationModule, step: Any, batch_idx: int) -> Any:
    if self.rehearsing:
        return compute(self, step, batch_idx)
    examples = [batch.examples.tolist() if batch.weight else [] for batch in step.batches]
    records.append({"epoch": step.epoch, "examples": examples, "tokens": step.target_tokens})
    if self.state.step == int(os.environ.get("STOP_AT_STEP", "-1")):
        os.kill(os.getpid(), signal.SIGTERM)
    if self.state.step == int(os.environ.get("SLEEP_AT_STEP", "-1")):
        time.sleep(120)
    outputs = compute(self, step, batch_idx)
    torch.save(records, path)
    return outputs


def record_gradients(parameters: Any, *arguments: Any) -> Any:
    parameters = list(parameters)
    records[-1]["gradients"] = [parameter.grad.clone() for parameter in parameters]
    return clip(parameters, *arguments)


TranslationModule.training_step = record_step
torch.nn.utils.clip_grad_norm_ = record_gradients
sys.argv = ["seq2seq", *sys.argv[2:]]
cli.main()
