"""SentencePiece models in files, those of other programs included, with this program's ids."""

from pathlib import Path
from typing import Any

from seq2seq.config import VocabularyFiles
from seq2seq.errors import DataError
from seq2seq.vocabulary import (
    BOS,
    EOS,
    NUM_SPECIAL,
    PAD,
    SPECIAL_NAMES,
    UNK,
    Vocabularies,
    Vocabulary,
)
from seq2seq.vocabulary_proto import CONTROL, UNKNOWN, read_model

_IDS = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
_OTHER_TOOLS = {
    b"#version": "codes of subword-nmt's",
    b"{": "JSON, such as a tokenizer.json of Hugging Face's",
}


def read_vocabularies(files: VocabularyFiles) -> Vocabularies:
    """Read the models that a config names.

    Raises:
        DataError: one can't be read, or is no model.
    """
    source = _read("source", files.source)
    return Vocabularies(source, _read("target", files.target) if files.target else source)


def _read(side: str, path: Path) -> Vocabulary:
    key = f"vocabulary.{side}"
    try:
        model = path.read_bytes()
    except OSError as error:
        raise DataError(f"{key}: {path} can't be read: {error.strerror}") from error
    try:
        own = with_own_ids(model)
    except ValueError as error:
        raise DataError(
            f"{key}: {path} is no SentencePiece model, but {_what_it_is(model)}: name a model as"
            " spm_train writes them (.model), or write vocabulary.kind=learnt"
        ) from error
    return Vocabulary(own, name=str(path))


def _what_it_is(data: bytes) -> str:
    """Say what a file is that is no model."""
    for start, what in _OTHER_TOOLS.items():
        if data.lstrip().startswith(start):
            return what
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "something else, or damaged"
    return "text, such as a list of pieces" if text.strip() else "empty"


def with_own_ids(model: bytes) -> bytes:
    """Give the special pieces of a model the first ids; one that has them already stays as it is.

    Its own special pieces are left out: no text is ever cut into them.

    Raises:
        ValueError: it is no model.
    """
    read = read_model(model)
    trainer = read.trainer_spec
    if not read.pieces or not read.HasField("trainer_spec"):  # which comes after the pieces
        raise ValueError("no SentencePiece model, or only the beginning of one")
    if _has_own_ids(read):
        return model
    others = [piece for piece in read.pieces if piece.type not in (UNKNOWN, CONTROL)]
    special = [type(others[0])(piece=SPECIAL_NAMES[name], type=CONTROL) for name in _IDS]
    special[UNK].type = UNKNOWN
    pieces = [*special, *others]
    del read.pieces[:]
    read.pieces.extend(pieces)
    trainer.vocab_size = len(pieces)
    for name, number in _IDS.items():
        setattr(trainer, f"{name}_id", number)
        setattr(trainer, f"{name}_piece", SPECIAL_NAMES[name])
    return read.SerializeToString(deterministic=True)


def _has_own_ids(model: Any) -> bool:
    """Whether the special pieces are where they are in models of this program."""
    trainer = model.trainer_spec
    if any(getattr(trainer, f"{name}_id") != number for name, number in _IDS.items()):
        return False
    kinds = [piece.type for piece in model.pieces[:NUM_SPECIAL]]
    return kinds == [CONTROL, CONTROL, CONTROL, UNKNOWN]
