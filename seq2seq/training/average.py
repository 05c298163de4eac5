"""Averages of the weights over the steps: one kept beside a run, one made of its checkpoints."""

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seq2seq.errors import ModelError, UserError
from seq2seq.model.network import Network
from seq2seq.model_folder import Model, copy_weights, load_model, save_model
from seq2seq.terminal import say
from seq2seq.training.checkpoint import checkpoints, evaluated_weights, read_checkpoint


class WeightAverage(torch.nn.Module):
    """An exponential moving average of a network's weights.

    Averages of iterates: Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992. After step *k* the average is `d` times what it was plus `1 - d` times the
    weights, where `d` is the decay, but at first only `(1 + k) / (10 + k)`, so that the weights of
    the beginning are soon forgotten.
    """

    def __init__(self, network: Network, decay: float):
        """Begin with the weights that a network has now.

        Args:
            network: whose weights are averaged.
            decay: share of the average that a step leaves as it is.
        """
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, weights = tuple(self.network.parameters()), tuple(network.parameters())
        get_ema_multi_avg_fn(decay)(averages, weights, step)


def choose_checkpoints(named: Sequence[Path], last: int | None) -> list[Path]:
    """Find the checkpoints that are to be averaged.

    Args:
        named: a run folder, or checkpoint files.
        last: how many of the folder's newest; none: all.

    Raises:
        UserError: the folder has none, or fewer.
    """
    if len(named) > 1 or named[0].is_file():
        if last is not None:
            raise UserError("--last has no effect on checkpoint files: name a run folder")
        for path in named:
            if path.is_dir():
                raise ModelError(f"{path} is a folder: name one run folder, or checkpoint files")
        return list(named)
    (folder,) = named
    there = checkpoints(folder / "checkpoints")
    if not there:
        raise ModelError(f"{folder} is no run folder: there are no checkpoints in it")
    if last is not None and len(there) < last:
        raise UserError(
            f"--last is {last}, but the run folder {folder} has {len(there)} checkpoints, as"
            " training.checkpoint.keep_last and keep_best say"
        )
    return there if last is None else there[-last:]


def average_checkpoints(paths: Sequence[Path], output: Path) -> None:
    """Make a model of the mean of several checkpoints of a run.

    Such means are better than each: Junczys-Dowmunt, Dwojak and Sennrich, "The AMU-UEDIN submission
    to the WMT16 news translation task", 2016; Vaswani et al., "Attention is all you need", 2017,
    section 6.1. Of a run that keeps an average (`training.ema`) it is a mean of these averages. It
    is computed in float64. All else is as in the model of the run.

    Args:
        paths: checkpoint files in their run folder, at least one; each counts once.
        output: the model folder that is made.

    Raises:
        UserError: the checkpoints aren't two or more of one run, one of them can't be used, or
            there is something in the place of the model.
    """
    if os.path.lexists(output):
        raise UserError(f"{output} is there already: choose another --output")
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    if len(paths) < 2:
        raise ModelError(f"an average needs two checkpoints or more, but there is only {paths[0]}")
    model = _model_of_run(paths)
    total: dict[str, Tensor] = {}
    steps: list[int] = []
    for path in paths:
        saved = read_checkpoint(path)
        weights = _weights_of(saved, model, path)
        total = {name: total.get(name, 0) + tensor.double() for name, tensor in weights.items()}
        steps.append(saved["state"]["step"])
    copy_weights(model.network.double(), {name: sum / len(paths) for name, sum in total.items()})
    kept = {name: model.facts[name] for name in ("data", "base") if name in model.facts}
    save_model(output, model._replace(facts={"averaged": sorted(steps), **kept}))
    numbers = ", ".join(f"{step:,}" for step in sorted(steps))
    say(f"{output} is the mean of the weights after the steps {numbers}")


def _model_of_run(paths: Sequence[Path]) -> Model:
    """Read the model beside the checkpoints, for all but its weights."""
    first, *others = paths
    for path in others:
        if path.parent != first.parent:
            raise ModelError(
                f"{first} and {path} are of two runs, whose weights have nothing in common: name"
                " checkpoints of one run"
            )
    try:
        return load_model(first.parent.with_name("model"))
    except UserError as error:
        raise ModelError(f"an average needs the vocabulary of the run's model: {error}") from error


def _weights_of(saved: dict[str, Any], model: Model, path: Path) -> dict[str, Tensor]:
    """Take from a checkpoint what was validated, if it is of the same run as the model."""
    weights = evaluated_weights(saved)
    wanted = {name: weight.shape for name, weight in model.network.named_parameters()}
    same_network = {name: weight.shape for name, weight in weights.items()} == wanted
    if not same_network or saved["data"] != model.facts.get("data"):
        raise ModelError(
            f"the checkpoint {path} is of another run than {path.parent.with_name('model')}: their"
            f" {'data differs' if same_network else 'networks differ'}"
        )
    return weights
