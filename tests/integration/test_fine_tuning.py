"""Runs that start from a trained model: what they take over, what they leave as it is."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from torch import Tensor

from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.errors import CommonError
from seq2seq.model_folder import load_model
from seq2seq.training.checkpoint import checkpoint_path, write_checkpoint
from seq2seq.vocabulary import Vocabularies
from tests.integration.conftest import Command, make_config, make_pairs
from tests.integration.processes import Process
from tests.integration.test_training import (
    assert_same_end,
    content,
    log,
    run,
    run_until,
    update,
)

LETTERS = "Ω漢Жµ"
DECAY = {"learning_rate": 1e-2, "weight_decay": 0.5, "schedule": {"kind": "plateau", "warmup": 1}}


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def with_base(config: Config, folder: Path, training: dict[str, Any], **base: Any) -> Config:
    """The settings of a run that starts from the model of the config's own run."""
    values = config.model_dump()
    values["base"] = {"model": config.training.folder / "model", **base}
    values["training"] |= {"folder": folder, **training}
    return Config.model_validate(values)


def start_of(config: Config) -> dict[str, Tensor]:
    network = load_model(config.training.folder / "model").network
    return {name: p.detach() for name, p in network.named_parameters()}


def end_of(config: Config) -> dict[str, Tensor]:
    return content(config, config.training.steps)["weights"]


@pytest.fixture(scope="module", params=["linear", "inverse_sqrt"])
def half_done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of 16 steps that was stopped after its validation at step 8, and one that wasn't."""
    config = make_config(tmp_path_factory.mktemp(request.param))
    optimizer = {"learning_rate": 1e-3, "schedule": {"kind": request.param, "warmup": 5}}
    ema = 0.5 if request.param == "inverse_sqrt" else None
    training: dict[str, Any] = {"steps": 16, "optimizer": optimizer, "ema": ema}
    half = update(config, training=training)
    whole = update(half, training={"folder": config.training.folder.with_name("whole")})
    run(whole)
    with pytest.MonkeyPatch.context() as patch:
        run_until(half, 8, patch)
        run_until(half, 9, patch)  # 8 was stopped within the validation, which is made up for
    return half


def whole_of(half: Config) -> Config:
    return update(half, training={"folder": half.training.folder.with_name("whole")})


EVERYTHING = ("optimizer", "schedule", "position")


@pytest.mark.parametrize(
    "keep", [EVERYTHING, *(EVERYTHING[:n] + EVERYTHING[n + 1 :] for n in range(3))]
)
def test_a_run_that_keeps_everything_ends_as_the_one_that_went_on(
    half_done: Config, tmp_path: Path, keep: tuple[str, ...]
) -> None:
    whole = whole_of(half_done)
    step = load_model(half_done.training.folder / "model").facts["step"]
    tuned = with_base(half_done, tmp_path / "tuned", {"steps": 16 - step}, keep=keep)
    state = run(tuned)
    expected, found = content(whole, 16), content(tuned, 16 - step)
    same = [torch.equal(found["weights"][name], p) for name, p in expected["weights"].items()]
    if keep != EVERYTHING:
        assert not any(same)
        return
    assert all(same)
    torch.testing.assert_close(found["average"], expected["average"], rtol=0.0, atol=0.0)
    for number, moments in expected["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, found["optimizer"]["state"][number][name])
    assert state.schedule_step == step
    assert state.position == (expected["state"]["epoch"], expected["state"]["batch"])
    rates = [entry["learning_rate"] for entry in log(whole, "train")]
    assert [entry["learning_rate"] for entry in log(tuned, "train")] == rates[step:]
    assert [entry["loss"] for entry in log(tuned, "train")] == [
        entry["loss"] for entry in log(whole, "train")[step:]
    ]


def test_a_schedule_that_is_kept_twice_counts_both_runs(half_done: Config, tmp_path: Path) -> None:
    first = with_base(half_done, tmp_path / "first", {"steps": 4}, keep=("schedule",))
    step = run(first).schedule_step
    second = with_base(first, tmp_path / "second", {"steps": 1}, keep=("schedule",))
    assert run(second).schedule_step == step + 4


def test_cuts_of_the_plateau_are_kept_with_the_schedule(config: Config, tmp_path: Path) -> None:
    schedule = {"kind": "plateau", "warmup": 4, "factor": 0.5}
    optimizer = {"learning_rate": 1e-3, "schedule": schedule}
    base = update(config, training={"steps": 4, "optimizer": optimizer})
    run(base)
    saved = content(base, 4)
    saved["state"]["cuts"] = 2
    write_checkpoint(checkpoint_path(base.training.folder / "checkpoints", 4), saved)
    rates: list[list[float]] = []
    for keep in ((), ("schedule",)):
        tuned = with_base(base, tmp_path / f"keeps {len(keep)}", {"steps": 2}, keep=keep)
        run(tuned)
        rates.append([entry["learning_rate"] for entry in log(tuned, "train")])
    assert rates[0] == pytest.approx([1e-3 / 4, 2e-3 / 4])
    assert rates[1] == pytest.approx([1e-3 / 4, 1e-3 / 4])  # no warm-up, and two cuts by a half


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A short run."""
    config = make_config(tmp_path_factory.mktemp("trained"))
    run(config)
    return config


@pytest.fixture(scope="module", params=["all", "target", "none"])
def tied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A short run for each way to tie the tables."""
    config = make_config(tmp_path_factory.mktemp(request.param))
    short = update(config, model={"tied": request.param}, training={"steps": 2})
    run(short)
    return short


PARTS = {
    "embeddings": ("source_embedding.", "target_embedding."),
    "encoder": ("encoder.",),
    "decoder": ("bridge.", "decoder.", "output."),
}


@pytest.mark.parametrize(
    "parts", [("embeddings",), ("encoder",), ("decoder",), ("encoder", "decoder")]
)
def test_frozen_parts_stay_as_they_are_and_the_others_learn(
    tied: Config, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    tuned = with_base(tied, tmp_path / "tuned", {"steps": 3, "optimizer": DECAY}, freeze=parts)
    run(tuned)
    beginnings = tuple(beginning for part in parts for beginning in PARTS[part])
    end = end_of(tuned)
    for name, before in start_of(tied).items():
        assert torch.equal(before, end[name]) == name.startswith(beginnings), name


def test_what_is_frozen_may_change_when_a_run_goes_on(trained: Config, tmp_path: Path) -> None:
    first = with_base(trained, tmp_path / "tuned", {"steps": 3}, freeze="encoder")
    run(first)
    second = with_base(trained, tmp_path / "tuned", {"steps": 6}, freeze="decoder")
    run(second, resume=True)
    before, middle, end = start_of(trained), content(first, 3)["weights"], end_of(second)
    for name in before:
        in_encoder, in_decoder = (name.startswith(PARTS[part]) for part in ("encoder", "decoder"))
        assert torch.equal(before[name], middle[name]) == in_encoder, name
        assert torch.equal(middle[name], end[name]) == in_decoder, name


def test_two_processes_tune_the_same_parts_to_the_same_weights(
    trained: Config, tmp_path: Path
) -> None:
    dropout = dict.fromkeys(("embeddings", "layers", "output", "words"), 0.0)
    exact = update(trained, model={"dropout": dropout}, trainer={"precision": "float64"})
    keep = ("optimizer", "schedule")
    alone = with_base(exact, tmp_path / "alone", {"steps": 4}, keep=keep, freeze="encoder")
    run(alone)
    path, together = tmp_path / "config.yaml", tmp_path / "together"
    path.write_text(dump_config(alone), encoding="utf-8")
    end = Process("train", path, "trainer.devices=2", f"training.folder={together}").finish()
    assert end.status == 0, end
    assert end.messages.count("starting from the model") == 1, "only the first process tells"
    found = end_of(update(alone, training={"folder": together}))
    before = start_of(trained)
    for name, weights in end_of(alone).items():
        torch.testing.assert_close(found[name], weights, rtol=0.0, atol=1e-9)
        assert torch.equal(found[name].float(), before[name]) == name.startswith("encoder."), name


@pytest.mark.parametrize("vocabulary", ["base", "own"])
def test_a_fine_tuned_run_that_was_stopped_ends_as_the_uninterrupted_one(
    trained: Config, tmp_path: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned(name: str) -> Config:
        config = with_base(
            trained,
            tmp_path / name,
            {"steps": 8},
            vocabulary=vocabulary,
            freeze="encoder",
            keep=("schedule",),
        )
        size = 48 if vocabulary == "base" else 44
        folder = tmp_path / f"data of {size}"
        return update(config, vocabulary={"size": size}, data={"folder": folder})

    run(tuned("whole"))
    run_until(tuned("stopped"), 3, monkeypatch)
    weights = trained.training.folder / "model" / "model.safetensors"
    weights.rename(weights.with_name("elsewhere"))
    try:
        run(tuned("stopped"), resume=True)
    finally:
        weights.with_name("elsewhere").rename(weights)
    assert_same_end(tuned("whole"), tuned("stopped"), 8)
    facts = load_model(tuned("stopped").training.folder / "model").facts
    assert facts["base"] == {
        "folder": str(weights.parent),
        "step": load_model(weights.parent).facts["step"],
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def test_what_a_run_was_started_from_cannot_change(trained: Config, tmp_path: Path) -> None:
    tuned = with_base(trained, tmp_path / "tuned", {"steps": 1})
    run(tuned)
    longer = {"training": {"steps": 2}}
    for base, said in (
        ({"keep": ("schedule",)}, r"base\.keep: \[\] → \[schedule\]"),
        ({"model": tmp_path / "tuned" / "model"}, r"base\.model: .*"),
    ):
        with pytest.raises(CommonError, match=f"can't go on with other settings \\({said}\\)"):
            run(update(tuned, **longer, base=base), resume=True)
    without = update(tuned, **longer).model_copy(update={"base": None})
    with pytest.raises(CommonError, match=r"other settings \(base: "):
        run(without, resume=True)
    with pytest.raises(CommonError, match=r"other settings \(base: null → "):
        run(with_base(trained, trained.training.folder, {}), resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 2}, "seed: 1 → 2"),
        ({"training": {"tokens_per_step": 400}}, "training.tokens_per_step: 512 → 400"),
        ({"data": {"max_length": 12}}, "the fingerprint of "),
    ],
)
def test_the_position_is_kept_in_the_same_batches_alone(
    trained: Config, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    tuned = with_base(trained, tmp_path / "tuned", {}, keep="position")
    if "data" in changes:
        changes = {"data": changes["data"] | {"folder": tmp_path / "other data"}}
    values = tuned.model_dump()
    for name, value in changes.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    with pytest.raises(CommonError, match=f"can't have position.*{said}"):
        run(Config.model_validate(values))
    assert not (tmp_path / "tuned" / "checkpoints").exists()


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_another_kind_of_optimizer_keeps_nothing(
    trained: Config, tmp_path: Path, kind: str
) -> None:
    optimizer = {"optimizer": {"kind": kind}}
    said = f"can't have optimizer: .* trained with adamw, but training.optimizer.kind is {kind}"
    with pytest.raises(CommonError, match=said):
        run(with_base(trained, tmp_path / "tuned", optimizer, keep="optimizer"))
    assert run(with_base(trained, tmp_path / "tuned", {"steps": 1, **optimizer})).step == 1


def test_keeping_needs_the_checkpoint_of_the_very_model(trained: Config, tmp_path: Path) -> None:
    other = update(trained, training={"folder": tmp_path / "other"})
    model, copied = trained.training.folder / "model", tmp_path / "other" / "model"
    copied.mkdir(parents=True)
    for path in model.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    tuned = with_base(other, tmp_path / "tuned", {}, keep="optimizer")
    with pytest.raises(CommonError, match=r"step-\d{8}\.ckpt isn't there"):
        run(tuned)
    run(other.model_copy(update={"seed": 5}))
    for path in model.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    step = load_model(copied).facts["step"]
    checkpoints = tmp_path / "other" / "checkpoints"
    next(checkpoints.iterdir()).rename(checkpoints / f"step-{step:08d}.ckpt")
    with pytest.raises(CommonError, match="is of another model"):
        run(tuned)


def test_a_run_never_writes_over_its_base(trained: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.symlink_to(trained.training.folder)
    for path in (trained.training.folder / "checkpoints").iterdir():
        path.rename(path.with_suffix(".elsewhere"))
    try:
        with pytest.raises(CommonError, match="is where this run's own model goes"):
            run(with_base(trained, folder, {}))
    finally:
        for path in (trained.training.folder / "checkpoints").iterdir():
            path.rename(path.with_suffix(".ckpt"))


class Domain(NamedTuple):
    """Text with letters that a base never had, and the config that tunes the base on it."""

    base: Path
    config: Path
    letters: list[str]

    @property
    def tuned(self) -> Path:
        return self.config.parent / "tuned" / "model"


@pytest.fixture
def domain(trained: Config, tmp_path: Path) -> Domain:
    pairs = [
        (f"{source} {letter}", f"{target} {letter}")
        for (source, target), letter in zip(make_pairs(40, seed=9), LETTERS * 10, strict=True)
    ]
    files: dict[str, list[str]] = {"train": [], "validation": []}
    for side, language in enumerate(("en", "de")):
        for split, kept in (("train", pairs), ("validation", pairs[:8])):
            path = tmp_path / f"{split}.{language}"
            path.write_text("".join(pair[side] + "\n" for pair in kept), encoding="utf-8")
            files[split].append(str(path))
    model, config = trained.training.folder / "model", tmp_path / "domain.yaml"
    settings: dict[str, Any] = {
        "base": {"model": str(model)},
        "data": {
            "folder": str(tmp_path / "data"),
            "corpus": {"kind": "text", **files},
            "cleaning": {"overlap": "ignore"},
        },
        "training": {"folder": str(tmp_path / "tuned"), "steps": 3},
        "monitoring": {"loggers": [], "attention": 0},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Domain(model, config, [side for pair in pairs for side in pair])


def test_letters_that_the_base_never_had_are_told(domain: Domain, command: Command) -> None:
    before = snapshot(domain.base.parent)
    ended = command("train", domain.config)
    assert ended.status == 0, ended.messages
    for name, lines in (("source", domain.letters[::2]), ("target", domain.letters[1::2])):
        share = 100 * 40 / sum(map(len, lines))
        assert (
            f"unknown to the vocabulary: {' '.join(sorted(LETTERS))}"
            f" (4 characters, {share:.1f} % of the {name} text)"
        ) in ended.messages
    step = load_model(domain.base).facts["step"]
    assert f"starting from the model {domain.base} (step {step}, validation BLEU" in ended.messages
    vocabularies = [(folder / "joint.model").read_bytes() for folder in (domain.base, domain.tuned)]
    assert vocabularies[0] == vocabularies[1]
    assert snapshot(domain.base.parent) == before


def test_tables_that_are_tied_three_ways_stay_so_and_are_stored_once(
    domain: Domain, command: Command
) -> None:
    assert command("train", domain.config).status == 0
    network = load_model(domain.tuned).network
    stored = (domain.tuned / "model.safetensors").read_bytes()
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert len(stored) == 8 + int.from_bytes(stored[:8], "little") + 4 * counted
    before = network.output.weight.detach().clone()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    source, target = torch.tensor([[5], [6]]), torch.tensor([[7]])
    features = network(source, torch.tensor([2]), target, torch.tensor([0]))
    network.output(features)[..., 8].sum().backward()
    optimizer.step()
    assert not torch.equal(network.output.weight, before)
    assert torch.equal(network.source_embedding.weight, network.output.weight)
    assert torch.equal(network.target_embedding.weight, network.output.weight)


def test_another_size_of_the_bases_vocabulary_is_refused(domain: Domain, command: Command) -> None:
    refused = command("train", domain.config, "vocabulary.size=40")
    assert refused.status == 2
    assert "command line: vocabulary.size: must be 48 as in the base" in refused.messages
    assert not (domain.config.parent / "data").exists()


def test_an_own_vocabulary_keeps_what_the_base_learnt_of_shared_pieces(
    domain: Domain, command: Command
) -> None:
    ended = command("train", domain.config, "base.vocabulary=own", "vocabulary.size=48")
    assert ended.status == 0, ended.messages
    old, new = Vocabularies.load(domain.base).source, Vocabularies.load(domain.tuned).source
    assert len(new) == 48
    shared = len(set(old.names) & set(new.names))
    assert f"{shared} of 48 pieces are the base's, the rest starts afresh" in ended.messages
    assert all(new.knows(letter) for letter in LETTERS)
