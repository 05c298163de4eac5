"""Vocabularies are learnt from the training text, or from what is drawn from it."""

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import Any, TypeVar, cast

import sentencepiece

from seq2seq.config import VocabularyConfig
from seq2seq.errors import DataError
from seq2seq.terminal import say
from seq2seq.vocabulary import (
    BOS,
    EOS,
    PAD,
    SPECIAL_NAMES,
    TAG_NAME,
    UNK,
    Vocabularies,
    Vocabulary,
    normalize,
)

_MULTIPLE = 8  # of which GPUs like the number of pieces to be
_MAX_BYTES = 1 << 16  # SentencePiece silently skips longer lines
_SUPPORTED_SIZE = re.compile(r"value <= (\d+)")
_REQUIRED_SIZE = re.compile(r"required_chars\.\s*\d+\s*vs\s*(\d+)")

Line = TypeVar("Line")


def train_vocabularies(
    source: Iterable[str],
    target: Iterable[str],
    config: VocabularyConfig,
    tags: Sequence[str] = (),
) -> Vocabularies:
    """Learn the vocabularies from the two sides of some text.

    Args:
        source: lines of one side.
        target: lines of the other side.
        config: what they are to be.
        tags: target languages that get a tag, in each vocabulary.

    Raises:
        DataError: the text can't support the size; the message names one that works for both.
    """
    sides = {"source": [*map(normalize, source)], "target": [*map(normalize, target)]}
    _say_what_is_too_long(sides)
    texts = {"joint": sides["source"] + sides["target"]} if config.joint else sides
    models = _Learner(config, tags).models(texts)
    learnt = {name: Vocabulary(model) for name, model in models.items()}
    return Vocabularies(*(learnt.get("joint") or learnt[side] for side in sides))


def draw(lines: Iterable[Line], number: int, seed: int = 1) -> list[Line]:
    """Draw lines, each as likely as any other, in one pass; all where there are no more.

    Which ones depends on the seed and on how many there are. Li, "Reservoir-Sampling Algorithms of
    Time Complexity O(n(1 + log(N/n)))" (1994), algorithm L.
    """
    rest = iter(lines)
    drawn = list(islice(rest, number))
    numbers, threshold = random.Random(seed), 1.0
    while len(drawn) == number:
        threshold *= (1.0 - numbers.random()) ** (1.0 / number)
        skipped = math.log(1.0 - numbers.random()) / math.log1p(-min(threshold, 1.0 - 1e-16))
        following = next(islice(rest, int(skipped), None), None)
        if following is None:
            break
        drawn[int(numbers.random() * number)] = following
    return drawn


def _say_what_is_too_long(texts: Mapping[str, Sequence[str]]) -> None:
    for name, lines in texts.items():
        number = sum(4 * len(line) > _MAX_BYTES < len(line.encode()) for line in lines)
        if number:
            say(
                f"no pieces are learnt from {number:,} of the {len(lines):,} {name} lines, which"
                f" have more than {_MAX_BYTES:,} bytes"
            )


def rounded_up(size: int) -> int:
    """Give the next multiple of 8."""
    return -(-size // _MULTIPLE) * _MULTIPLE


class _Learner:
    """Learns SentencePiece models of texts by name: of the joint one, or of each side's."""

    def __init__(self, config: VocabularyConfig, tags: Sequence[str]):
        self._config, self._tags = config, tags

    def models(self, texts: Mapping[str, Sequence[str]]) -> dict[str, bytes]:
        """Learn models of the size that is asked for, rounded up if the texts support that.

        Raises:
            DataError: the texts can't support it.
        """
        try:
            return self._rounded(texts) or self._learn_all(texts, self._config.size)
        except RuntimeError as error:
            raise self._unsupported(texts, str(error)) from error

    def _rounded(self, texts: Mapping[str, Sequence[str]]) -> dict[str, bytes] | None:
        """Learn models of a size that is rounded up, if it isn't round and the texts support it."""
        asked = self._config.size
        size = rounded_up(asked)
        if size == asked or self._config.algorithm == "char":
            return None
        try:
            models = self._learn_all(texts, size)
        except RuntimeError:
            return None
        say(f"vocabulary.size={asked} is rounded up to {size}, a multiple of {_MULTIPLE}")
        return models

    def _learn_all(self, texts: Mapping[str, Sequence[str]], size: int) -> dict[str, bytes]:
        return {name: self._learn(lines, size) for name, lines in texts.items()}

    def _unsupported(self, texts: Mapping[str, Sequence[str]], message: str) -> DataError:
        """Say which size would have worked, for a size that did not."""
        asked, algorithm = self._config.size, self._config.algorithm
        sizes = {
            name: size
            for name, lines in texts.items()
            if (size := self._working_size(lines)) is not None
        }
        if not sizes:
            return DataError(f"no vocabulary can be learnt from the training text: {message}")
        too_large = min(sizes.values()) < asked
        choose = min if too_large else max
        name = choose(sizes, key=lambda name: sizes[name])
        size, extreme = sizes[name], "largest" if too_large else "smallest"
        round_size = size // _MULTIPLE * _MULTIPLE if too_large else rounded_up(size)
        for working in (round_size, size):
            if all(self._works(lines, working) for lines in texts.values()):
                return DataError(
                    f"`vocabulary.size` is {asked}, but the {extreme} {name} {algorithm}"
                    f" vocabulary that {len(texts[name])} lines of training text support has"
                    f" {size} pieces: write vocabulary.size={working}"
                )
        return DataError(
            f"no `vocabulary.size` suits both sides of the training text: the {extreme} {name}"
            f" {algorithm} vocabulary has {size} pieces, and the other side can't have that"
            " number: write vocabulary.joint=true"
        )

    def _working_size(self, lines: Sequence[str]) -> int | None:
        """Find the size nearest to the one asked for that works, from SentencePiece's own hint."""
        try:
            self._learn(lines, self._config.size)
        except RuntimeError as error:
            message = str(error)
        else:
            return None
        for pattern, change in ((_SUPPORTED_SIZE, -1), (_REQUIRED_SIZE, 1)):
            if hint := pattern.search(message):
                size = int(hint.group(1))
                for candidate in (size + change * attempt for attempt in range(8)):
                    if self._works(lines, candidate):
                        return candidate
        return None

    def _works(self, lines: Sequence[str], size: int) -> bool:
        try:
            self._learn(lines, size)
        except RuntimeError:
            return False
        return True

    def _learn(self, lines: Sequence[str], size: int) -> bytes:
        model = BytesIO()
        config = self._config
        specials = {f"{name}_piece": piece for name, piece in SPECIAL_NAMES.items()}
        cast(Any, sentencepiece.SentencePieceTrainer).train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=config.algorithm,
            vocab_size=size,
            character_coverage=config.character_coverage,
            split_digits=config.split_digits,
            byte_fallback=config.byte_fallback,
            normalization_rule_name=config.normalization,
            remove_extra_whitespaces=False,
            max_sentence_length=_MAX_BYTES,
            num_threads=16,  # the same on every machine: the result depends on it
            minloglevel=2,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            control_symbols=[f"{TAG_NAME}{language}" for language in sorted(self._tags)],
            user_defined_symbols=[normalize(symbol) for symbol in config.symbols],
            **specials,
        )
        return model.getvalue()
