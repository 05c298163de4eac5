"""Validates a model on several data folders, as one process of several; prints what each knows.

python -m tests.integration.scorer MODEL DATA...
"""

import json
import sys
from pathlib import Path

import torch

from seq2seq.data.prepared import PreparedData
from seq2seq.model_folder import load_model
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.place import find_place
from seq2seq.training.stopping import StopRequest
from seq2seq.training.validation import Validation, Validator


def validate(model: Path, folders: list[Path], group: Group) -> list[Validation]:
    """Validate on each folder, with all samples shown."""
    loaded = load_model(model)
    found: list[Validation] = []
    for folder in folders:
        validator = Validator(PreparedData.open(folder), loaded.config, group, 600)
        result = validator.validate(loaded.network, StopRequest())
        assert result is not None
        found.append(result)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, *folders = map(Path, sys.argv[1:])
    place = find_place(None)
    with meet(place) as meeting, meeting.group(torch.device("cpu")) as group:
        found = validate(model, folders, group)
    print(json.dumps(found))
