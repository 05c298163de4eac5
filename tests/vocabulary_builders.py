"""Text to learn vocabularies from, and small ones."""

from typing import Any

from seq2seq.config import VocabularyConfig
from seq2seq.vocabulary import NUM_SPECIAL, Vocabularies, Vocabulary, normalize
from seq2seq.vocabulary_learning import train_vocabularies

BREAKS = "\0\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
BYTE_ORDER_MARK = "\ufeff"
# What SentencePiece, and other programs, would take for something else than text.
SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "<2de>", "<0x0A>", "[MASK]", "@@", "⁇"]
SIZE = 56  # of a vocabulary of the sentences below, joint or not
ALPHABET = "abcdehiklnorstuwÄäéß☃漢0123456789.,!'<>/ "


def sentences(
    number: str, things: tuple[str, ...], verbs: tuple[str, ...], places: tuple[str, ...]
) -> list[str]:
    return [
        f"{number} {100 + i}: {things[i % len(things)]} {verbs[i % len(verbs)]}"
        f" {places[i % len(places)]}."
        for i in range(60)
    ]


ENGLISH = sentences(
    "Number",
    ("the bicycle", "the mirror", "the clock", "the barrel", "the kettle", "the letter"),
    ("lies", "stands", "waits", "creaks", "gleams"),
    ("at the ferry", "behind the mill", "beside the oven", "over the gate"),
)
GERMAN = sentences(
    "Nummer",
    ("das Fahrrad", "der Spiegel", "die Uhr", "das Fass", "der Kessel", "der Brief"),
    ("liegt", "steht", "wartet", "knarrt", "glänzt"),
    ("an der Fähre", "hinter der Mühle", "neben dem Ofen", "über dem Tor"),
)


def learn(source: list[str], target: list[str], **settings: Any) -> Vocabularies:
    return train_vocabularies(source, target, VocabularyConfig(**settings))


def learn_one(lines: list[str], **settings: Any) -> Vocabulary:
    """A vocabulary of the text, not much larger than its alphabet."""
    characters = {character for line in lines for character in normalize(line)}
    size = len(characters | {" "}) + NUM_SPECIAL + 5
    return learn(lines, [], **{"size": size, **settings}).source
