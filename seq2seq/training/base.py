"""Fine-tuning: a run that starts from a trained model, and parts of it that stay as they are."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seq2seq.config import BaseConfig, Config
from seq2seq.config_mistakes import listed
from seq2seq.errors import ModelError
from seq2seq.model.network import Network
from seq2seq.model_folder import WEIGHTS, Model, load_model, new_network
from seq2seq.terminal import say
from seq2seq.training.checkpoint import checkpoint_path, evaluated_weights, read_checkpoint
from seq2seq.training.state import RunState
from seq2seq.vocabulary import Vocabularies, shared_pieces

# The rows of these parameters belong to pieces; a tied one goes by its first owner's name.
_SIDES = {
    "source_embedding.weight": "source",
    "target_embedding.weight": "target",
    "output.weight": "target",
    "output.bias": "target",
}
_PARTS = {
    "source_embedding": "embeddings",
    "target_embedding": "embeddings",
    "encoder": "encoder",
    "bridge": "decoder",
    "decoder": "decoder",
    "output": "decoder",
}


def start_from_base(config: Config, base: BaseConfig, fingerprint: str) -> dict[str, Any]:
    """Make what a run with a base starts from: the checkpoint of its step 0.

    Args:
        config: of the run.
        base: its section of that name.
        fingerprint: of the prepared data.

    Returns:
        State, weights, and the optimizer's state or none, by the names that a checkpoint has.

    Raises:
        ModelError: the base, or what is to be kept of its run, can't be used.
    """
    if base.model.resolve() == (config.training.folder / "model").resolve():
        raise ModelError(
            f"the base {base.model} is where this run's own model goes: choose another"
            " training.folder"
        )
    model = load_model(base.model)
    state = RunState(base=_described(base.model, model))
    _say_what_it_is(base, model)
    start = {"weights": _weights(config, base, model), "average": None, "optimizer": None}
    if base.keep:
        saved = _checkpoint(base, model)
        _keep(saved, config, base, fingerprint, state)
        if "optimizer" in base.keep:
            _check_optimizer(model.config, config, base)
            # Its averages belong to the weights that were trained.
            start = {part: saved[part] for part in start}
    return {"state": state.to_plain(), **start}


def _described(folder: Path, model: Model) -> dict[str, Any]:
    with (folder / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"folder": str(folder), "step": model.facts.get("step"), "weights": digest}


def _say_what_it_is(base: BaseConfig, model: Model) -> None:
    facts = []
    if (step := model.facts.get("step")) is not None:
        facts.append(f"step {step:,}")
    if bleu := model.facts.get("validation", {}).get("BLEU"):
        facts.append(f"validation BLEU {bleu['value']:.2f}")
    known = f" ({', '.join(facts)})" if facts else ""
    kept = f"; kept: its {listed(base.keep, 'and')}" if base.keep else ""
    say(f"starting from the model {base.model}{known}{kept}")


def _checkpoint(base: BaseConfig, model: Model) -> dict[str, Any]:
    """Read the checkpoint that the base was saved with."""
    step = model.facts.get("step")
    path = checkpoint_path(base.model.parent / "checkpoints", step or 0)
    if step is None or not path.exists():
        raise ModelError(
            f"base.keep needs the checkpoint of the base {base.model}, but {path} isn't there:"
            " leave base.keep out, or give the model in its run folder"
        )
    try:
        saved = read_checkpoint(path)
    except ModelError as error:
        raise ModelError(f"leave base.keep out: {error}") from error
    weights = {name: tensor.float() for name, tensor in evaluated_weights(saved).items()}
    for name, parameter in model.network.named_parameters():
        if name not in weights or not torch.equal(weights[name], parameter):
            raise ModelError(
                f"base.keep needs the checkpoint of the base {base.model}, but {path} is of"
                " another model: leave base.keep out"
            )
    return saved


def _keep(
    saved: dict[str, Any], config: Config, base: BaseConfig, fingerprint: str, state: RunState
) -> None:
    """Take over from a checkpoint what is to be kept of its state."""
    before = RunState.from_plain(saved["state"])
    if "schedule" in base.keep:
        state.schedule_step = before.schedule_step + before.step
        state.cuts = before.cuts
    if "position" in base.keep:
        _check_order(saved, config, base, fingerprint)
        state.epoch, state.batch = before.position


def _check_order(saved: dict[str, Any], config: Config, base: BaseConfig, fingerprint: str) -> None:
    """Refuse to keep the position where the order of the training data is another."""
    theirs = saved["config"]
    pairs = {
        "seed": (theirs["seed"], config.seed),
        "training.tokens_per_step": (
            theirs["training"]["tokens_per_step"],
            config.training.tokens_per_step,
        ),
        f"the fingerprint of {config.data.folder}": (saved["data"][:12], fingerprint[:12]),
    }
    unlike = [f"{name}: {old} → {new}" for name, (old, new) in pairs.items() if old != new]
    if unlike:
        raise ModelError(
            f"base.keep can't have position: the base {base.model} was trained on other batches"
            f" ({'; '.join(unlike)}); leave it out, or train on the same data"
        )


def _check_optimizer(theirs: Config, config: Config, base: BaseConfig) -> None:
    """Refuse to keep what another kind of optimizer knows of the weights."""
    before, now = (each.training.optimizer.kind for each in (theirs, config))
    if before != now:
        raise ModelError(
            f"base.keep can't have optimizer: the base {base.model} was trained with {before}, but"
            f" training.optimizer.kind is {now}; leave it out, or take {before}"
        )


def _weights(config: Config, base: BaseConfig, model: Model) -> dict[str, Tensor]:
    """Return the base's weights; with an own vocabulary, fresh rows for the pieces it adds."""
    weights = {name: p.detach() for name, p in model.network.named_parameters()}
    if base.vocabulary == "base":
        return weights
    vocabularies = Vocabularies.load(config.data.folder)
    torch.manual_seed(config.seed)
    fresh = {name: p.detach() for name, p in new_network(config, vocabularies).named_parameters()}
    shared = {
        side: shared_pieces(getattr(model.vocabularies, side), getattr(vocabularies, side))
        for side in ("source", "target")
    }
    _say_what_is_shared(vocabularies, shared)
    for name, side in _SIDES.items():
        if name in weights:
            weights[name] = with_rows(fresh[name], weights[name], shared[side])
    return weights


def with_rows(fresh: Tensor, learnt: Tensor, shared: dict[int, int]) -> Tensor:
    """Put learnt rows into a copy of a fresh table.

    Args:
        fresh: a row for each piece of the new vocabulary.
        learnt: a row for each piece of the old one.
        shared: which row of the fresh table is which learnt one.
    """
    rows = fresh.clone()
    rows[list(shared)] = learnt[list(shared.values())]
    return rows


def _say_what_is_shared(vocabularies: Vocabularies, shared: dict[str, dict[int, int]]) -> None:
    for side in ("source",) if vocabularies.joint else ("source", "target"):
        size = len(getattr(vocabularies, side))
        name = "" if vocabularies.joint else f"{side} "
        say(
            f"{len(shared[side]):,} of {size:,} {name}pieces are the base's, the rest starts afresh"
        )


def freeze(network: Network, parts: tuple[str, ...]) -> None:
    """Let parts of a network stay as they are.

    Args:
        network: about to be trained.
        parts: any of `embeddings` (the source and target tables, and an output matrix that shares
            one of them), `encoder`, and `decoder` (with attention, readout, and the rest of the
            output layer).
    """
    frozen = 0
    for name, parameter in network.named_parameters():
        if _PARTS[name.partition(".")[0]] in parts:
            parameter.requires_grad_(False)
            frozen += parameter.numel()
    if frozen:
        say(f"{', '.join(parts)}: {frozen:,} parameters stay as they are")
