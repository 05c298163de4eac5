"""A real SLURM cluster for the tests in this folder.

They are skipped where none can be started; with SEQ2SEQ_SLURM_TESTS=required they fail instead.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.integration.slurm.cluster import Cluster
from tests.integration.slurm.machine import wait_until, what_is_missing

missing = cache(what_is_missing)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of this folder; one worker runs all of them, so that they share a cluster."""
    item.add_marker(pytest.mark.slurm)
    item.add_marker(pytest.mark.xdist_group("slurm"))


@contextmanager
def started(**options: Any) -> Generator[Cluster]:
    """Start a cluster, on which `python` and `seq2seq` are those of the tests."""
    reason = missing()
    if reason is not None and os.environ.get("SEQ2SEQ_SLURM_TESTS") == "required":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    # Not in pytest's folder: the path of a socket has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        with Cluster(folder, path=[Path(sys.executable).parent], **options) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    with started() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """Two nodes of four CPUs and two GPUs, without jobs; a test leaves them in service."""
    yield shared_cluster
    shared_cluster.run("scancel", "--user=root")
    wait_until(lambda: not shared_cluster.run("squeue", "--noheader"), 60, shared_cluster.account)


@pytest.fixture
def fresh_cluster() -> Iterator[Callable[..., Cluster]]:
    """Start a cluster with options of its own, or for a test that breaks it."""
    with ExitStack() as clusters:

        def start(**options: Any) -> Cluster:
            return clusters.enter_context(started(**options))

        yield start
