"""Cutting a global batch into shares for processes, and shares into micro-batches for a device."""

from itertools import pairwise

import numpy

from seq2seq.data.plan import Indices, Integers, Lengths

_PLACES = 32  # that are looked at for each cut
_NEVER = 2**62  # positions


def cut(
    batch: Indices, lengths: Lengths, *, rank: int, world_size: int, tokens_per_device: int
) -> list[Indices]:
    """Cut one process's share of a global batch into micro-batches that fit its device.

    The process takes every `world_size`-th example in order of length. All processes get as many
    micro-batches as the one that needs most; those of a process that has run out are empty.

    Args:
        batch: a global batch, in order of length.
        lengths: of all examples.
        rank: of the process.
        world_size: number of processes.
        tokens_per_device: most padded source and target positions in a micro-batch; a single
            example may have more.

    Returns:
        Micro-batches: indices of examples, together the process's share.
    """
    shares = [
        _ordered(batch[other::world_size], lengths, tokens_per_device)
        for other in range(world_size)
    ]
    most = max(len(ends) for _, ends in shares)
    pieces = _cut_well(*shares[rank], lengths, tokens_per_device)
    return pieces + [batch[:0]] * (most - len(pieces))


def cut_share(share: Indices, lengths: Lengths, tokens_per_device: int) -> list[Indices]:
    """Cut examples into micro-batches, none of which is empty."""
    return _cut_well(*_ordered(share, lengths, tokens_per_device), lengths, tokens_per_device)


def in_order_of_length(examples: Indices, lengths: Lengths) -> Indices:
    """Sort examples by the length of the target, then of the source; the same ones keep theirs."""
    return examples[numpy.lexsort((lengths.source[examples], lengths.target[examples]))]


def padded_positions(examples: Indices, lengths: Lengths) -> int:
    """Count the source and target positions of a batch of examples, padding included."""
    longest = sum(int(side[examples].max(initial=0)) for side in lengths)
    return len(examples) * longest


def padded_pairs(examples: Indices, lengths: Lengths) -> int:
    """Count the pairs of a source and a target position of one example, padding included."""
    source, target = (int(side[examples].max(initial=0)) for side in lengths)
    return len(examples) * source * target


def _ordered(share: Indices, lengths: Lengths, tokens: int) -> tuple[Indices, list[int]]:
    """Put examples in the order in which they take the fewest micro-batches; say where these end.

    Of orders that take as many it is the one with the fewest padded positions.
    """
    share = in_order_of_length(share, lengths)
    sides = Lengths(*(side[share].astype(numpy.int64) for side in lengths))
    real = int(sides.source.sum() + sides.target.sum())
    candidates = [numpy.arange(len(share))]
    if real > tokens:
        stripes = round((real / tokens) ** 0.5)
        candidates.append(_in_stripes(sides.target, sides.source, stripes))
        candidates.append(_in_stripes(sides.source, sides.target, stripes))
    best: tuple[tuple[int, int], Indices, list[int]] | None = None
    for order in candidates:
        arranged = Lengths(*(side[order] for side in sides))
        ends = _ends(arranged, tokens)
        positions = sum(
            padded_positions(numpy.arange(*ends_of), arranged) for ends_of in pairwise([0, *ends])
        )
        if best is None or (len(ends), positions) < best[0]:
            best = (len(ends), positions), share[order], ends
    assert best is not None
    return best[1], best[2]


def _in_stripes(first: Integers, second: Integers, number: int) -> Indices:
    """Order examples by one length in stripes of as many, and up and down by the other in each."""
    order = numpy.lexsort((second, first))
    stripes = numpy.empty_like(order)
    stripes[order] = numpy.arange(len(order)) * max(1, number) // max(1, len(order))
    return numpy.lexsort((numpy.where(stripes % 2, -second, second), stripes))


def _ends(sides: Lengths, tokens: int) -> list[int]:
    """Find where micro-batches end that are filled one after the other: none are fewer."""
    ends: list[int] = []
    start, number = 0, len(sides.target)
    while start < number:
        window = slice(start, start + 1 + tokens // int(sides.source[start] + sides.target[start]))
        source, target = (numpy.maximum.accumulate(side[window]) for side in sides)
        padded = numpy.arange(1, len(source) + 1) * (source + target)
        start += max(1, int(numpy.searchsorted(padded, tokens, side="right")))
        ends.append(start)
    return ends


def _cut_well(share: Indices, latest: list[int], lengths: Lengths, tokens: int) -> list[Indices]:
    """Cut examples where it takes the fewest padded positions.

    Args:
        share: the examples in order.
        latest: where as few micro-batches as may be end at the latest.
        lengths: of all examples.
        tokens: most padded positions in a micro-batch.
    """
    if len(latest) < 2:
        return [share] if len(share) else []
    sides = Lengths(*(side[share].astype(numpy.int64) for side in lengths))
    backwards = _ends(Lengths(*(side[::-1] for side in sides)), tokens)
    earliest = [len(share) - end for end in [0, *backwards[:-1]]][::-1]
    places = [numpy.zeros(1, numpy.int64), *map(_between, earliest, latest)]
    ways: list[Indices] = []
    fewest = numpy.zeros(1, numpy.int64)
    for starts, ends in pairwise(places):
        sums = fewest[:, None] + _positions(starts, ends, sides, tokens)
        ways.append(sums.argmin(axis=0))
        fewest = sums.min(axis=0)
    return _pieces(share, places, ways)


def _between(first: int, last: int) -> Indices:
    """Give numbers from `first` to `last`, both among them: all, or some at even distances."""
    number = min(_PLACES, last - first + 1)
    return first + numpy.arange(number) * (last - first) // max(1, number - 1)


def _positions(starts: Indices, ends: Indices, sides: Lengths, tokens: int) -> Indices:
    """Count the padded positions from each start to each end; what can't be, costs too much."""
    places = numpy.arange(starts[0], ends[-1])
    after = places >= starts[:, None]
    source, target = (
        numpy.maximum.accumulate(numpy.where(after, side[places], 0), axis=1) for side in sides
    )
    sizes = ends - starts[:, None]
    positions = sizes * (source + target)[:, ends - 1 - starts[0]]
    return numpy.where((sizes > 0) & ((positions <= tokens) | (sizes == 1)), positions, _NEVER)


def _pieces(share: Indices, places: list[Indices], ways: list[Indices]) -> list[Indices]:
    """Go back along the best way: which place of a cut was reached from which one of the last."""
    chosen, cuts = 0, [len(share)]
    for starts, way in zip(places[-2::-1], ways[::-1], strict=True):
        chosen = int(way[chosen])
        cuts.append(int(starts[chosen]))
    return [share[start:end] for start, end in pairwise(cuts[::-1])]
