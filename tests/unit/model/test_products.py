"""Products and tanh by other ways than torch's own: the same numbers."""

import pytest
import torch

from seq2seq.model.products import compiled_rows, linear, tanh


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (17, 5), (0, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("by_onednn", {False, torch.backends.mkldnn.is_available()})
def test_a_product_is_torchs(
    shape: tuple[int, ...], has_bias: bool, by_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq.model.products._BY_ONEDNN", by_onednn)  # on any machine
    inputs, weight = numbers(*shape, seed=1), numbers(7, 9)[:, 2:7]  # not in one piece
    bias = numbers(7, seed=2) if has_bias else None
    exact = torch.nn.functional.linear(inputs, weight, bias)
    torch.testing.assert_close(linear(inputs, weight, bias), exact, atol=0, rtol=0)
    single = linear(inputs.float(), weight.float(), None if bias is None else bias.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=1e-5, rtol=1e-5)


def test_some_sizes_do_for_all_numbers_of_rows() -> None:
    assert [compiled_rows(number) for number in (0, 1, 16, 17, 33, 1000)] == [
        0,
        1,
        16,
        18,
        36,
        1024,
    ]
    numbers = range(1, 5000)
    assert all(number <= compiled_rows(number) <= 1.125 * number for number in numbers)
    assert len({compiled_rows(number) for number in numbers}) < 90


def test_tanh_is_torchs() -> None:
    values = torch.cat((numbers(1000) * 5, torch.tensor([0.0, 800.0, -800.0])))
    torch.testing.assert_close(tanh(values), values.tanh(), atol=1e-15, rtol=0)
    assert tanh(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
