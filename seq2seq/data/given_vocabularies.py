"""Vocabularies that are there before the data is prepared: a base model's, or those of files."""

from seq2seq.config import Config, VocabularyFiles
from seq2seq.model_description import ModelDescription
from seq2seq.vocabulary import Vocabularies
from seq2seq.vocabulary_files import read_vocabularies


def given_vocabularies(config: Config) -> Vocabularies | None:
    """Read the vocabularies that a config gives; none where they are to be learnt.

    Raises:
        UserError: one is missing or damaged, doesn't belong there, or is no vocabulary.
    """
    if config.base is not None and config.base.vocabulary == "base":
        base = config.base.model
        return Vocabularies.load(base, ModelDescription.load(base).vocabularies)
    if isinstance(config.vocabulary, VocabularyFiles):
        return read_vocabularies(config.vocabulary)
    return None
