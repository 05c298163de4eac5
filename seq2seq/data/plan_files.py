"""Plans of large corpora in files, made once per node and mapped by all of its processes."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from seq2seq.claims import LEASE, Claims
from seq2seq.data.plan import Plan
from seq2seq.files import clear_leftovers, whole_folder
from seq2seq.terminal import say

_LEAST = 10**6
_UNUSED = 30 * 24 * 3600  # seconds after which a plan that nobody has opened goes


class PlanFiles:
    """The plans of a data folder on this node.

    Nodes that share a disk have a folder each, so that a file never goes under the eyes of another
    node: only on its own can a file that is mapped be removed without harm.
    """

    def __init__(self, folder: Path, node: str, *, least: int = _LEAST, lease: float = LEASE):
        """Say where they are.

        Args:
            folder: of all nodes' plans; where it can't be written, the system's temporary folder
                is taken.
            node: name of this machine.
            least: fewest examples whose plan is worth files; others are made in a moment.
            lease: seconds without a sign of life after which one who makes a plan counts as gone.
        """
        self._folders, self._node, self._lease = folder, node, lease
        self.least = least

    def give(self, about: str, epoch: int, make: Callable[[Path], object]) -> Plan:
        """Map the plan of an epoch; it is made if it isn't there, by one process of the node.

        Args:
            about: all that decides on the plans, but for the epoch.
            epoch: counted from 0.
            make: writes the plan's files into a folder.

        Raises:
            UserError: they can't be written.
        """
        key = hashlib.sha256(about.encode()).hexdigest()[:16]
        folder = _writable(self._folders) / self._node
        place = folder / f"{key}-{epoch}"
        while True:
            with suppress(FileNotFoundError):
                plan = Plan.load(place)
                os.utime(place)
                return plan
            claims = Claims(folder, lease=self._lease)
            with claims.take_over(place.name) as is_ours:
                if is_ours and not place.exists():
                    _tidy(folder, key, place.name)
                    with whole_folder(place) as partial:
                        make(partial)


def _writable(folder: Path) -> Path:
    """Give a folder, or one in the system's temporary folder if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        other = Path(tempfile.gettempdir()) / f"seq2seq-{os.getuid()}" / folder.name
        say(f"{folder} can't be written: batch plans are kept in {other}")
        return other


def _tidy(folder: Path, key: str, name: str) -> None:
    """Remove what isn't needed any more; who has it open keeps it.

    The plan of epoch 0 stays, since its length is what rates are scheduled by.
    """
    clear_leftovers(folder, name)
    for place in folder.glob("*-*"):
        with suppress(OSError):  # another process was faster
            is_old = place.name.startswith(key) and place.name != f"{key}-0"
            if place.is_dir() and (is_old or time.time() - place.stat().st_mtime > _UNUSED):
                shutil.rmtree(place)
