"""The picture of which source pieces each target piece came from."""

import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from seq2seq.errors import UserError
from seq2seq.inspection import draw_attention


def size_of(picture: Path) -> tuple[int, int]:
    start = picture.read_bytes()[:24]
    assert start[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", start[16:])
    return width, height


def draw(path: Path, *, source: int = 2, target: int = 2, title: str = "title") -> None:
    weights = [[1 / source] * source] * target
    draw_attention(["▁a"] * source, ["▁b"] * target, weights, path, title=title)


def test_the_picture_grows_with_the_sentence(tmp_path: Path) -> None:
    draw(tmp_path / "wide.png", source=20)
    draw(tmp_path / "high.png", target=20)
    wide, high = size_of(tmp_path / "wide.png"), size_of(tmp_path / "high.png")
    assert wide[0] > 800 > wide[1]
    assert high[1] > 800 > high[0]


def test_dark_cells_are_where_the_weights_are(tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "a.png"
    weights = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]  # right column, upper row
    draw_attention(["a", "b", "c"], ["d", "e"], weights, path, title="")
    red, green, blue = (imread(path)[:, :, channel] for channel in range(3))
    dark_blue = (red < 0.1) & (green < 0.25) & (blue > 0.35)
    columns = dark_blue.sum(axis=0) > 25  # the colour bar is dark for a few pixels only
    assert 45 < columns.sum() < 55
    rows = dark_blue[:, columns].sum(axis=1) > 25
    assert 45 < rows.sum() < 55


def test_the_folder_is_made_and_nothing_else_is_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    draw(path)
    draw(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_any_text_is_drawn_as_text(tmp_path: Path) -> None:
    texts = ["$x$ $", "a_b^c", r"\frac{", "\x1b[0m\n\x00", "", "x" * 300]
    weights = [[0.1] * len(texts)] * len(texts)
    draw_attention(texts, texts, weights, tmp_path / "a.png", title=" ".join(texts))
    assert max(size_of(tmp_path / "a.png")) < 1500


def test_characters_without_a_glyph_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unassigned = "\U000e1234"  # no font has it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_attention([unassigned] * 3, ["b"], [[0.1] * 3], tmp_path / "a.png", title="t")
    err = capsys.readouterr().err
    assert re.fullmatch(r"no installed font has these characters of the picture: .\n", err)


def test_a_place_that_takes_no_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(UserError, match=re.escape(f"{path} can't be written")):
            draw(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("weights", [[], [[1.0]], [[0.5, 0.5]], [[0.5, 0.5], [1.0]]])
def test_weights_of_another_shape_are_our_mistake(
    weights: list[list[float]], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        draw_attention(["a", "b"], ["c", "d"], weights, tmp_path / "a.png", title="t")
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_loaded_by_those_who_draw_only() -> None:
    script = "import sys, seq2seq.inspection; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
