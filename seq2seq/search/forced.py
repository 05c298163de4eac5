"""What a network thinks of translations that are given."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.search.hypothesis import coverage
from seq2seq.search.scorer import Scorer, Symbols


class Forced(NamedTuple):
    """A given translation, as the network sees it."""

    log_probabilities: list[float]
    """Of each token and the end, in nats."""
    attention: list[list[float]]
    """Weights of the source positions for each token and the end."""
    coverage: float
    """What `hypothesis.coverage` says of them."""


@torch.no_grad()
def force(
    network: Scorer,
    source: Int[Tensor, "source_len batch"],
    lengths: Int[Tensor, " batch"],
    targets: Sequence[Sequence[Sequence[int]]],
    *,
    symbols: Symbols,
) -> list[list[Forced]]:
    """Go through given translations, as search would if it were to find them.

    Args:
        network: what scores; in evaluation mode.
        source: ids, padded.
        lengths: numbers of real source ids, at least 1.
        targets: translations of each sentence, without special ids.
        symbols: the special ids.
    """
    most = max(map(len, targets))
    whole = [[[*each, symbols.end] for each in several] for several in targets]
    longest = max(len(each) for several in whole for each in several)
    wanted = torch.full((len(targets), most, longest), -1, device=source.device)
    for row, several in enumerate(whole):
        for place, each in enumerate(several):
            wanted[row, place, : len(each)] = torch.tensor(each, device=source.device)
    scores, attention = _run(network, source, lengths, wanted, symbols.start)
    real = torch.arange(len(source), device=source.device) < lengths[:, None]
    attended = (attention * (wanted >= 0)[..., None]).sum(dim=2) + (~real)[:, None]
    covered = coverage(attended).tolist()
    return [
        [
            Forced(
                scores[row, place, : len(each)].tolist(),
                attention[row, place, : len(each), : int(lengths[row])].tolist(),
                covered[row][place],
            )
            for place, each in enumerate(several)
        ]
        for row, several in enumerate(whole)
    ]


def _run(
    network: Scorer,
    source: Tensor,
    lengths: Tensor,
    wanted: Int[Tensor, "batch beam target_len"],
    start: int,
) -> tuple[
    Float[Tensor, "batch beam target_len"], Float[Tensor, "batch beam target_len source_len"]
]:
    """Give the log-probability of each wanted token, and the attention that came before it."""
    memory = network.encode(source, lengths)
    state = network.start(memory, wanted.shape[1])
    tokens = wanted.new_full(wanted.shape[:2], start)
    scores: list[Tensor] = []
    attention: list[Tensor] = []
    for following in wanted.unbind(2):
        step = network.step(memory, state, tokens)
        real = (following.flatten() >= 0).nonzero().squeeze(1)
        rows = network.log_probabilities(step.features.flatten(0, 1).index_select(0, real))
        values = rows.new_zeros(following.numel())
        values[real] = rows.gather(1, following.flatten()[real, None]).squeeze(1)
        scores.append(values.view_as(following))
        attention.append(step.attention)
        state, tokens = step.state, following.clamp(min=0)
    return torch.stack(scores, dim=2), torch.stack(attention, dim=2)
