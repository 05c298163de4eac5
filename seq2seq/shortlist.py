"""Which target pieces a source piece makes likely, so that not all have to be scored."""

from collections.abc import Sequence
from pathlib import Path


class Shortlist:
    """For each source piece its likely target pieces; and those that are always likely."""

    @staticmethod
    def load(folder: Path) -> "Shortlist":
        """Read the shortlist of a model folder.

        Raises:
            ModelError: it has none, or it is damaged.
        """
        raise NotImplementedError

    def tokens(self, sources: Sequence[Sequence[int]]) -> list[int]:
        """Say which target pieces are scored for these sentences, in order; special ones first."""
        raise NotImplementedError
