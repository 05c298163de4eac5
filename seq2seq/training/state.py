"""Where a run stands: all that is neither weights nor optimizer, as plain types."""

from dataclasses import asdict, dataclass, field
from typing import Any

from seq2seq.config import Plateau
from seq2seq.data.loader import Position


@dataclass
class RunState:
    """Where a run stands after a step."""

    step: int = 0
    """Number of steps done."""
    epoch: int = 0
    """Epoch of the next step, counted from 0."""
    batch: int = 0
    """Global batch of the next step within its epoch."""
    validation_due: bool = False
    """Whether the validation of this step is still to be done."""
    scores: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Step and BLEU of every validation."""
    stale: int = 0
    """Validations in a row without a better BLEU."""
    cuts: int = 0
    """How often the plateau schedule has cut the rate."""
    stale_since_cut: int = 0
    """Validations in a row without a better BLEU since the last cut."""
    seconds: float = 0.0
    """Time spent training, over all starts."""
    schedule_step: int = 0
    """Steps of the schedule before this run's first: those of the base's run, where it goes on."""
    precision: str = ""
    """What was computed in; empty before the first start."""
    loss_scale: float = 2.0**16
    """What the loss is multiplied with, where gradients are float16."""
    steps_since_scale: int = 0
    """Good steps since that changed."""
    tokens_per_device: int | None = None
    """What `training.tokens_per_device: auto` has found, if it has looked for it."""
    base: dict[str, Any] | None = None
    """The model that the run was started from: folder, step, digest of its weights."""

    @property
    def position(self) -> Position:
        """The next step, as the loader counts."""
        return Position(self.epoch, self.batch)

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and BLEU of the best validation, the first of several."""
        return max(self.scores, key=lambda entry: entry[1], default=None)

    def best_steps(self, number: int) -> list[int]:
        """The steps of the best validations, best first."""
        return [step for step, _ in sorted(self.scores, key=lambda entry: -entry[1])[:number]]

    def record(self, bleu: float, plateau: Plateau | None) -> bool:
        """Take in a validation's score; patience and plateau follow from it.

        Returns:
            Whether it is the best so far.
        """
        improved = self.best is None or bleu > self.best[1]
        self.scores.append((self.step, bleu))
        self.stale = 0 if improved else self.stale + 1
        self.stale_since_cut = 0 if improved else self.stale_since_cut + 1
        if plateau is not None and self.stale_since_cut > plateau.patience:
            self.cuts += 1
            self.stale_since_cut = 0
        self.validation_due = False
        return improved

    def to_plain(self) -> dict[str, Any]:
        """Turn into what a checkpoint holds."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "RunState":
        """Turn back; tuples may have become lists."""
        plain = {**plain, "scores": [(step, bleu) for step, bleu in plain["scores"]]}
        return RunState(**plain)
