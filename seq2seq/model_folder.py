"""The model folder: `config.json`, `model.safetensors` and the vocabulary; plain data, no code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from seq2seq.config import Config
from seq2seq.errors import ModelError
from seq2seq.files import allowed, whole_folder
from seq2seq.model.network import Network, build_network
from seq2seq.model_description import ModelDescription
from seq2seq.vocabulary import NUM_SPECIAL, Vocabularies

WEIGHTS = "model.safetensors"


class Model(NamedTuple):
    """What a model folder holds."""

    network: Network
    vocabularies: Vocabularies
    config: Config
    facts: dict[str, Any]
    """What is known of the model: step, scores, fingerprint of its data."""


def new_network(config: Config, vocabularies: Vocabularies) -> Network:
    """Make an untrained network for these vocabularies."""
    return build_network(
        config.model,
        source_size=len(vocabularies.source),
        target_size=len(vocabularies.target),
        num_special=NUM_SPECIAL,
    )


def save_model(folder: Path, model: Model, *, check: Callable[[], None] = allowed) -> None:
    """Write a model folder, whole or not at all; an older one is replaced.

    Args:
        folder: the place.
        model: to be saved.
        check: is called before the older one is replaced, and raises where it may not be.

    Raises:
        UserError: it can't be written.
    """
    with whole_folder(folder, check=check) as partial:
        ModelDescription(model.config, model.facts).save(partial)
        # named_parameters gives a tied tensor once, under its first owner's name.
        parameters = model.network.named_parameters()
        weights = {name: p.detach().float().contiguous() for name, p in parameters}
        (partial / WEIGHTS).write_bytes(save(weights))
        model.vocabularies.save(partial)


def load_model(folder: Path, *, device: torch.device | str = "cpu") -> Model:
    """Read a model folder; the network is in evaluation mode.

    Raises:
        ModelError: it is no model folder, damaged, or of another format.
    """
    config, facts = ModelDescription.load(folder)
    vocabularies = Vocabularies.load(folder)
    network = new_network(config, vocabularies)
    _load_weights(network, folder / WEIGHTS)
    network.to(device).eval()
    return Model(network, vocabularies, config, facts)


def copy_weights(network: Network, weights: dict[str, torch.Tensor]) -> None:
    """Put saved weights into a network; a tied tensor has one name."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])


def _load_weights(network: Network, path: Path) -> None:
    wanted = dict(network.named_parameters())
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights {path} can't be read: {error}") from error
    shapes = {name: tuple(parameter.shape) for name, parameter in wanted.items()}
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != shapes:
        raise ModelError(f"the weights {path} don't fit the network that config.json describes")
    copy_weights(network, weights)
