"""What must be the same: in a checkpoint and the run that goes on from it, and in all processes."""

from typing import Any, NamedTuple

from pydantic import ValidationError

from seq2seq import __version__
from seq2seq.config import Config
from seq2seq.config_file import differences
from seq2seq.errors import CommonError, ModelError
from seq2seq.files import digest
from seq2seq.parallel.group import Group
from seq2seq.terminal import say
from seq2seq.training.state import RunState

# Settings that a run can't change on its way: its weights or its order would mean something else,
# or what the optimizer keeps of them. Where two kinds have other settings, the section is told.
_FIXED = (
    "seed",
    "model.",
    "base",
    "training.tokens_per_step",
    "training.optimizer.kind",
    "training.optimizer:",
)
_FREE = ("model.dropout.", "base.freeze:")


def check_checkpoint(saved: dict[str, Any], config: Config, fingerprint: str) -> None:
    """Refuse to go on where a checkpoint would mean something else; tell the other changes.

    Raises:
        ModelError: the data or a setting that can't change has changed.
    """
    folder = config.training.folder
    if saved["data"] != fingerprint:
        raise ModelError(
            f"the run in {folder} was trained on other data than {config.data.folder} now holds:"
            " choose another training.folder, or the old data.folder"
        )
    try:
        before = Config.model_validate(saved["config"])
    except ValidationError as error:
        raise ModelError(
            f"the run in {folder} was begun by version {saved['version']}, whose settings this"
            f" version ({__version__}) doesn't know: choose another training.folder"
        ) from error
    changes = differences(before, config)
    fixed = [
        change for change in changes if change.startswith(_FIXED) and not change.startswith(_FREE)
    ]
    if fixed:
        raise ModelError(
            f"the run in {folder} can't go on with other settings ({'; '.join(fixed)}): choose"
            " another training.folder"
        )
    for change in changes:
        say(f"changed since the checkpoint: {change}")


def check_processes(group: Group, config: Config, state: RunState) -> None:
    """Refuse to train where a process has other files, settings or another checkpoint.

    Args:
        group: the processes; all must call it.
        config: what this process was given.
        state: that this process goes on from.

    Raises:
        CommonError: a process differs from the first one, and in what.
    """
    if group.place.world_size == 1:
        return
    facts = group.gather(Facts.of(config, state))
    for rank, other in enumerate(facts):
        if unlike := difference(facts[0], other):
            raise CommonError(f"rank {rank} and rank 0 can't train together: {unlike}")


class Facts(NamedTuple):
    """What must be the same in all processes of a run, as plain types."""

    files: dict[str, str]
    """Digests of the data folder's files."""
    settings: dict[str, Any]
    start: tuple[int, Any]
    """Step and base that the process goes on from."""

    @staticmethod
    def of(config: Config, state: RunState) -> "Facts":
        """Collect them in a process; a data folder that isn't there has no files."""
        folder = config.data.folder
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        files = {path.name: digest(path) for path in paths}
        return Facts(files, config.model_dump(mode="json"), (state.step, state.base))


def difference(facts: Facts, others: Facts) -> str:
    """Say in what a process differs from the first one, and after a semicolon what to do."""
    (first_files, first_config, first_start), (files, config, start) = facts, others
    unlike = [name for name in first_files | files if first_files.get(name) != files.get(name)]
    if unlike:
        folders = {entry["data"]["folder"] for entry in (first_config, config)}
        return (
            f"{', '.join(unlike)} in the data folder ({' and '.join(sorted(folders))}) is not the"
            " same file for both; let all read one folder, or copies of it"
        )
    if start[0] != first_start[0]:
        return (
            f"one goes on from step {start[0]:,}, the other from step {first_start[0]:,};"
            " training.folder must be on a disk that all nodes share"
        )
    if start != first_start:
        return "the base model is not the same for both; let all read one folder, or copies of it"
    before, after = (Config.model_validate(entry) for entry in (first_config, config))
    changes = [change for change in differences(before, after) if "data.folder" not in change]
    if not changes:
        return ""
    return f"their settings differ ({', '.join(changes)}); give all the same"
