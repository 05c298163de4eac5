"""LSTM translation models: prepare, train, evaluate, translate."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seq2seq.translation import Request as Request
    from seq2seq.translation import Translation as Translation
    from seq2seq.translation import Translator as Translator

__version__ = "0.1.0"

_OF_TRANSLATION = ("Request", "Translation", "Translator")


def __getattr__(name: str) -> Any:
    """Import what translates when it is asked for: not all that imports this needs torch."""
    if name not in _OF_TRANSLATION:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seq2seq import translation

    return getattr(translation, name)
