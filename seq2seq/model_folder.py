"""The model folder: `config.json`, `model.safetensors`, vocabulary, card; plain data, no code."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.nn import init
from torch.overrides import TorchFunctionMode

from seq2seq.config import Config
from seq2seq.errors import ModelError
from seq2seq.files import allowed, whole_folder
from seq2seq.model.network import Network, bare_network, build_network
from seq2seq.model_card import CARD, model_card
from seq2seq.model_description import ModelDescription
from seq2seq.vocabulary import Side, Vocabularies

WEIGHTS = "model.safetensors"
_DRAWING = (init.kaiming_uniform_, init.normal_, init.uniform_)  # what new layers call


class Model(NamedTuple):
    """What a model folder holds."""

    network: Network
    vocabularies: Vocabularies
    config: Config
    facts: dict[str, Any]
    """What is known of the model: step, scores, fingerprint of its data."""


def new_network(config: Config, vocabularies: Vocabularies) -> Network:
    """Make an untrained network for these vocabularies."""
    return build_network(config.model, **_sizes(vocabularies))


def save_model(folder: Path, model: Model, *, check: Callable[[], None] = allowed) -> None:
    """Write a model folder, whole or not at all; an older one is replaced.

    Args:
        folder: the place.
        model: to be saved.
        check: is called before the older one is replaced, and raises where it may not be.

    Raises:
        UserError: it can't be written.
    """
    network, vocabularies, config, facts = model
    description = ModelDescription(config, facts, vocabularies.digests)
    with whole_folder(folder, check=check) as partial:
        description.save(partial)
        # named_parameters gives a tied tensor once, under its first owner's name.
        named = network.named_parameters()
        weights = save({name: p.detach().float().contiguous() for name, p in named})
        (partial / WEIGHTS).write_bytes(weights)
        vocabularies.save(partial)
        card = model_card(
            description,
            pieces=vocabularies.sizes,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=hashlib.sha256(weights).hexdigest(),
        )
        (partial / CARD).write_text(card, encoding="utf-8")


def load_model(folder: Path, *, device: torch.device | str = "cpu") -> Model:
    """Read a model folder; the network is in evaluation mode.

    Raises:
        ModelError: it is no model folder, damaged, of another format, or its files don't belong
            together.
    """
    config, facts, digests = ModelDescription.load(folder)
    vocabularies = Vocabularies.load(folder, digests)
    weights = _read_weights(folder / WEIGHTS)
    _check_pieces(weights, vocabularies, folder)
    with _Undrawn():
        network = bare_network(config.model, **_sizes(vocabularies))
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise ModelError(
            f"the weights {folder / WEIGHTS} don't fit the network that config.json describes"
        )
    copy_weights(network, weights)
    return Model(network.to(device).eval(), vocabularies, config, facts)


def copy_weights(network: Network, weights: dict[str, torch.Tensor]) -> None:
    """Put saved weights into a network; a tied tensor has one name."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])


def _sizes(vocabularies: Vocabularies) -> dict[str, int]:
    source, target = vocabularies
    return {
        "source_size": len(source),
        "target_size": len(target),
        "num_special": len(source.control),
    }


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights, and call those of format 1 by the names that they have now."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights {path} can't be read: {error}") from error
    old, new = "decoder.start.", "bridge.projection."
    return {
        new + name.removeprefix(old) if name.startswith(old) else name: tensor
        for name, tensor in weights.items()
    }


def _check_pieces(
    weights: dict[str, torch.Tensor], vocabularies: Vocabularies, folder: Path
) -> None:
    """Refuse a vocabulary of another size than the tables have, whose digest nobody knows."""
    of_pieces: dict[Side, str] = {"source": "source_embedding.weight", "target": "output.bias"}
    for side, name in of_pieces.items():
        pieces = len(getattr(vocabularies, side))
        if name in weights and len(weights[name]) != pieces:
            raise ModelError(
                f"the vocabulary {folder / vocabularies.file_of(side)} has {pieces:,} pieces, but"
                f" the weights {folder / WEIGHTS} are for {len(weights[name]):,}: it may be"
                " another model's"
            )


class _Undrawn(TorchFunctionMode):
    """While it is on, new layers have whatever their memory had: drawing takes longer than reading.

    (On torch's meta device, which is meant for this, normal numbers take a second of imports.)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return None if func in _DRAWING else func(*args, **(kwargs or {}))
