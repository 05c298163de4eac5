"""Looking inside a model: which source pieces it attended to for each piece that it wrote."""

import contextlib
import re
import textwrap
import warnings
from collections.abc import Generator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from seq2seq.errors import UserError
from seq2seq.files import write_whole
from seq2seq.model_folder import Model
from seq2seq.terminal import say, visible
from seq2seq.translation import Request, Translation, Translator
from seq2seq.vocabulary import EOS, blank

_CELL = 0.34  # inches
_LONGEST_SIDE = 30.0  # inches: viewers still open it
_DOTS_PER_INCH = 150
# The first comes with matplotlib; the others, where installed, have the scripts that it lacks.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Unifont",
)
_told_missing: set[str] = set()  # characters without a glyph: training draws them over and over


def draw_attention(
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
    weights: Sequence[Sequence[float]],
    *,
    title: str,
) -> bytes:
    """Draw one row for each target piece and one column for each source piece.

    Returns:
        A PNG file's content.
    """
    assert source_pieces, "a picture needs a source piece"
    assert len(weights) == len(target_pieces) > 0, "weights have one row for each target piece"
    assert all(len(row) == len(source_pieces) for row in weights), "and one column for each source"
    # Loading matplotlib takes a second that only those who draw should wait.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cell = min(_CELL, _LONGEST_SIDE / max(len(source_pieces), len(target_pieces)))
    width, height = cell * len(source_pieces), cell * len(target_pieces)
    # The labels stand outside of the figure; "tight" makes the picture as large as they need.
    # Any, since matplotlib's stubs leave keyword arguments untyped.
    figure: Any = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    _label(axes, source_pieces, target_pieces, font_size=min(10.0, 0.6 * 72 * cell))
    title_lines = textwrap.fill(visible(title), max(32, round(12 * width)))
    axes.set_title(title_lines, loc="left", fontsize=11, pad=10, **_text_style())
    bar_height = min(1.0, 2.5 / height)
    bar = figure.add_axes((1 + 0.2 / width, 1 - bar_height, 0.12 / width, bar_height))
    figure.colorbar(image, cax=bar, ticks=[0.0, 0.5, 1.0]).outline.set_visible(False)
    bar.tick_params(labelsize=8, length=2)
    content = BytesIO()
    with _missing_glyphs_told():
        figure.savefig(content, format="png", bbox_inches="tight", pad_inches=0.15)
    return content.getvalue()


def _label(
    axes: Any, source_pieces: Sequence[str], target_pieces: Sequence[str], *, font_size: float
) -> None:
    sides = ((axes.xaxis, source_pieces), (axes.yaxis, target_pieces))
    for axis, pieces in sides:
        texts = map(visible, pieces)
        names = [text if len(text) <= 40 else f"{text[:39]}…" for text in texts]
        axis.set_ticks(range(len(names)), names, fontsize=font_size, **_text_style())
        axis.set_ticks([place - 0.5 for place in range(1, len(names))], minor=True)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", which="major", rotation=90)
    axes.tick_params(which="both", length=0)
    axes.grid(which="minor", color="#d8dee6", linewidth=0.5)
    axes.spines[:].set_color("#9aa5b1")


def _text_style() -> dict[str, Any]:
    """Text as it is, in the installed ones of the fonts: `$` and `_` are no formulas."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    fonts = [font for font in _FONTS if font in installed]
    return {"family": fonts, "parse_math": False, "usetex": False}


@contextlib.contextmanager
def _missing_glyphs_told() -> Generator[None, None, None]:
    """Say once which characters are boxes; matplotlib warns for each, twice a picture."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = "\n".join(str(warning.message) for warning in caught)
    missing = {chr(int(code)) for code in re.findall(r"^Glyph (\d+) .*missing", told, re.MULTILINE)}
    if new := sorted(missing - _told_missing):
        _told_missing.update(new)
        say(f"no installed font has these characters of the picture: {' '.join(new)}")


def attention_picture(
    translator: Translator, sentence: str | Request, translation: Translation
) -> bytes:
    """Draw what a network looks at while it writes a translation.

    Args:
        translator: with the network, in evaluation mode, and its vocabularies.
        sentence: the source, not blank.
        translation: of the sentence.

    Returns:
        A PNG file's content.
    """
    (source,) = translator.encode([sentence])
    return draw_attention(
        translator.vocabularies.source.pieces(source),
        translator.vocabularies.target.pieces([*translation.tokens, EOS]),
        translator.attention(source, translation.tokens),
        title=translation.text,
    )


def attention_pictures(
    translator: Translator, lines: Sequence[str | Request], number: int
) -> list[bytes]:
    """Translate and draw the first lines that aren't blank, so many as there are up to `number`."""
    requests = (Request(line) if isinstance(line, str) else line for line in lines)
    chosen = list(islice((request for request in requests if not blank(request.text)), number))
    pairs = zip(chosen, translator.translate(chosen), strict=True)
    return [attention_picture(translator, line, translation) for line, translation in pairs]


def inspect_attention(model: Model, sentence: str, path: Path, to: str | None = None) -> str:
    """Translate a sentence and draw what was attended to.

    The file is written whole or not at all; its folder is made where it is missing.

    Args:
        model: the model.
        sentence: to translate.
        path: of the picture.
        to: the language to translate into, as in `Request`.

    Raises:
        UserError: the sentence is blank, the model doesn't know the language, or the picture can't
            be written.

    Returns:
        The translation.
    """
    if blank(sentence):
        raise UserError("the sentence to inspect is blank: give some text")
    if any("\ud800" <= character <= "\udfff" for character in sentence):
        raise UserError("the sentence to inspect is not UTF-8")
    default = model.config.data.default_target
    translator = Translator(model.network, model.vocabularies, model.config.search, to=default)
    request = Request(sentence, to=to)
    (translation,) = translator.translate([request])
    write_whole(path, attention_picture(translator, request, translation))
    return translation.text
