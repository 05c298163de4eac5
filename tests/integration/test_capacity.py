"""Real processes that have too little memory for the longest batch: told before the first step."""

import re
from pathlib import Path

import pytest

from tests.integration.conftest import make_config, prepared
from tests.integration.processes import Finished, Process, ranks

LIMITER = "tests.integration.limiter"
PLENTY, LITTLE = (
    8000,
    400,
)  # MiB, of which a thread may set 128 aside; a batch of all pairs takes 700


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config as a file, with the data prepared: an epoch is one step, computed at once."""
    return prepared(
        make_config(
            tmp_path_factory.mktemp("large"),
            pairs=4000,
            data={"max_length": 40},
            model={"embedding_size": 16, "encoder_size": 16, "decoder_size": 16},
            training={"steps": 1, "tokens_per_step": 10**6, "tokens_per_device": 300000},
        )
    )


def refused(end: Finished, who: str) -> int:
    """Check that the memory was found too small; returns what is said to fit."""
    assert end.status == 2, end
    assert "Traceback" not in end.messages
    told = re.search(
        rf"the memory {who} is too small for the longest batch, which has [\d,]+ padded positions:"
        r" lower training.tokens_per_device \(now 300000\) to (\d+), which fits\n",
        end.messages,
    )
    assert told, end.messages
    return int(told[1])


def test_a_batch_that_does_not_fit_is_told_with_what_fits_and_nothing_is_left(
    config: Path, tmp_path: Path
) -> None:
    command = (LITTLE, "train", config, f"training.folder={tmp_path / 'run'}")
    fitting = refused(Process(*command, module=LIMITER).finish(), "here")
    assert not (tmp_path / "run" / "config.yaml").exists(), "nothing has begun"
    end = Process(*command, f"training.tokens_per_device={fitting}", module=LIMITER).finish()
    assert end.status == 0, end


def test_a_batch_that_does_not_fit_one_of_two_processes_ends_both(
    config: Path, tmp_path: Path
) -> None:
    processes = [
        Process(
            *(limit, "train", config, f"training.folder={tmp_path / 'run'}"),
            module=LIMITER,
            place=place,
        )
        for limit, place in zip((PLENTY, LITTLE), ranks(2), strict=True)
    ]
    first, second = (process.finish() for process in processes)
    refused(first, "of rank 1")
    assert (second.status, second.messages) == (2, "")
