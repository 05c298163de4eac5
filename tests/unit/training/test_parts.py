"""What the config says of the data, in the steps of a process."""

from collections import Counter
from pathlib import Path

import torch

from seq2seq.config import Config
from seq2seq.data.batch import Step
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


def step_of(config: Config, epoch: int = 0) -> Step:
    return new_steps(config, PreparedData.open(config.data.folder), Place())[Position(epoch, 0)]


def test_sampling_cuts_the_same_text_into_other_pieces_each_epoch(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, "a sentence of some words", 40)
    settings = {
        "data": {
            "folder": tmp_path / "data",
            "corpus": {"kind": "text", "train": pairs, "validation": pairs},
            "cleaning": {"overlap": "ignore"},
        },
        "vocabulary": {"size": 32},
    }
    plain = Config.model_validate(settings)
    sampled = Config.model_validate(settings | {"training": {"sampling": {"kind": "unigram"}}})
    prepare(plain)
    vocabulary = PreparedData.open(plain.data.folder).vocabularies.source

    def texts(step: Step) -> dict[int, str]:
        (batch,) = step.batches
        rows = zip(batch.examples.tolist(), batch.source.T.tolist(), strict=True)
        return {example: vocabulary.decode([row])[0] for example, row in rows}

    first, again, other = step_of(sampled), step_of(sampled), step_of(sampled, epoch=1)
    assert texts(first) == texts(step_of(plain)) == texts(other)
    assert first.batches[0].source.shape > step_of(plain).batches[0].source.shape
    assert torch.equal(first.batches[0].source, again.batches[0].source)
    assert first.batches[0].source.shape != other.batches[0].source.shape or not torch.equal(
        first.batches[0].source, other.batches[0].source
    )
