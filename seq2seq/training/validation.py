"""Validation: the loss on, and translations of, the validation set."""

from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.data.loader import Position, StepDataset
from seq2seq.data.prepared import PreparedData
from seq2seq.evaluation import translate_all
from seq2seq.model.loss import token_loss
from seq2seq.model.network import Network
from seq2seq.scoring import Scores, score
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


class Validator:
    """Validates a network, with the settings and the scorer of the final evaluation."""

    def __init__(self, data: PreparedData, config: Config):
        self._data, self._config = data, config
        self._text = data.text("validation")
        pairs = data.split("validation")
        longest = int(pairs.target.lengths.max(initial=0)) + 1  # data.max_length is for training
        self._steps = StepDataset(
            pairs,
            seed=0,
            tokens_per_step=max(config.training.tokens_per_step, longest),
            tokens_per_device=config.training.tokens_per_device,
        )

    def validate(self, network: Network, stop: StopRequest) -> Validation | None:
        """Score a network, or give up with nothing when asked to stop."""
        network.eval()
        try:
            hypotheses = translate_all(
                Translator(network, self._data.vocabularies, self._config.validation_search),
                self._text.source,
                task="validation",
                stop=lambda: bool(stop),
            )
            loss = None if hypotheses is None else self._loss(network, stop)
        finally:
            network.train()
        if hypotheses is None or loss is None:
            return None
        references = self._text.target
        scores = score(hypotheses, references, language=self._data.manifest.target)
        rows = zip(self._text.source, hypotheses, references, strict=True)
        samples = [Sample(*row) for row in list(rows)[: self._config.validation.samples]]
        return Validation(scores, loss, samples)

    @torch.no_grad()
    def _loss(self, network: Network, stop: StopRequest) -> float | None:
        device = network.output.weight.device
        total, tokens = 0.0, 0
        for number in range(self._steps.epoch_length(0)):
            step = self._steps[Position(0, number)]
            for batch in step.batches:
                logits = network(
                    batch.source.to(device),
                    batch.source_lengths.to(device),
                    batch.target_input.to(device),
                    batch.target_rows.to(device),
                )
                expected = batch.target_output.to(device)
                total += token_loss(logits, expected, smoothing=0.0).item()
            tokens += step.target_tokens
            if stop:
                return None
        return total / max(1, tokens)
