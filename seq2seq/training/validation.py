"""Validation: the loss on, and translations of, the validation set."""

from math import fsum
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.data.batch import Batch
from seq2seq.data.loader import Position, StepDataset
from seq2seq.data.prepared import PreparedData
from seq2seq.evaluation import prepared_test_set, score_once, translate_all
from seq2seq.inspection import attention_pictures
from seq2seq.model.loss import token_loss
from seq2seq.model.network import Network
from seq2seq.parallel.group import Group
from seq2seq.scoring import Scores
from seq2seq.training.stopping import StopRequest
from seq2seq.translation import Translator


class Sample(NamedTuple):
    """A sentence to look at."""

    source: str
    translation: str
    reference: str


class Validation(NamedTuple):
    """What one validation found."""

    scores: Scores
    loss: float
    """Cross-entropy per target token in nats, without label smoothing."""
    samples: list[Sample]
    pictures: list[bytes]
    """The attention in the first translations as PNG, for the first process."""


class Validator:
    """Validates a network, with the settings and the scorer of the final evaluation."""

    def __init__(self, data: PreparedData, config: Config, group: Group, tokens_per_device: int):
        """Set up the validator.

        Args:
            data: with the validation set.
            config: of the run.
            group: the processes.
            tokens_per_device: most padded positions whose loss is computed at once.
        """
        self._data, self._config, self._group = data, config, group
        self._count = 0
        self._to = config.data.default_target
        self._test = prepared_test_set(data.folder, "validation")
        self._requests = self._test.requests(tagged=self._to is not None)
        pairs = data.split("validation")
        longest = int(pairs.target.lengths.max(initial=0)) + 1  # data.max_length is for training
        self._steps = StepDataset(
            pairs,
            seed=0,
            tokens_per_step=max(config.training.tokens_per_step, longest),
            tokens_per_device=tokens_per_device,
        )

    def validate(self, network: Network, stop: StopRequest) -> Validation | None:
        """Score a network, or give up with nothing when any process is asked to stop.

        All processes must call it; each does its part, and all get the result.
        """
        self._count += 1
        network.eval()
        search = self._config.validation_search
        translator = Translator(network, self._data.vocabularies, search, to=self._to)
        try:
            hypotheses = translate_all(
                translator,
                self._requests,
                self._group,
                task="validation",
                stop=lambda: self._is_dropped(stop),
            )
            loss = None if hypotheses is None else self._loss(network, stop)
            pictures = [] if loss is None else self._draw(translator)
        finally:
            network.train()
        if hypotheses is None or loss is None:
            return None
        references, language = self._test.target, self._test.language
        scores = score_once(hypotheses, references, self._group, language=language)
        rows = zip(self._test.source, hypotheses, references, strict=True)
        samples = [Sample(*row) for row in list(rows)[: self._config.validation.samples]]
        return Validation(scores, loss, samples, pictures)

    def _draw(self, translator: Translator) -> list[bytes]:
        number = self._config.monitoring.attention if self._group.place.is_first else 0
        return attention_pictures(translator, self._requests, number)

    def _is_dropped(self, stop: StopRequest) -> bool:
        """Whether this process is to stop, or another one, which lets the others know."""
        task = f"validation {self._count}"
        if stop:
            self._group.call_off(task)
        return bool(stop) or self._group.called_off(task)

    @torch.no_grad()
    def _loss(self, network: Network, stop: StopRequest) -> float | None:
        """Compute the loss in batches that don't depend on the number of processes."""
        place, length = self._group.place, self._steps.epoch_length(0)
        losses: list[float] = []
        tokens = 0
        for number in range(place.rank, length, place.world_size):
            if self._is_dropped(stop):
                break
            step = self._steps[Position(0, number)]
            losses.append(sum(_batch_loss(network, batch) for batch in step.batches))
            tokens += step.target_tokens
        parts = self._group.gather(None if self._is_dropped(stop) else (losses, tokens))
        if None in parts:
            return None
        total = fsum(loss for losses, _ in parts for loss in losses)  # exact, in whatever order
        return total / max(1, sum(tokens for _, tokens in parts))


def _batch_loss(network: Network, batch: Batch) -> float:
    device = network.output.weight.device
    features = network(
        batch.source.to(device),
        batch.source_lengths.to(device),
        batch.target_input.to(device),
        batch.target_rows.to(device),
    )
    return token_loss(
        features, network.output, batch.target_output.to(device), smoothing=0.0
    ).item()
