"""What a training process is made of: the steps, and the module that computes them."""

import socket
from typing import Any

import torch
from torch.utils.data import DataLoader

from seq2seq.config import Config, Schedule
from seq2seq.data.batch import Step
from seq2seq.data.loader import Position, StepDataset, step_loader
from seq2seq.data.mix import weights
from seq2seq.data.plan_files import PlanFiles
from seq2seq.data.prepared import PreparedData
from seq2seq.data.segmentation import new_segmentation
from seq2seq.data.weights import Share
from seq2seq.model_folder import copy_weights, new_network
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place, usable_threads
from seq2seq.training.base import freeze
from seq2seq.training.module import TranslationModule
from seq2seq.training.precision import Precision
from seq2seq.training.schedule import Extent, in_steps
from seq2seq.training.state import RunState


def new_steps(config: Config, data: PreparedData, place: Place) -> StepDataset:
    """Make the steps of a process, each in one piece.

    Raises:
        DataError: the data can't be read, or its vocabularies have no such sampling.
    """
    folder = config.data.folder
    sizes = [part.pairs for part in data.manifest.parts]
    return StepDataset(
        data.split("train"),
        seed=config.seed,
        tokens_per_step=config.training.tokens_per_step,
        rank=place.rank,
        world_size=place.world_size,
        parts=tuple(map(Share, sizes, weights(config.data, sizes))),
        segment=new_segmentation(config.training.sampling, data.vocabularies, config.seed),
        files=PlanFiles(folder.with_name(f"{folder.name}.plans"), socket.gethostname()),
        fingerprint=data.manifest.fingerprint,
    )


def new_module(
    config: Config,
    data: PreparedData,
    steps: StepDataset,
    group: Group,
    precision: Precision,
    state: RunState,
    saved: dict[str, Any] | None = None,
) -> TranslationModule:
    """Make what is trained, and put what was saved into it.

    Args:
        config: of the run.
        data: that it is trained on.
        steps: of this process.
        group: the processes of the run.
        precision: of the computation.
        state: where the run stands.
        saved: checkpoint that it goes on from.
    """
    torch.set_num_threads(config.trainer.threads or usable_threads(group.place))
    torch.manual_seed(config.seed)
    network = new_network(config, data.vocabularies)
    network.to(precision.weights)
    if saved is not None:
        copy_weights(network, saved["weights"])
    if config.base is not None:
        freeze(network, config.base.freeze)
    optimizer = saved["optimizer"] if saved else None
    schedule = _schedule(config, steps, state)
    module = TranslationModule(network, config, state, group, schedule, optimizer, precision)
    if saved is not None and saved["average"] is not None and module.average is not None:
        copy_weights(module.average.network, saved["average"])
    return module


def _schedule(config: Config, steps: StepDataset, state: RunState) -> Schedule:
    """Learn how long the parts of the rate's schedule are, now that the data is known."""
    training = config.training
    total = state.schedule_step + training.steps
    extent = Extent(total, steps.epoch_length(0), steps.epoch_tokens(0))
    return in_steps(training.optimizer.schedule, extent)


def new_loader(
    config: Config,
    steps: StepDataset,
    place: Place,
    device: torch.device,
    start: Position,
    number: int,
) -> DataLoader[Step]:
    """Make what gives a process `number` steps from a position on."""
    return step_loader(
        steps,
        start=start,
        number=number,
        workers=_loader_workers(config, place, device),
        pin=device.type == "cuda",
    )


def _loader_workers(config: Config, place: Place, device: torch.device) -> int:
    """Count the processes that make batches: a CPU has nothing to gain from them."""
    if config.trainer.workers is not None:
        return config.trainer.workers
    return min(4, usable_threads(place) - 1) if device.type == "cuda" else 0
