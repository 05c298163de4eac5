"""Pairs from translation memories, and what is wrong with others."""

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from seq2seq.config import DataConfig
from seq2seq.data.corpus import open_corpora
from seq2seq.data.tmx import read_tmx
from seq2seq.errors import DataError

Pairs = list[tuple[str, str]]
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
HEADER = '<header srclang="en" datatype="plaintext" segtype="sentence" adminlang="en" o-tmf="x"/>'


def unit(**segments: str) -> str:
    """A unit with segments by language, `_` for `-`."""
    variants = [
        f'<tuv xml:lang="{language.replace("_", "-")}"><seg>{text}</seg></tuv>'
        for language, text in segments.items()
    ]
    return f"<tu><note>a note</note>{''.join(variants)}</tu>\n"


def memory(*units: str) -> bytes:
    body = "".join(units)
    return f'{XML}<tmx version="1.4">{HEADER}<body>\n{body}</body></tmx>\n'.encode()


def read(folder: Path, content: bytes, *languages: str, name: str = "a.tmx") -> Pairs:
    path = folder / name
    path.write_bytes(content)
    source, target = languages or ("en", "de")
    return list(read_tmx(path, (source, target)))


def test_segments_by_language_in_the_order_of_the_file(tmp_path: Path):
    content = memory(
        unit(en="one &amp; two", de="eins &amp; zwei", fr="un"),
        unit(de="\u00dcber\nall", en=" over "),
        unit(en="", de="leer"),
    )
    expected = [("one & two", "eins & zwei"), (" over ", "\u00dcber\nall"), ("", "leer")]
    assert read(tmp_path, content) == expected
    assert read(tmp_path, gzip.compress(content), name="a.tmx.gz") == expected
    assert read(tmp_path, content, "fr", "de") == [("un", "eins & zwei")]


@pytest.mark.parametrize(("english", "german"), [("en_GB", "DE"), ("EN", "de_AT"), ("en", "de")])
def test_languages_by_their_codes(tmp_path: Path, english: str, german: str):
    content = memory(unit(**{"eng": "no", "den": "no", english: "one", german: "eins"}))
    assert read(tmp_path, content) == [("one", "eins")]
    assert read(tmp_path, content, english.upper(), german.lower()) == [("one", "eins")]


def test_the_first_segment_of_a_language_counts(tmp_path: Path):
    content = memory(unit(en_GB="colour", en_US="color", de="Farbe"))
    assert read(tmp_path, content) == [("colour", "Farbe")]
    assert read(tmp_path, content, "en-US", "de") == [("color", "Farbe")]
    older = content.replace(b"xml:lang", b"lang")
    assert read(tmp_path, older) == [("colour", "Farbe")]


def test_formatting_is_left_out_and_text_kept(tmp_path: Path):
    english = (
        '<bpt i="1">&lt;b&gt;<sub>a footnote</sub></bpt>Press <hi>the <hi>red</hi></hi> key<ept'
        ' i="1">&lt;/b&gt;</ept> <ph x="2">%s</ph>twice<it pos="begin">{x}</it>.<ut>{y}</ut>'
    )
    content = memory(unit(en=english, de="Die rote Taste zweimal."))
    assert read(tmp_path, content) == [("Press the red key twice.", "Die rote Taste zweimal.")]


def test_units_that_lack_a_side_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = memory(unit(en="one", de="eins"), unit(en="two"), unit(fr="deux", de="zwei"), "<tu/>")
    assert read(tmp_path, content) == [("one", "eins")]
    assert "3 of 4 units lack one of 'en' and 'de' and are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "languages", "message"),
    [
        (memory(unit(en="a", de="b")), ("en", "xx"), "with both 'en' and 'xx'; it has en and de:"),
        (memory(unit(en_GB="one")), ("en-US", "de"), "with both 'en-US' and 'de'; it has en-GB:"),
        (memory(), ("en", "de"), "it has no units: set the languages"),
        (b"<html/>", ("en", "de"), "it has no units: set the languages"),
        (b"", ("en", "de"), "line 1, character 1 isn't XML that can be read: no element found"),
        (b"one\ttwo\n", ("en", "de"), "line 1, character 1 isn't XML that can be read: syntax"),
        (memory(unit(en="a", de="b"))[:-9], ("en", "de"), "line 5, character 1 isn't XML that"),
        (memory(unit(en="a & b", de="c")), ("en", "de"), "line 4, character 51 isn't XML"),
        (memory(unit(en="a&nbsp;b", de="c")), ("en", "de"), "undefined entity"),
        (memory(unit(en="a", de="b")).replace(b">b<", b">\xe9<"), ("en", "de"), "invalid token"),
    ],
)  # fmt: skip
def test_files_that_are_no_such_memory(
    tmp_path: Path, content: bytes, languages: tuple[str, str], message: str
):
    with pytest.raises(DataError) as error:
        read(tmp_path, content, *languages)
    assert str(tmp_path / "a.tmx") in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_memory_that_is_missing_or_packed_badly(tmp_path: Path):
    with pytest.raises(DataError, match="can't be read: No such file"):
        list(read_tmx(tmp_path / "a.tmx", ("en", "de")))
    with pytest.raises(DataError, match=r"a\.tmx\.gz is no gzip file, is damaged"):
        read(tmp_path, gzip.compress(memory(unit(en="a", de="b")))[:-5], name="a.tmx.gz")


def test_entities_that_would_grow_without_bound_are_refused(tmp_path: Path):
    grow = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))
    doctype = f'<!DOCTYPE tmx [<!ENTITY e0 "{"x" * 100}">{grow}]>'
    content = memory(unit(en="&e10;", de="b")).replace(
        b'<!DOCTYPE tmx SYSTEM "tmx14.dtd">', doctype.encode()
    )
    with pytest.raises(DataError, match="limit on input amplification factor"):
        read(tmp_path, content)


def test_nothing_outside_of_the_file_is_read(tmp_path: Path):
    (tmp_path / "secret").write_text("a secret")
    doctype = f'<!DOCTYPE tmx [<!ENTITY secret SYSTEM "file://{tmp_path}/secret">]>'
    content = memory(unit(en="a &secret; b", de="c")).replace(
        b'<!DOCTYPE tmx SYSTEM "tmx14.dtd">', doctype.encode()
    )
    with pytest.raises(DataError, match="undefined entity"):
        read(tmp_path, content)


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    path = tmp_path / "a.tmx"
    path.write_bytes(memory(*[unit(en=f"one {n} " * 99, de=f"eins {n} " * 99) for n in range(500)]))
    size = os.path.getsize(path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_tmx(path, ("en", "de"))) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 4


def test_memories_as_a_corpus(tmp_path: Path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.tmx").write_bytes(memory(unit(en=f"{name} one", de=f"{name} eins")))
    corpus = {
        "kind": "tmx",
        "train": str(tmp_path / "*.tmx"),
        "validation": [str(tmp_path / "b.tmx")],
    }
    (part,) = open_corpora(DataConfig.model_validate({"corpus": corpus}), 1)
    assert list(part.corpus.pairs("train")) == [("a one", "a eins"), ("b one", "b eins")]
    assert list(part.corpus.pairs("validation")) == [("b one", "b eins")]
    assert not part.corpus.has("test")
    assert sorted(part.corpus.origin()) == [str(tmp_path / "a.tmx"), str(tmp_path / "b.tmx")]
