"""LSTM translation models: prepare, train, evaluate, translate."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seq2seq.translation import Translator as Translator

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Translator` once it is asked for: not all that imports this package needs torch."""
    if name != "Translator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seq2seq.translation import Translator

    return Translator
