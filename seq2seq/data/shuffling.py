"""Shuffling without a list to shuffle: bijections that can be undone."""

import numpy
import numpy.typing

Numbers = numpy.typing.NDArray[numpy.uint64]

_FEWEST_BITS, _ROUNDS = 16, 4


class Draws:
    """Random numbers of a seed and an epoch, the same on all machines.

    numpy promises the bits of a generator for all its versions, but not what its `permutation` and
    its other functions make of them.
    """

    def __init__(self, seed: int, epoch: int):
        self._bits = numpy.random.Philox(key=[seed, epoch])

    def below(self, end: int) -> int:
        """Draw one of 0 … end - 1."""
        return int(self._bits.random_raw()) % end

    def fraction(self) -> float:
        """Draw a number from 0 to 1, which is not among them."""
        return (int(self._bits.random_raw()) >> 11) / 2**53


class Shuffle:
    """A random bijection of the numbers below a power of two onto themselves.

    Where each of many numbers has its place among others that are sorted, those places are a
    shuffle that takes no memory, and of which each number can be computed back.
    """

    def __init__(self, number: int, draws: Draws):
        """Draw a bijection.

        Args:
            number: how many numbers from 0 on it must hold; it may hold more.
            draws: what to draw from.
        """
        self.bits = max(_FEWEST_BITS, (number - 1).bit_length())
        self._mask = numpy.uint64(2**self.bits - 1)
        self._shift = numpy.uint64((self.bits + 1) // 2)  # so far that shifting twice gives nothing
        self._rounds = [
            (2 * draws.below(2 ** (self.bits - 1)) + 1, draws.below(2**self.bits))
            for _ in range(_ROUNDS)
        ]

    def places(self, numbers: Numbers) -> Numbers:
        """Give the place of each number; the array is overwritten."""
        for factor, term in self._rounds:
            numbers *= numpy.uint64(factor)
            numbers += numpy.uint64(term)
            numbers &= self._mask
            numbers ^= numbers >> self._shift
        return numbers

    def numbers(self, places: Numbers) -> Numbers:
        """Give the number at each place, of whose bits above `bits` nothing is left.

        The array is overwritten.
        """
        places &= self._mask
        for factor, term in reversed(self._rounds):
            places ^= places >> self._shift
            places -= numpy.uint64(term)
            places *= numpy.uint64(pow(factor, -1, 2**self.bits))
            places &= self._mask
        return places

    def numbers_below(self, end: int, places: Numbers) -> Numbers:
        """Give the numbers at places below `end`, of a shuffle of `end` numbers, at least one.

        Any can be had without the others, unless they are few: numbers from `end` on are passed
        over (cycle walking). The array is overwritten.
        """
        if 2 * end < 2**self.bits:
            return self.order(end)[places]
        places = self.numbers(places)
        while (beyond := places >= end).any():
            places[beyond] = self.numbers(places[beyond])
        return places

    def order(self, number: int) -> Numbers:
        """Give the numbers below `number` in the order of their places."""
        places = self.places(numpy.arange(number, dtype=numpy.uint64))
        places.sort()
        return self.numbers(places)
