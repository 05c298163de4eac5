"""What search needs of a network, and what it is told of the vocabulary."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.model.stepwise import Step

Memory = Any  # of sentences: has `select(sentences)`
State = Any  # of hypotheses: has `select(sentences, beams)`


@runtime_checkable
class Scorer(Protocol):
    """A network, or what stands between it and the search: several, or a part of its vocabulary.

    The memory belongs to the sentence: it is never reordered, only dropped when a sentence is done.
    The state belongs to the hypothesis.
    """

    def encode(
        self, source: Int[Tensor, "source_len batch"], lengths: Int[Tensor, " batch"]
    ) -> Memory:
        """Read source sentences."""
        ...

    def start(self, memory: Memory, beam: int) -> State:
        """Make the state before the first token."""
        ...

    def step(self, memory: Memory, state: State, tokens: Int[Tensor, "batch beam"]) -> Step:
        """Go one token further with every hypothesis."""
        ...

    def log_probabilities(
        self, features: Float[Tensor, "rows features"]
    ) -> Float[Tensor, "rows vocab"]:
        """Say of hypotheses, by the features that a step gave, what may follow."""
        ...


class Symbols(NamedTuple):
    """The special ids that search must know."""

    start: int
    end: int
    never: tuple[int, ...]
    """Ids that no translation may contain."""


class Several(NamedTuple):
    """The memories, or the states, of an ensemble's members."""

    parts: tuple[Any, ...]

    def select(self, *places: Tensor) -> "Several":
        """Take some of each."""
        return Several(tuple(part.select(*places) for part in self.parts))


class Ensemble:
    """Several networks of one vocabulary, of whose probabilities the mean is taken."""

    def __init__(self, members: Sequence[Scorer]):
        self.members = members
        self._widths: list[int] = []

    def encode(self, source: Tensor, lengths: Tensor) -> Several:
        """Let each member read the sentences."""
        return Several(tuple(member.encode(source, lengths) for member in self.members))

    def start(self, memory: Several, beam: int) -> Several:
        """Let each member begin."""
        started = zip(self.members, memory.parts, strict=True)
        return Several(tuple(member.start(part, beam) for member, part in started))

    def step(self, memory: Several, state: Several, tokens: Tensor) -> Step:
        """Let each member go on; the features stand side by side, the attention is the mean."""
        taken = zip(self.members, memory.parts, state.parts, strict=True)
        steps = [member.step(its, own, tokens) for member, its, own in taken]
        self._widths = [step.features.shape[2] for step in steps]
        return Step(
            torch.cat([step.features for step in steps], dim=2),
            Several(tuple(step.state for step in steps)),
            torch.stack([step.attention for step in steps]).mean(dim=0),
        )

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Take the mean of the members' probabilities."""
        parts = zip(self.members, features.split(self._widths, dim=1), strict=True)
        each = torch.stack([member.log_probabilities(part) for member, part in parts])
        return each.logsumexp(dim=0) - math.log(len(each))
