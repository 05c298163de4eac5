"""Pairs from text files and from data sets in the Hub's layout, and what is wrong with others."""

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from seq2seq.config import DataConfig
from seq2seq.data.corpus import SPLITS, Corpus, Pairs, open_corpus, read_lines, read_parallel
from seq2seq.errors import DataError

TEXT = b"one\ntwo\nthree\n"
CARD = """---
configs:
- config_name: plain
  default: true
  data_files:
  - {split: train, path: data/train-*}
  - {split: validation, path: data/dev-*}
- config_name: other
  data_files:
  - {split: train, path: data/dev-*}
---
# A data set
"""


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"one\r\ntwo\r", ["one", "two"]),
        (b"one\rmore\ntwo\n", ["one\rmore", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("a\u2028b\u2029c\x85d\x0ce\nf\n".encode(), ["a\u2028b\u2029c\x85d\x0ce", "f"]),
        ("  Grüße \t\n漢字\n".encode(), ["  Grüße \t", "漢字"]),
    ],
)
def test_lines_end_at_line_feeds_alone(tmp_path: Path, content: bytes, lines: list[str]):
    assert list(read_lines(write(tmp_path / "text.en", content))) == lines
    assert list(read_lines(write(tmp_path / "text.en.gz", gzip.compress(content)))) == lines


def test_all_members_of_a_gzip_file_are_read(tmp_path: Path):
    members = b"".join(gzip.compress(part) for part in (b"one\ntw", b"", b"o\n", b"three\n"))
    assert list(read_lines(write(tmp_path / "text.gz", members))) == ["one", "two", "three"]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(TEXT)[:-10],
        gzip.compress(TEXT)[:-4],
        flipped(gzip.compress(TEXT), 15),
        flipped(gzip.compress(TEXT), -6),
        gzip.compress(TEXT) + b"rubbish",
        gzip.compress(TEXT) + gzip.compress(TEXT)[:12],
        TEXT,
    ],
    ids=["cut", "cut end", "bits", "checksum", "rubbish after", "second member cut", "plain text"],
)
def test_damaged_gzip_files(tmp_path: Path, content: bytes):
    path = write(tmp_path / "text.en.gz", content)
    with pytest.raises(DataError, match="is damaged, or no gzip file") as error:
        list(read_lines(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("packed", [False, True])
def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, packed: bool):
    content = "gut\nsch\u00f6n\nGrüße\n".encode("latin-1")
    path = write(tmp_path / "text.gz", gzip.compress(content)) if packed else tmp_path / "text.de"
    if not packed:
        write(path, content)
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    assert str(error.value).startswith(
        f"{path}, line 2 is not UTF-8 (byte 4 of the line is 0xf6): convert"
    )


@pytest.mark.parametrize("name", ["text.en", "text.en.gz"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str):
    with pytest.raises(DataError, match=f"{name} can't be read: No such file"):
        list(read_lines(tmp_path / name))
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name} can't be read: Is a directory"):
        list(read_lines(tmp_path / name))


def test_files_side_by_side(tmp_path: Path):
    source = write(tmp_path / "text.en", b"one\ntwo\n\n")
    target = write(tmp_path / "text.de.gz", gzip.compress(b"eins\r\n\r\ndrei"))
    assert list(read_parallel(source, target)) == [("one", "eins"), ("two", ""), ("", "drei")]
    nothing = write(tmp_path / "nothing", b"")
    assert list(read_parallel(nothing, nothing)) == []


@pytest.mark.parametrize(("short", "long"), [(0, 1), (0, 7), (3, 4), (3, 7)])
def test_files_of_unlike_length_are_named_with_both_lengths(tmp_path: Path, short: int, long: int):
    shorter = write(tmp_path / "shorter", b"x\n" * short)
    longer = write(tmp_path / "longer", b"x\n" * long)
    for files in ((shorter, longer), (longer, shorter)):
        with pytest.raises(DataError) as error:
            list(read_parallel(*files))
        assert str(error.value).startswith(
            f"{shorter} has {short} lines, but {longer} has {long}: parallel files must"
        )


def text_corpus(folder: Path, **splits: list[Path]) -> Corpus:
    files = [folder / "text.en", folder / "text.de"]
    corpus = {"kind": "text", "train": files, "validation": files, **splits}
    return open_corpus(DataConfig.model_validate({"corpus": corpus}), 1)


def test_a_corpus_of_text_files(tmp_path: Path):
    for name in ("text.en", "text.de", "test.en", "test.de"):
        write(tmp_path / name, f"{name}\n".encode())
    corpus = text_corpus(tmp_path)
    assert [corpus.has(split) for split in SPLITS] == [True, True, False]
    assert list(corpus.pairs("train")) == [("text.en", "text.de")]
    corpus = text_corpus(tmp_path, test=[tmp_path / "test.en", tmp_path / "test.de"])
    assert corpus.has("test")
    assert list(corpus.pairs("test")) == [("test.en", "test.de")]


def test_the_origin_of_text_files_follows_their_content(tmp_path: Path):
    source, target = (write(tmp_path / name, TEXT) for name in ("text.en", "text.de"))
    corpus = text_corpus(tmp_path)
    origin = corpus.origin()
    assert set(origin) == {str(source), str(target)}
    assert origin == text_corpus(tmp_path).origin()
    write(target, TEXT[:-1])
    changed = corpus.origin()
    assert changed[str(source)] == origin[str(source)]
    assert changed[str(target)] != origin[str(target)]
    source.unlink()
    assert set(corpus.origin()) == {str(target)}
    with pytest.raises(DataError, match=r"text\.en can't be read: No such file"):
        list(corpus.pairs("train"))


def test_the_embedded_corpus_follows_the_seed():
    data = DataConfig.model_validate({"corpus": {"kind": "sample", "pairs": 20, "held_out": 4}})
    one, other = open_corpus(data, 1), open_corpus(data, 2)
    for split, number in zip(SPLITS, (20, 4, 4), strict=True):
        assert one.has(split)
        assert len(list(one.pairs(split))) == number
        assert list(one.pairs(split)) != list(other.pairs(split))
    assert list(one.pairs("train")) == list(open_corpus(data, 1).pairs("train"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep `datasets` away from the network and from the user's cache."""
    attempts: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        attempts.append(address)
        raise OSError("a test must not use the network")

    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache / "datasets")
    monkeypatch.setattr("datasets.config.HF_MODULES_CACHE", str(cache / "modules"))
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", cache / "downloads")
    monkeypatch.setenv("HF_HOME", str(cache))  # for whatever reads it later than at its import
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not attempts


def write_hub_folder(folder: Path, card: str = "", **files: dict[str, list[Any]]) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, columns in files.items():
        table = pyarrow.table(columns)
        parquet.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    if card:
        (folder / "README.md").write_text(card)
    return folder


def read_hub(folder: Path | str, split: Any = "train", **settings: str) -> Pairs:
    corpus = {"kind": "hub", "name": str(folder), **settings}
    return open_corpus(DataConfig.model_validate({"corpus": corpus}), 1).pairs(split)


@pytest.mark.usefixtures("offline")
def test_a_folder_in_the_layout_of_the_hub(tmp_path: Path):
    folder = write_hub_folder(
        tmp_path / "set",
        CARD,
        train={"id": [1, 2, 3], "en": ["one", "two\nlines", None], "de": ["eins", "", "drei"]},
        dev={"id": [4], "en": ["four"], "de": ["vier"]},
    )
    assert list(read_hub(folder)) == [("one", "eins"), ("two\nlines", ""), ("", "drei")]
    assert list(read_hub(folder, "validation")) == [("four", "vier")]
    assert list(read_hub(folder, configuration="other")) == [("four", "vier")]
    assert list(read_hub(folder, "test", test="validation")) == [("four", "vier")]
    columns = {"source_column": "de", "target_column": "en"}
    assert list(read_hub(folder, "validation", **columns)) == [("vier", "four")]
    assert (tmp_path / "cache" / "datasets").is_dir()


@pytest.mark.usefixtures("offline")
def test_a_translation_column(tmp_path: Path):
    rows = [{"de": "eins", "en": "one"}, {"de": "zwei", "en": None}, None]
    folder = write_hub_folder(tmp_path / "set", train={"translation": rows})
    assert list(read_hub(folder)) == [("one", "eins"), ("", "zwei"), ("", "")]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"english": ["one"], "german": ["eins"]},
            {},
            "has no column 'en'; it has english, german: set data.corpus.source_column",
        ),
        (
            {"en": ["one"], "german": ["eins"]},
            {},
            "has no column 'de'; it has en, german: set data.corpus.source_column",
        ),
        (
            {"en": ["one"], "de": ["eins"]},
            {"target_column": "deu"},
            "has no column 'deu'; it has en, de: set data.corpus.source_column",
        ),
        (
            {"translation": [{"en": "one", "fr": "un"}]},
            {},
            "has a row without 'de' in `translation`; it has en, fr",
        ),
        (
            {"text": ["one"], "translation": ["eins"]},
            {},
            "has a row without 'en' in `translation`; it has str",
        ),
        (
            {"en": [1], "de": ["eins"]},
            {},
            "must hold text, but holds int",
        ),
        (
            {"en": ["one"], "de": [["eins"]]},
            {},
            "column 'de' of the data set",
        ),
        (
            {"en": ["one"], "de": ["eins"]},
            {"train": "training"},
            "split 'training' of the data set",
        ),
        (
            {"en": ["one"], "de": ["eins"]},
            {"configuration": "large"},
            "can't be loaded: BuilderConfig 'large' not found. Available: ['default']",
        ),
    ],
)
def test_data_sets_with_other_columns_and_splits(
    tmp_path: Path, columns: dict[str, list[Any]], settings: dict[str, str], message: str
):
    folder = write_hub_folder(tmp_path / "set", train=columns)
    with pytest.raises(DataError) as error:
        list(read_hub(folder, **settings))
    assert message in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["nowhere", "nobody/nothing"])
def test_a_data_set_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    for place in (name, tmp_path / name):
        with pytest.raises(DataError, match="split 'train' of the data set") as error:
            list(read_hub(place))
        assert f"'{place}' can't be loaded: " in str(error.value)


def test_nothing_of_the_hub_is_needed_to_say_what_splits_there_are():
    corpus = open_corpus(
        DataConfig.model_validate({"corpus": {"kind": "hub", "name": "a/b", "test": None}}), 1
    )
    assert [corpus.has(split) for split in SPLITS] == [True, True, False]
