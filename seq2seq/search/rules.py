"""What may follow a hypothesis, beside what the network says."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seq2seq.search.constraints import Avoided, Required
from seq2seq.search.scorer import Symbols

_NONE = float("-inf")


class Wishes(NamedTuple):
    """What is wanted of a sentence's translation; lengths count tokens, without the end."""

    shortest: int
    longest: int
    prefix: Sequence[int] = ()
    """What it begins with; whatever these are, they are taken."""
    required: Required | None = None
    avoided: Avoided | None = None


class Rules:
    """What rules out tokens, or makes them less likely, for the sentences of a batch."""

    def __init__(
        self,
        wishes: Sequence[Wishes],
        symbols: Symbols,
        *,
        block_ngrams: int,
        repetition_penalty: float,
        device: torch.device,
    ):
        self._wishes, self._symbols = wishes, symbols
        self._ngram, self._penalty = block_ngrams, repetition_penalty
        self._never = torch.tensor(symbols.never, device=device)
        self._shortest = torch.tensor([max(w.shortest, len(w.prefix)) for w in wishes]).to(device)
        self._longest = torch.tensor([max(w.longest, len(w.prefix)) for w in wishes]).to(device)
        prefixes = [torch.tensor(wish.prefix, dtype=torch.long) for wish in wishes]
        self._prefixes = pad_sequence(prefixes, batch_first=True, padding_value=-1).to(device)
        self._worded = [
            number
            for number, wish in enumerate(wishes)
            if wish.required is not None or wish.avoided is not None
        ]

    def apply(
        self,
        log_probabilities: Float[Tensor, "rows vocab"],
        sentences: Int[Tensor, " rows"],
        tokens: Int[Tensor, "rows length"],
    ) -> Float[Tensor, "rows vocab"]:
        """Change, in place, what the network says of each hypothesis (rows).

        Args:
            log_probabilities: what the network says.
            sentences: which one each hypothesis translates.
            tokens: of the hypotheses so far, the start symbol first.
        """
        length = tokens.shape[1] - 1
        forced = self._forced(log_probabilities, sentences, length)
        if self._penalty != 1.0:
            _penalise(log_probabilities, tokens, self._penalty)
        if self._ngram and length >= self._ngram:
            _block(log_probabilities, tokens, self._ngram)
        never = log_probabilities[:, self._never]
        log_probabilities[:, self._never] = _NONE
        if self._worded:
            self._heed_words(log_probabilities, never, sentences, tokens)
        self._heed_lengths(log_probabilities, sentences, length)
        if forced is not None:
            rows, following, values = forced
            log_probabilities[rows] = _NONE
            log_probabilities[rows, following] = values
        return log_probabilities

    def _heed_lengths(self, log_probabilities: Tensor, sentences: Tensor, length: int) -> None:
        end = log_probabilities[:, self._symbols.end].clone()
        end.masked_fill_(length < self._shortest[sentences], _NONE)
        last = (length >= self._longest[sentences]).nonzero().squeeze(1)
        log_probabilities[last] = _NONE
        log_probabilities[:, self._symbols.end] = end

    def _forced(
        self, log_probabilities: Tensor, sentences: Tensor, length: int
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Say which hypotheses go on with a prefix's token, with which, and what it scores."""
        if length >= self._prefixes.shape[1]:
            return None
        following = self._prefixes[sentences, length]
        places = (following >= 0).nonzero().squeeze(1)
        which = following[places]
        return places, which, log_probabilities[places, which]

    def _heed_words(
        self, log_probabilities: Tensor, never: Tensor, sentences: Tensor, tokens: Tensor
    ) -> None:
        """Rule out what completes an avoided text, and the end where something is missing.

        What is required may have tokens that otherwise never come, such as the unknown one.
        """
        worded = set(self._worded)
        for row, sentence in enumerate(sentences.tolist()):
            if sentence not in worded:
                continue
            wish, history = self._wishes[sentence], tokens[row, 1:].tolist()
            if wish.required is not None:
                progress = wish.required.progress(history)
                for place, token in enumerate(self._symbols.never):
                    if token in progress.following:
                        log_probabilities[row, token] = never[row, place]
                if not progress.is_complete:
                    log_probabilities[row, self._symbols.end] = _NONE
            if wish.avoided is not None:
                log_probabilities[row, wish.avoided.next_after(history)] = _NONE


def _penalise(log_probabilities: Tensor, tokens: Tensor, penalty: float) -> None:
    """Make what came before less likely: Keskar et al. 2019, "CTRL", section 4.1."""
    before = log_probabilities.gather(1, tokens)
    log_probabilities.scatter_(1, tokens, before * penalty)


def _block(log_probabilities: Tensor, tokens: Tensor, size: int) -> None:
    """Rule out what would make a sequence of `size` tokens come twice."""
    windows = tokens[:, 1:].unfold(1, size, 1)
    ending = tokens[:, tokens.shape[1] - (size - 1) :]
    same = (windows[:, :, :-1] == ending[:, None]).all(dim=2)
    rows, places = same.nonzero(as_tuple=True)
    log_probabilities[rows, windows[rows, places, -1]] = _NONE
