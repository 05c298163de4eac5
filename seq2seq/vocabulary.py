"""SentencePiece vocabularies: encoding, decoding, the special ids and those of tags."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import sentencepiece

from seq2seq.errors import ModelError, UserError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
NUM_SPECIAL = 4

Side = Literal["source", "target"]

# SentencePiece cuts the names of its special pieces out of the text that it learns from. These are
# from Unicode's private use area, so that a corpus with `</s>` in it loses nothing.
SPECIAL_NAMES = {"pad": "\ue0f0", "bos": "\ue0f1", "eos": "\ue0f2", "unk": "\ue0f3"}
TAG_NAME = "\ue0f4"  # before the language, in the name of its tag
_BREAKS = re.compile("[\0\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_BYTE_ORDER_MARK = "\ufeff"


def unbroken(text: str) -> str:
    """Leave out byte order marks, and make a space of all that ends a line."""
    if text.isprintable():  # quick to tell, and most text is
        return text
    return _BREAKS.sub(" ", text.replace(_BYTE_ORDER_MARK, ""))


def normalize(text: str) -> str:
    """Bring one line to Unicode's NFC, with no byte order mark and nothing that ends a line."""
    unbroken_text = unbroken(text)
    return unbroken_text if text.isascii() else unicodedata.normalize("NFC", unbroken_text)


def blank(line: str) -> bool:
    """Whether a line has nothing to see: only spaces, controls and invisible signs, or nothing."""
    return not any(character.isprintable() and not character.isspace() for character in line)


def whole_text(surfaces: str) -> str:
    """Make one line of what several ids add to a text, whose bytes become characters."""
    return unbroken(surfaces.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


class Vocabulary:
    """One SentencePiece model: text to ids and back."""

    def __init__(self, model: bytes, *, name: str = "vocabulary"):
        self.model = model
        damaged = f"{name} is not a SentencePiece model, or is damaged"
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ModelError(damaged) from error
        # SentencePiece has no types that a checker could read.
        self._api = api = cast(Any, self._processor)
        # It takes an empty file for a model, and one that is cut short between two pieces.
        special = (api.pad_id(), api.bos_id(), api.eos_id(), api.unk_id()) if model else ()
        if special != (PAD, BOS, EOS, UNK):
            raise ModelError(damaged)

    def __len__(self) -> int:
        return self._api.get_piece_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn lines of text into ids, without any special ones but `UNK`."""
        # More threads gain little here, and much where several processes encode.
        return self._api.encode([*map(normalize, texts)], out_type=int, num_threads=1)

    def decode(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """Turn ids into a line of text each; special ids but `UNK` leave nothing."""
        # One by one: for several at once it starts threads, which takes longer than a sentence.
        # Bytes, and pieces of other programs' models, may well be a line's end.
        return [
            unbroken(self._api.decode([int(piece) for piece in pieces])) for pieces in sentences
        ]

    @cached_property
    def control(self) -> range:
        """The ids that no text has: the special ones (of which text has `UNK` alone) and tags."""
        end = NUM_SPECIAL
        while end < len(self) and self._api.is_control(end):
            end += 1
        return range(end)

    @cached_property
    def tags(self) -> dict[str, int]:
        """The ids of the languages' tags, which a source sentence begins with."""
        names = {self._api.id_to_piece(number): number for number in self.control}
        return {
            name.removeprefix(TAG_NAME): number
            for name, number in names.items()
            if name.startswith(TAG_NAME)
        }

    def tag(self, language: str) -> int:
        """Find the tag of a target language.

        Raises:
            UserError: there is none.
        """
        if language in self.tags:
            return self.tags[language]
        known = ", ".join(sorted(self.tags))
        raise UserError(
            f"the vocabulary has no tag for the target language '{language}'"
            + (f"; it has tags for {known}" if known else ", or for any other language")
        )

    @cached_property
    def names(self) -> list[str]:
        """The pieces in the order of their ids, the special ones by SentencePiece's names."""
        return [self._api.id_to_piece(number) for number in range(len(self))]

    @cached_property
    def surfaces(self) -> list[str]:
        """What each id adds to a text: a piece with its space; of special ids and tags, nothing.

        A byte is what Python's `surrogateescape` makes of it: `whole_text` puts several together.
        """
        return [self._surface(number) for number in range(len(self))]

    def _surface(self, number: int) -> str:
        if number in self.control or self._api.is_control(number):
            return ""
        name = self.names[number]
        if self._api.is_byte(number):
            return bytes([int(name[1:-1], 16)]).decode("utf-8", "surrogateescape")
        return name.replace("▁", " ")

    def cut(self, text: str) -> list[str]:
        """Cut a line of text, after `normalize`, as `encode` does; the unknown stays as it is."""
        normal = normalize(text)
        ids = self._api.encode(normal, out_type=int)
        pieces = self._api.encode(normal, out_type=str)
        return [
            piece.replace("▁", " ") if number == UNK else self.surfaces[number]
            for number, piece in zip(ids, pieces, strict=True)
        ]

    def knows(self, letter: str) -> bool:
        """Whether a single character can be written with the pieces."""
        return UNK not in self._api.encode(letter, out_type=int)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Name each id: its piece, or what stands for a special one."""
        shown = dict(enumerate(("<pad>", "<s>", "</s>", "<unk>")))
        shown |= {number: f"<2{language}>" for language, number in self.tags.items()}
        return [shown.get(piece) or self.names[piece] for piece in ids]


def target_tag(vocabulary: Vocabulary, to: str | None, default: str | None) -> int | None:
    """Find the tag that a source sentence begins with; none where there are no tags.

    Args:
        vocabulary: of the source.
        to: the language that is asked for.
        default: the language where none is; none: there are no tags.

    Raises:
        UserError: there is no such tag.
    """
    if default is not None:
        return vocabulary.tag(to or default)
    if to is not None:
        raise UserError(
            f"the model can't be asked for the target language '{to}': it was trained without tags"
            " (data.tags)"
        )
    return None


def tagged(sentences: list[list[int]], tag: int | None) -> list[list[int]]:
    """Begin sentences with a tag, where there is one; empty ones stay empty."""
    if tag is None:
        return sentences
    return [[tag, *sentence] if sentence else [] for sentence in sentences]


def shared_pieces(old: Vocabulary, new: Vocabulary) -> dict[int, int]:
    """Find the pieces that two vocabularies share: ids in the new one, and in the old one.

    Special pieces are the same by their ids, whatever they are called.
    """
    places = {piece: number for number, piece in enumerate(old.names) if number >= NUM_SPECIAL}
    shared = {number: number for number in range(NUM_SPECIAL)}
    for number, piece in enumerate(new.names):
        if number >= NUM_SPECIAL and piece in places:
            shared[number] = places[piece]
    return shared


class Vocabularies(NamedTuple):
    """The vocabulary of each side; the same object twice where it is joint."""

    source: Vocabulary
    target: Vocabulary

    @property
    def joint(self) -> bool:
        """Whether both sides share one vocabulary."""
        return self.source is self.target

    @property
    def digest(self) -> str:
        """What tells these vocabularies from any others."""
        digest = hashlib.sha256()
        for name, vocabulary in self._by_name().items():
            digest.update(name.encode() + hashlib.sha256(vocabulary.model).digest())
        return digest.hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each model, by the name of its file."""
        return {
            f"{name}.model": hashlib.sha256(vocabulary.model).hexdigest()
            for name, vocabulary in self._by_name().items()
        }

    @property
    def sizes(self) -> dict[str, int]:
        """Number of pieces of each model, by the name of its file."""
        return {f"{name}.model": len(vocabulary) for name, vocabulary in self._by_name().items()}

    def file_of(self, side: Side) -> str:
        """Name the file of a side's model."""
        return "joint.model" if self.joint else f"{side}.model"

    def save(self, folder: Path) -> None:
        """Write the models into a folder: `joint.model`, or `source.model` and `target.model`."""
        for name, vocabulary in self._by_name().items():
            (folder / f"{name}.model").write_bytes(vocabulary.model)

    def _by_name(self) -> dict[str, Vocabulary]:
        if self.joint:
            return {"joint": self.source}
        return {"source": self.source, "target": self.target}

    @staticmethod
    def load(folder: Path, digests: Mapping[str, str] | None = None) -> "Vocabularies":
        """Read what `save` has written.

        Args:
            folder: that it was written to.
            digests: of the models that belong there; none where nobody knows.

        Raises:
            ModelError: a vocabulary is missing or damaged, or doesn't belong there.
        """

        def read(name: str) -> Vocabulary:
            path = folder / f"{name}.model"
            try:
                return Vocabulary(path.read_bytes(), name=str(path))
            except OSError as error:
                raise ModelError(
                    f"the vocabulary {path} can't be read: {error.strerror}"
                ) from error

        if (folder / "joint.model").exists():
            joint = read("joint")
            found = Vocabularies(joint, joint)
        else:
            found = Vocabularies(read("source"), read("target"))
        for name, digest in found.digests.items():
            if digests is not None and digests.get(name) != digest:
                raise ModelError(
                    f"the vocabulary {folder / name} doesn't belong to the model in that folder,"
                    " whose config.json has another digest of it: put the model's own back, or copy"
                    " the whole folder again"
                )
        return found
