"""The weights of a mix's parts, from the config to an epoch's steps."""

from collections import Counter
from pathlib import Path

from seq2seq.config import Config
from seq2seq.data.loader import Position
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import PreparedData
from seq2seq.parallel.place import Place
from seq2seq.training.parts import new_steps


def write_pairs(folder: Path, name: str, number: int) -> list[str]:
    paths = [folder / f"{name}.{side}" for side in ("en", "de")]
    for path in paths:
        path.write_text("".join(f"{name} {each} {path.suffix}\n" for each in range(number)))
    return [str(path) for path in paths]


def test_an_epoch_has_each_pair_as_often_as_its_part_weighs(tmp_path: Path) -> None:
    large, small = write_pairs(tmp_path, "large", 40), write_pairs(tmp_path, "small", 10)
    parts = {
        "large": {"corpus": {"kind": "text", "train": large, "validation": small}},
        "small": {"corpus": {"kind": "text", "train": small}, "weight": 3},
    }
    config = Config.model_validate(
        {
            "data": {
                "folder": tmp_path / "data",
                "corpus": {"kind": "mix", "parts": parts},
                "max_length": 50,
                "cleaning": {"overlap": "ignore"},
            },
            "vocabulary": {"size": 30},
            "training": {"tokens_per_step": 60},
        }
    )
    prepare(config)
    steps = new_steps(config, PreparedData.open(tmp_path / "data"), Place())
    epoch = (steps.examples(Position(0, step)) for step in range(steps.epoch_length(0)))
    times = Counter(int(example) for examples in epoch for example in examples)
    assert times == {example: 1 if example < 40 else 3 for example in range(50)}
