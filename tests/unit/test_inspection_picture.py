"""The picture of which source pieces each target piece came from."""

import re
import struct
import subprocess
import sys
import warnings
from io import BytesIO
from pathlib import Path

import pytest

from seq2seq.inspection import draw_attention


def size_of(picture: bytes) -> tuple[int, int]:
    start = picture[:24]
    assert start[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", start[16:])
    return width, height


def draw(*, source: int = 2, target: int = 2) -> bytes:
    weights = [[1 / source] * source] * target
    return draw_attention(["▁a"] * source, ["▁b"] * target, weights, title="title")


def test_the_picture_grows_with_the_sentence() -> None:
    wide, high = size_of(draw(source=20)), size_of(draw(target=20))
    assert wide[0] > 800 > wide[1]
    assert high[1] > 800 > high[0]


def test_dark_cells_are_where_the_weights_are() -> None:
    from matplotlib.image import imread

    weights = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]  # right column, upper row
    picture = imread(BytesIO(draw_attention(["a", "b", "c"], ["d", "e"], weights, title="")))
    red, green, blue = (picture[:, :, channel] for channel in range(3))
    dark_blue = (red < 0.1) & (green < 0.25) & (blue > 0.35)
    columns = dark_blue.sum(axis=0) > 25  # the colour bar is dark for a few pixels only
    assert 45 < columns.sum() < 55
    rows = dark_blue[:, columns].sum(axis=1) > 25
    assert 45 < rows.sum() < 55


def test_any_text_is_drawn_as_text() -> None:
    texts = ["$x$ $", "a_b^c", r"\frac{", "\x1b[0m\n\x00", "", "x" * 300]
    weights = [[0.1] * len(texts)] * len(texts)
    assert max(size_of(draw_attention(texts, texts, weights, title=" ".join(texts)))) < 1500


def test_characters_without_a_glyph_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    unassigned = "\U000e1234"  # no font has it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            draw_attention([unassigned] * 3, ["b"], [[0.1] * 3], title="t")
    err = capsys.readouterr().err
    assert re.fullmatch(r"no installed font has these characters of the picture: .\n", err)


@pytest.mark.parametrize("weights", [[], [[1.0]], [[0.5, 0.5]], [[0.5, 0.5], [1.0]]])
def test_weights_of_another_shape_are_our_mistake(weights: list[list[float]]) -> None:
    with pytest.raises(AssertionError):
        draw_attention(["a", "b"], ["c", "d"], weights, title="t")


def test_matplotlib_is_loaded_by_those_who_draw_only() -> None:
    script = "import sys, seq2seq.inspection; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
