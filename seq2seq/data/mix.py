"""How often the parts of a mix come."""

from collections.abc import Sequence

from seq2seq.config import DataConfig, MixCorpus


def weights(data: DataConfig, sizes: Sequence[int]) -> list[float]:
    """Say how often an example of each part comes in an epoch: as often, or once more or less.

    With a temperature T a part of n examples gets a share of the epoch that grows with n^(1/T), as
    in Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild" (2019),
    section 4.2; the largest part has each example once.

    Args:
        data: with the corpus; one that is no mix has one part.
        sizes: numbers of training examples of the parts.
    """
    if not isinstance(data.corpus, MixCorpus):
        return [1.0] * len(sizes)
    if data.corpus.temperature is None:
        return [part.weight for part in data.corpus.parts.values()]
    largest, power = max(sizes), 1 - 1 / data.corpus.temperature
    return [(largest / size) ** power if size else 1.0 for size in sizes]
