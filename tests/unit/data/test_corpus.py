"""Pairs from text files, tables and sets in the Hub's layout, and what is wrong with others."""

import gzip
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from seq2seq.config import DataConfig
from seq2seq.data.corpus import SPLITS, Corpus, missing_files, open_corpora
from seq2seq.data.text_files import Pairs
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


def open_corpus(data: DataConfig, seed: int) -> Corpus:
    (part,) = open_corpora(data, seed)
    return part.corpus


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


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


def table_corpus(*train: Path | str, **settings: Any) -> Corpus:
    corpus = {"kind": "table", "train": list(train), "validation": train[0], **settings}
    return open_corpus(DataConfig.model_validate({"corpus": corpus}), 1)


def test_a_corpus_of_tables(tmp_path: Path):
    tsv = write(tmp_path / "a.tsv", b"en\tde\none\teins\n")
    csv = write(tmp_path / "b.csv", b"de,id,en\nzwei,2,two\n")
    corpus = table_corpus(csv, tsv, test=csv)
    assert [corpus.has(split) for split in SPLITS] == [True, True, True]
    assert list(corpus.pairs("train")) == [("two", "zwei"), ("one", "eins")]
    assert list(corpus.pairs("validation")) == list(corpus.pairs("test")) == [("two", "zwei")]
    assert set(corpus.origin()) == {str(tsv), str(csv)}
    assert not table_corpus(csv).has("test")
    other_way = table_corpus(csv, source_column="de", target_column="id")
    assert list(other_way.pairs("train")) == [("zwei", "2")]
    assert next(iter(table_corpus(tsv, header=False).pairs("train"))) == ("en", "de")


def test_patterns_stand_for_files_in_the_order_of_their_names(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b", "a", "deep/c", "deep/er/d"):
        for language in ("en", "de"):
            line = gzip.compress(f"{name} {language}\n".encode())
            write(tmp_path / f"{name}.{language}.gz", line)
            write(tmp_path / f"{name}.{language}.gz.old", b"no more")
    corpus = text_corpus(
        tmp_path,
        train=[tmp_path / "*.en.gz", tmp_path / "?.de.gz"],
        validation=[tmp_path / "[!a].en.gz", tmp_path / "[b-z].de.gz"],
        test=[tmp_path / "**" / "*.en.gz", tmp_path / "**" / "*.de.gz"],
    )
    assert list(corpus.pairs("train")) == [("a en", "a de"), ("b en", "b de")]
    assert list(corpus.pairs("validation")) == [("b en", "b de")]
    assert [source for source, _ in corpus.pairs("test")] == [
        *("a en", "b en", "deep/c en", "deep/er/d en")
    ]
    assert len(corpus.origin()) == 8
    write(tmp_path / "c.en.gz", gzip.compress(b"c en"))
    assert len(corpus.origin()) == 9
    message = r"\*\.en\.gz matches 3 files, but .*\?\.de\.gz 2: each source file needs"
    with pytest.raises(DataError, match=message):
        list(corpus.pairs("train"))


def test_files_of_a_pattern_are_as_long_as_their_partners(tmp_path: Path):
    for name, lines in {"a.en": 1, "b.en": 2, "a.de": 2, "b.de": 1}.items():
        write(tmp_path / name, b"line\n" * lines)
    corpus = text_corpus(tmp_path, train=[tmp_path / "*.en", tmp_path / "*.de"])
    with pytest.raises(DataError, match=r"a\.en has 1 lines, but .*a\.de has 2"):
        list(corpus.pairs("train"))


def test_tables_by_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "parts").mkdir()
    for name in ("2", "10", "1"):
        write(tmp_path / "parts" / f"{name}.jsonl", f'{{"en": "{name}", "de": "x"}}'.encode())
    monkeypatch.chdir(tmp_path)
    corpus = table_corpus("parts/*.jsonl", validation="parts/2.jsonl")
    assert [source for source, _ in corpus.pairs("train")] == ["1", "10", "2"]
    assert list(corpus.origin()) == ["parts/1.jsonl", "parts/10.jsonl", "parts/2.jsonl"]


def test_a_file_that_is_there_is_no_pattern(tmp_path: Path):
    for name in ("a[1].tsv", "a1.tsv", "b*.tsv", "bc.tsv"):
        write(tmp_path / name, f"en\tde\n{name}\tx\n".encode())
    corpus = table_corpus(tmp_path / "a[1].tsv", tmp_path / "b*.tsv")
    assert [source for source, _ in corpus.pairs("train")] == ["a[1].tsv", "b*.tsv"]


def test_a_pattern_without_files(tmp_path: Path):
    (tmp_path / "folder.tsv").mkdir()
    pattern = tmp_path / "*.tsv"
    for corpus in (table_corpus(pattern), text_corpus(tmp_path, train=[pattern, pattern])):
        assert corpus.origin() == {}
        with pytest.raises(DataError) as error:
            list(corpus.pairs("train"))
        assert str(error.value).startswith(f"{pattern} matches no file")
    with pytest.raises(DataError, match=r"none\.tsv can't be read: No such file"):
        list(table_corpus(tmp_path / "none.tsv").pairs("train"))


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


def write_hub_folder(folder: Path, card: str = "", **files: dict[str, Any]) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, columns in files.items():
        table = pyarrow.table(columns)
        parquet.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    if card:
        (folder / "README.md").write_text(card)
    return folder


def read_hub(folder: Path | str, split: Any = "train", **settings: Any) -> Pairs:
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
def test_a_translation_column_of_json_rows_that_differ(tmp_path: Path):
    rows = [{"de": "eins"}] * 3 + [{"en": "two", "de": "zwei"}, None]
    lines = [json.dumps({"translation": row}) for row in rows]
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", "\n".join(lines).encode())
    assert list(read_hub(folder)) == [("", "eins")] * 3 + [("two", "zwei"), ("", "")]


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
            "has no 'de' in `translation`; it has en, fr: set data.source and data.target",
        ),
        (
            {"text": ["one"], "translation": ["eins"]},
            {},
            "must hold texts by language, but holds 'eins' in row 1",
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


def write_shards(folder: Path, sizes: Sequence[int]) -> Path:
    """A set in shards of unlike sizes, whose rows are numbered through."""
    folder.mkdir()
    first = 0
    for shard, size in enumerate(sizes):
        rows = {"en": [], "de": []}
        for number in range(first, first + size):
            rows["en"].append(f"en {number}")
            rows["de"].append(f"de {number}")
        name = f"train-{shard:05d}-of-{len(sizes):05d}.parquet"
        parquet.write_table(pyarrow.table(rows), folder / name)
        first += size
    return folder


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("sizes", [(2, 31, 5), (5, 1)])
def test_streamed_shards_of_unlike_sizes_give_each_row_once(tmp_path: Path, sizes: Sequence[int]):
    folder = write_shards(tmp_path / "set", sizes)
    expected = [(f"en {number}", f"de {number}") for number in range(sum(sizes))]
    assert list(read_hub(folder, streaming=True)) == expected
    assert list(read_hub(folder)) == expected
    assert (tmp_path / "cache" / "datasets").is_dir()  # of the second reading alone


@pytest.mark.usefixtures("offline")
def test_streaming_keeps_no_copy(tmp_path: Path):
    folder = write_shards(tmp_path / "set", (3, 1))
    assert len(list(read_hub(folder, streaming=True))) == 4
    assert not [path for path in (tmp_path / "cache").rglob("*.arrow")]


@pytest.mark.usefixtures("offline")
def test_streamed_json_lacks_columns_until_its_end(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"de": "eins", "en": "one", "id": 1}, {"de": "zwei", "id": 2}]
    write(folder / "train.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert list(read_hub(folder, streaming=True)) == [("one", "eins"), ("", "zwei")]
    with pytest.raises(DataError, match="has no column 'id2'; it has"):
        list(read_hub(folder, streaming=True, source_column="id2"))


@pytest.mark.usefixtures("offline")
def test_a_stream_that_breaks_off(tmp_path: Path):
    folder = write_shards(tmp_path / "set", (2, 31))
    shard = folder / "train-00001-of-00002.parquet"
    write(shard, shard.read_bytes()[:200])
    with pytest.raises(DataError, match="can't be read on after row 2: ") as error:
        list(read_hub(folder, streaming=True))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("offline")
def test_parts_of_splits(tmp_path: Path):
    folder = write_shards(tmp_path / "set", (2, 31, 7))
    for split, numbers in {
        "train[:10%]": range(4),
        "train[38:]": range(38, 40),
        "train[:1]+train[-1:]": (0, 39),
    }.items():
        found = list(read_hub(folder, train=split))
        assert found == [(f"en {number}", f"de {number}") for number in numbers]


@pytest.mark.usefixtures("offline")
def test_a_set_of_the_hub_without_a_network(tmp_path: Path):
    corpus = {"kind": "hub", "name": "nobody/nothing"}
    found = open_corpus(DataConfig.model_validate({"corpus": corpus}), 1)
    assert found.origin() == {}, "nobody knows the commit"
    with pytest.raises(DataError, match="'nobody/nothing' can't be loaded: ") as error:
        list(found.pairs("train"))
    assert "\n" not in str(error.value)
    commit = "0123456789abcdef" * 2 + "01234567"
    corpus |= {"revision": commit}
    pinned = open_corpus(DataConfig.model_validate({"corpus": corpus}), 1)
    assert pinned.origin() == {"hub:nobody/nothing": commit}


def mix(parts: dict[str, dict[str, Any]], **settings: Any) -> DataConfig:
    corpus = {"kind": "mix", "parts": parts}
    return DataConfig.model_validate({"corpus": corpus, **settings})


def test_a_mix_opens_each_part_with_its_languages(tmp_path: Path):
    for name in ("a.en", "a.de", "b.en"):
        write(tmp_path / name, f"{name}\n".encode())
    write(tmp_path / "c.tsv", b"de\tfr\neins\tun\n")
    one, other = ([str(tmp_path / f"{name}.en"), str(tmp_path / "a.de")] for name in "ab")
    data = mix(
        {
            "news": {"corpus": {"kind": "text", "train": one, "validation": one}, "limit": 7},
            "talks": {"corpus": {"kind": "text", "train": other}, "weight": 2},
            "words": {
                "corpus": {"kind": "table", "test": str(tmp_path / "c.tsv")},
                "source": "de",
                "target": "fr",
            },
        },
        tags=True,
    )
    parts = open_corpora(data, 1)
    assert [(part.name, part.source, part.target, part.limit) for part in parts] == [
        ("news", "en", "de", 7),
        ("talks", "en", "de", None),
        ("words", "de", "fr", None),
    ]
    has = [[part.corpus.has(split) for split in SPLITS] for part in parts]
    assert has == [[True, True, False], [True, False, False], [False, False, True]]
    assert list(parts[1].corpus.pairs("train")) == [("b.en", "a.de")]
    assert list(parts[2].corpus.pairs("test")) == [("eins", "un")]
    assert missing_files(data) == []
    (tmp_path / "b.en").unlink()
    assert missing_files(data) == [tmp_path / "b.en"]
    with pytest.raises(DataError, match=r"^data\.corpus\.parts\.talks: .*b\.en can't be read"):
        list(parts[1].corpus.pairs("train"))


def test_a_part_of_a_mix_with_other_columns(tmp_path: Path):
    write(tmp_path / "a.tsv", b"english\tgerman\none\teins\n")
    corpus = {
        "kind": "table",
        "train": str(tmp_path / "a.tsv"),
        "validation": str(tmp_path / "a.tsv"),
    }
    (part,) = open_corpora(mix({"words": {"corpus": corpus}}), 1)
    with pytest.raises(DataError, match=r"^data\.corpus\.parts\.words: .* has no column 'en'"):
        list(part.corpus.pairs("train"))


def test_the_origin_of_a_local_set_leaves_out_hidden_files(tmp_path: Path):
    folder = write_hub_folder(tmp_path / ".sets" / "set", train={"en": ["one"], "de": ["eins"]})
    (folder / ".git").mkdir()
    write(folder / ".git" / "index", b"changes with every call of git")
    corpus = {"kind": "hub", "name": str(folder)}
    origin = open_corpus(DataConfig.model_validate({"corpus": corpus}), 1).origin()
    assert [Path(name).name for name in origin] == ["train-00000-of-00001.parquet"]


def test_nothing_of_the_hub_is_needed_to_say_what_splits_there_are():
    corpus = open_corpus(
        DataConfig.model_validate({"corpus": {"kind": "hub", "name": "a/b", "test": None}}), 1
    )
    assert [corpus.has(split) for split in SPLITS] == [True, True, False]
