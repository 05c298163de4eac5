"""A data folder is whole or not there, says what is in it, and follows its settings and text."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from seq2seq import __version__
from seq2seq.config import Config, VocabularyConfig
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import FORMAT, MANIFEST, Manifest, PreparedData
from seq2seq.data.removed import explain, show_removed
from seq2seq.errors import DataError, UserError
from seq2seq.vocabulary import Vocabularies
from seq2seq.vocabulary_learning import draw, train_vocabularies

MakeConfig = Callable[..., Config]
Pairs = list[tuple[str, str]]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".data.work" not in path.parts  # which is there to outlive a run
    }


@contextmanager
def unchanged(folder: Path) -> Generator[None]:
    before = snapshot(folder)
    assert before
    yield
    assert snapshot(folder) == before


def ids(folder: Path, split: str) -> dict[str, list[list[int]]]:
    with pyarrow.OSFile(str(folder / f"{split}.arrow")) as file:
        table = pyarrow.ipc.open_file(file).read_all()
    return {side: table[side].to_pylist() for side in ("source", "target")}


def with_settings(config: Config, **sections: dict[str, Any]) -> Config:
    """The config with other values: `data={"max_length": 20}`."""
    values = config.model_dump()
    for section, changes in sections.items():
        values[section] |= changes
    return Config.model_validate(values)


def test_the_folder_holds_what_its_manifest_says(
    make_config: MakeConfig, pairs: Pairs, capsys: pytest.CaptureFixture[str]
):
    config = make_config(test=pairs[-3:], joint=False, size=33)
    manifest = prepare(config)
    folder = config.data.folder
    assert sorted(path.name for path in folder.iterdir()) == [
        MANIFEST,
        "removed.jsonl",
        "source.model",
        "target.model",
        "test.arrow",
        "train.arrow",
        "validation.arrow",
    ]
    assert Manifest.load(folder) == manifest
    assert (manifest.format, manifest.version) == (FORMAT, __version__)
    assert (manifest.source, manifest.target) == ("en", "de")
    assert manifest.settings["vocabulary.size"] == 33
    numbers = {split: counts.pairs for split, counts in manifest.splits.items()}
    assert numbers == {"train": len(pairs), "validation": 5, "test": 3}
    for split, counts in manifest.splits.items():
        encoded = ids(folder, split)
        assert counts.source_pieces == sum(map(len, encoded["source"]))
        assert counts.target_pieces == sum(map(len, encoded["target"]))
        assert counts.removed == {}
    assert "36 train pairs, 5 validation pairs, 3 test pairs" in capsys.readouterr().err
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("joint", [True, False])
def test_the_ids_are_the_texts(make_config: MakeConfig, pairs: Pairs, joint: bool):
    config = make_config(joint=joint, size=50 if joint else 33)
    prepare(config)
    data = PreparedData.open(config.data.folder)
    assert data.vocabularies.joint == joint
    for split, expected in (("train", pairs), ("validation", pairs[:5])):
        encoded = ids(config.data.folder, split)
        source = data.vocabularies.source.decode(encoded["source"])
        target = data.vocabularies.target.decode(encoded["target"])
        assert list(zip(source, target, strict=True)) == expected


def test_a_prepared_folder_is_used_again(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
):
    config = make_config()
    manifest = prepare(config)
    capsys.readouterr()
    with unchanged(config.data.folder):
        assert prepare(config) == manifest
        assert "is prepared already: 36 train pairs" in capsys.readouterr().err
        # Nothing that the folder depends on:
        assert prepare(with_settings(config, training={"steps": 7})) == manifest
        assert prepare(config.model_copy(update={"seed": 9})) == manifest


def test_the_same_text_and_settings_make_the_same_files(make_config: MakeConfig, tmp_path: Path):
    config = make_config()
    again = with_settings(config, data={"folder": tmp_path / "again"})
    assert prepare(config).fingerprint == prepare(again).fingerprint
    one, two = snapshot(config.data.folder), snapshot(tmp_path / "again")
    assert one.keys() == two.keys()
    assert all(one[name][1] == two[name][1] for name in one.keys() - {MANIFEST})  # it has times


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"vocabulary": {"size": 51}}, "vocabulary.size was 50, is 51"),
        ({"vocabulary": {"algorithm": "bpe"}}, "vocabulary.algorithm was unigram, is bpe"),
        ({"data": {"max_length": 59}}, "data.max_length was 60, is 59"),
        ({"data": {"target": "da"}}, "data.target was de, is da"),
        (
            {"data": {"max_length": 59}, "vocabulary": {"size": 51}},
            "data.max_length was 60, is 59; vocabulary.size was 50, is 51",
        ),
    ],
)
def test_other_settings_are_refused_and_named(
    make_config: MakeConfig, sections: dict[str, dict[str, Any]], message: str
):
    config = make_config()
    manifest = prepare(config)
    other = with_settings(config, **sections)
    with unchanged(config.data.folder), pytest.raises(DataError) as error:
        prepare(other)
    assert f"({message}): choose another data.folder, or run" in str(error.value)
    assert str(config.data.folder) in str(error.value)
    replaced = prepare(other, overwrite=True)
    assert replaced.settings != manifest.settings
    assert Manifest.load(config.data.folder) == replaced
    assert prepare(other) == replaced


def test_other_text_is_refused(make_config: MakeConfig, tmp_path: Path, pairs: Pairs):
    config = make_config()
    manifest = prepare(config)
    make_config(pairs[1:])
    with unchanged(config.data.folder), pytest.raises(DataError) as error:
        prepare(config)
    for name in ("train.en", "train.de"):
        path = tmp_path / name
        assert f"{path} has other content" in str(error.value)
    replaced = prepare(config, overwrite=True)
    assert replaced.splits["train"].pairs == len(pairs) - 1
    assert replaced.fingerprint != manifest.fingerprint


def test_files_that_a_pattern_newly_matches_are_other_text(
    make_config: MakeConfig, tmp_path: Path, pairs: Pairs
):
    config = make_config()
    files = {"train": [tmp_path / "train*.en", tmp_path / "train*.de"]}
    config = with_settings(config, data={"corpus": config.data.corpus.model_dump() | files})
    assert prepare(config).splits["train"].pairs == len(pairs)
    for language in ("en", "de"):
        (tmp_path / f"train2.{language}").write_text("new\n")
    with unchanged(config.data.folder), pytest.raises(DataError) as error:
        prepare(config)
    for language in ("en", "de"):
        assert f"{tmp_path / f'train2.{language}'} is new" in str(error.value)
    assert prepare(config, overwrite=True).splits["train"].pairs == len(pairs) + 1


def test_a_prepared_folder_does_not_need_its_text(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = make_config()
    manifest = prepare(config)
    capsys.readouterr()
    for gone, said in (("train.en", ""), ("train.de", " and 1 more"), ("validation.*", None)):
        for path in tmp_path.glob(gone):
            path.unlink()
        with unchanged(config.data.folder):
            assert prepare(config) == manifest
        message = f"holds the text of {tmp_path / 'train.en'}{said}, no longer there"
        assert (message in capsys.readouterr().err) == (said is not None)


def test_tables_make_the_folder_that_text_files_make(
    make_config: MakeConfig, tmp_path: Path, pairs: Pairs
):
    config = make_config()
    manifest = prepare(config)
    lines = [{"translation": {"de": target, "en": source}} for source, target in pairs]
    lines[3:3] = [{"translation": {"de": "kein Englisch"}}, {"translation": {"en": "", "de": "x"}}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    held_out = [f"{source}\t{target}" for source, target in pairs[:5]]
    (tmp_path / "validation.tsv").write_text("\n".join(["en\tde", *held_out]))
    files = {"train": tmp_path / "train.jsonl", "validation": tmp_path / "validation.tsv"}
    tables = with_settings(
        config, data={"folder": tmp_path / "tables", "corpus": {"kind": "table", **files}}
    )
    of_tables = prepare(tables)
    assert of_tables.fingerprint == manifest.fingerprint
    assert of_tables.splits["train"].removed == {"empty": 2}
    assert set(of_tables.origin) == set(map(str, files.values()))


def test_another_seed_is_another_embedded_corpus(tmp_path: Path):
    config = Config.model_validate(
        {
            "data": {
                "folder": tmp_path / "data",
                "corpus": {"kind": "sample", "pairs": 100, "held_out": 5},
            },
            "vocabulary": {"size": 150},
        }
    )
    manifest = prepare(config)
    assert {split: counts.pairs for split, counts in manifest.splits.items()} == {
        "train": 100,
        "validation": 5,
        "test": 5,
    }
    with pytest.raises(DataError, match="seed was 1, is 2"):
        prepare(config.model_copy(update={"seed": 2}))


def test_what_goes_wrong_midway_leaves_nothing(make_config: MakeConfig, tmp_path: Path):
    config = make_config()
    validation = tmp_path / "validation.de"
    validation.write_text("zu kurz\n")
    with unchanged(tmp_path), pytest.raises(DataError, match="has 1 lines, but"):
        prepare(config)
    assert not list(tmp_path.glob("*data*"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_prepare_leaves_what_was_there(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException],
):
    def interrupt(*_: object) -> None:
        raise stop

    config = make_config()
    monkeypatch.setattr(Manifest, "save", interrupt)
    with unchanged(tmp_path), pytest.raises(stop):
        prepare(config)
    assert not config.data.folder.exists()
    monkeypatch.undo()
    manifest = prepare(config)
    monkeypatch.setattr(Manifest, "save", interrupt)
    with unchanged(tmp_path), pytest.raises(stop):
        prepare(with_settings(config, vocabulary={"size": 51}), overwrite=True)
    assert prepare(config) == manifest


def test_a_folder_that_cannot_be_made(make_config: MakeConfig, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    config = with_settings(make_config(), data={"folder": tmp_path / "file" / "data"})
    with unchanged(tmp_path), pytest.raises(UserError, match="file can't be written: "):
        prepare(config)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [None, "{}", "no JSON", '{"format": 1}'])
def test_what_is_no_data_folder_is_not_touched(
    make_config: MakeConfig, content: str | None, overwrite: bool
):
    config = make_config()
    folder = config.data.folder
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    if content is not None:
        (folder / MANIFEST).write_text(content)
    with unchanged(folder), pytest.raises(DataError, match="data is no data folder"):
        prepare(config, overwrite=overwrite)


def test_a_file_in_the_place_of_the_folder(make_config: MakeConfig, tmp_path: Path):
    config = make_config()
    config.data.folder.write_text("precious")
    with unchanged(tmp_path), pytest.raises(DataError, match="data is no data folder"):
        prepare(config)


def test_a_folder_of_another_format_is_refused(make_config: MakeConfig):
    config = make_config()
    prepare(config)
    path = config.data.folder / MANIFEST
    other = {"format": FORMAT + 1, "version": "9.1", "fingerprint": "a", "splits": "elsewhere"}
    path.write_text(json.dumps(other))
    message = f"has format {FORMAT + 1}, but this version reads format {FORMAT}: seq2seq 9.1 has"
    with unchanged(config.data.folder), pytest.raises(DataError, match=message):
        prepare(config)
    with pytest.raises(DataError, match=message):
        PreparedData.open(config.data.folder)


@pytest.mark.parametrize(
    "train", [[], [("", "")], [("one", ""), ("", "zwei"), (" ", "drei"), ("\ufeff", "")]]
)
def test_an_empty_training_corpus(make_config: MakeConfig, tmp_path: Path, train: Pairs):
    config = make_config(train)
    with unchanged(tmp_path), pytest.raises(DataError, match="the train set has no pair"):
        prepare(config)


def test_a_corpus_of_which_nothing_is_left(make_config: MakeConfig, tmp_path: Path):
    config = make_config(max_length=2)
    with unchanged(tmp_path), pytest.raises(DataError, match="the train set has no pair"):
        prepare(config)


def test_an_empty_validation_set(make_config: MakeConfig, tmp_path: Path):
    config = make_config(validation=[])
    with unchanged(tmp_path), pytest.raises(DataError, match="the validation set has no pair"):
        prepare(config)


def test_processes_that_start_together_prepare_once(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
):
    config = make_config()
    with ThreadPoolExecutor(3) as pool:
        manifests = list(pool.map(prepare, [config] * 3))
    assert manifests[0] == manifests[1] == manifests[2]
    said = capsys.readouterr().err
    assert said.count("learning the vocabulary") == 1
    assert said.count("another process is preparing") == 2
    assert sorted(config.data.folder.parent.glob(".*")) == [], "nothing is left beside it"


def test_a_claim_of_a_process_that_was_killed_does_not_hold_up_the_next(make_config: MakeConfig):
    config = make_config()
    claim = config.data.folder.parent / f".{config.data.folder.name}.claim"
    code = (
        f"import filelock, os; l = filelock.SoftFileLease({str(claim)!r}); l.acquire(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert claim.exists()
    prepare(config)


def test_no_more_pairs_are_learnt_from_than_the_sample(make_config: MakeConfig, pairs: Pairs):
    config = with_settings(make_config(), vocabulary={"sample": 30, "size": 45})
    prepare(config)
    drawn = draw(pairs, 30)
    assert sorted(drawn) != sorted(pairs[:30])
    assert isinstance(config.vocabulary, VocabularyConfig)
    sources, targets = zip(*drawn, strict=True)
    learnt = train_vocabularies(sources, targets, config.vocabulary)
    assert Vocabularies.load(config.data.folder).digest == learnt.digest


def test_what_was_left_out_is_shown_and_explained(
    make_config: MakeConfig, pairs: Pairs, capsys: pytest.CaptureFixture[str]
):
    unbalanced = [(f"{'very ' * 20}long {number}", "kurz") for number in range(150)]
    config = make_config([*pairs, *unbalanced, ("", "leer")])
    manifest = prepare(config)
    show_removed(config.data.folder, manifest)
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "left out of training"
    assert header.split()[:4] == ["rule", "pairs", "share", "µs/pair"]
    assert rows[0].split()[:4] == ["empty", "1", "0.53", "%"]
    assert rows[1].split()[:4] == ["ratio", "150", "80.21", "%"]
    assert [row.split()[-1] for row in rows[1:]] == ["kurz"] * 3
    assert {len(examples) for examples in manifest.splits["train"].examples.values()} == {1, 3}
    explain(config.data.folder, "ratio")
    out, said = capsys.readouterr()
    assert "more than data.cleaning.ratio times" in said
    assert "150 pairs" in said
    assert "the first 100 of them" in said
    assert [line.split()[-2:] for line in out.splitlines()[1:]] == [
        [str(n), "kurz"] for n in range(100)
    ]
    explain(config.data.folder, "identical")
    assert "0 pairs" in capsys.readouterr().err
    with pytest.raises(DataError, match="there is no rule 'ration': choose one of characters, "):
        explain(config.data.folder, "ration")
    (config.data.folder / "removed.jsonl").unlink()
    with pytest.raises(DataError, match=r"removed\.jsonl can't be read"):
        explain(config.data.folder, "ratio")


def test_a_file_replaced_by_one_of_the_same_size_and_date_is_found_out(make_config: MakeConfig):
    config = make_config()
    prepare(config)
    path = config.data.folder.parent / "train.en"
    before = path.stat()
    path.write_text(path.read_text().replace("cat", "cow"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(DataError, match=r"train\.en has other content"):
        prepare(config)


def test_unfit_pairs_are_left_out_of_training_alone(
    make_config: MakeConfig, pairs: Pairs, capsys: pytest.CaptureFixture[str]
):
    long = "is here! " * 20
    unfit = [
        ("", "leer"),
        ("empty", ""),
        ("only spaces", "   "),
        ("a mark", "\ufeff"),
        (long, "kurz"),
        (long, "ist da! " * 20),
        (long, ""),
    ]
    everything = [unfit[0], *pairs, *unfit[1:]]
    config = make_config(everything, validation=everything, test=unfit)
    manifest = prepare(config)
    assert manifest.splits["train"].pairs == len(pairs)
    assert manifest.splits["train"].removed == {"empty": 5, "ratio": 1, "too_long": 1}
    assert "left out of training: 5 empty, 1 ratio, 1 too long" in capsys.readouterr().err
    data = PreparedData.open(config.data.folder)
    encoded = ids(config.data.folder, "train")
    decoded = data.vocabularies.source.decode(encoded["source"])
    assert decoded == [source for source, _ in pairs]
    assert manifest.splits["validation"].pairs == len(everything)
    assert manifest.splits["validation"].removed == {}
    assert list(zip(*data.text("validation"), strict=True)) == everything
    assert list(zip(*data.text("test"), strict=True)) == unfit


def test_the_longest_pairs_that_are_kept(make_config: MakeConfig):
    config = make_config()
    prepare(config)
    encoded = ids(config.data.folder, "train")
    lengths = [max(map(len, pair)) for pair in zip(*encoded.values(), strict=True)]
    longest = max(lengths)
    for limit, removed in ((longest, 0), (longest - 1, lengths.count(longest))):
        manifest = prepare(make_config(max_length=limit), overwrite=True)
        assert manifest.splits["train"].removed.get("too_long", 0) == removed


def test_held_out_text_is_kept_as_written(make_config: MakeConfig):
    odd = [
        ("cafe\u0301 \u2028 x", "Stra\u00dfe\tmit  zwei  "),
        ("  \ufeffmark", "\u00a0ﬁn…"),
        ("</s> <unk>", "▁ ⁇ Ω\U0001f600"),
        ("", " "),
    ]
    config = make_config(validation=odd, test=odd)
    prepare(config)
    data = PreparedData.open(config.data.folder)
    assert list(zip(*data.text("validation"), strict=True)) == odd
    assert list(zip(*data.text("test"), strict=True)) == odd


def test_text_from_windows_makes_the_same_folder(
    make_config: MakeConfig, tmp_path: Path, pairs: Pairs
):
    config = make_config()
    clean = prepare(config)
    clean_ids = ids(config.data.folder, "train")
    mark = "\ufeff"  # again in the middle, where two files were joined
    lines = [mark * (number in (0, 20)) + source for number, (source, _) in enumerate(pairs)]
    (tmp_path / "train.en").write_bytes("\r\n".join(lines).encode())
    dirty = prepare(config, overwrite=True)
    assert ids(config.data.folder, "train") == clean_ids
    assert dirty.fingerprint == clean.fingerprint
    assert dirty.origin != clean.origin


def part_of(folder: Path, name: str, pairs: Pairs, **settings: Any) -> dict[str, Any]:
    """A part of a mix whose training and validation sets have these pairs."""
    path = folder / f"{name}.tsv"
    rows = [f"{source}\t{target}\n" for source, target in pairs]
    path.write_text("en\tde\n" + "".join(rows), encoding="utf-8")
    corpus = {"kind": "table", "train": str(path), "validation": str(path)}
    columns = {"source_column": "en", "target_column": "de"}
    return {"corpus": {**corpus, **columns}, **settings}


@pytest.fixture
def mixed(make_config: MakeConfig, pairs: Pairs, tmp_path: Path) -> Callable[..., Config]:
    """A mix of a corpus in text files, limited, and a table with another target language."""

    def make(**changes: dict[str, Any]) -> Config:
        plain = make_config(pairs[:20], validation=pairs[:5], test=pairs[:3])
        second = part_of(tmp_path, "words", [*pairs[20:30], ("", "leer")], target="x-de")
        first = {"corpus": plain.data.corpus.model_dump(mode="json"), "limit": 15}
        parts = {"lines": first, "words": second}
        for name, change in changes.items():
            parts[name] |= change
        data = {"tags": True, "corpus": {"kind": "mix", "parts": parts}}
        return with_settings(plain, data=data)

    return make


def test_parts_of_a_mix_lie_one_after_another(mixed: Callable[..., Config], pairs: Pairs):
    config = mixed()
    manifest = prepare(config)
    assert manifest == Manifest.load(config.data.folder)
    assert [tuple(part.model_dump().values()) for part in manifest.parts] == [
        ("lines", "en", "de", 15),
        ("words", "en", "x-de", 10),
    ]
    assert manifest.splits["train"].pairs == 25
    assert manifest.splits["train"].removed == {"empty": 1}
    assert len(manifest.origin) == 7
    data = PreparedData.open(config.data.folder)
    vocabulary = data.vocabularies.source
    encoded = ids(config.data.folder, "train")
    texts = [source for source, _ in pairs[:15] + pairs[20:30]]
    assert vocabulary.decode(encoded["source"]) == texts
    tags = [vocabulary.tag("de")] * 15 + [vocabulary.tag("x-de")] * 10
    assert [sentence[0] for sentence in encoded["source"]] == tags
    assert not any({*tags} & {*sentence} for sentence in encoded["target"])
    assert not any({*tags} & {*sentence[1:]} for sentence in encoded["source"])
    held_out = [target for _, target in pairs[:5] + pairs[20:30]]
    assert data.text("validation").target == [*held_out, "leer"]
    assert data.directions("validation") == [("en", "de")] * 5 + [("en", "x-de")] * 11
    assert data.directions("test") == [("en", "de")] * 3


def test_an_ordinary_corpus_is_one_part(make_config: MakeConfig, pairs: Pairs):
    config = make_config()
    (part,) = prepare(config).parts
    assert tuple(part.model_dump().values()) == ("", "en", "de", len(pairs))
    assert PreparedData.open(config.data.folder).directions("validation") == [("en", "de")] * 5


def test_other_weights_need_no_other_data_folder(mixed: Callable[..., Config]):
    config = mixed()
    prepare(config)
    with unchanged(config.data.folder):
        prepare(mixed(words={"weight": 5.0}))
        with pytest.raises(DataError, match=r"data\.corpus\.parts\.lines\.limit was 15, is 14"):
            prepare(mixed(lines={"limit": 14}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": "nowhere.tsv"}, r"parts\.words: nowhere\.tsv can't be read: No such file"),
        ({"source_column": "english"}, r"parts\.words: .*words\.tsv has no column 'english'; its"),
        (
            {"train": "{folder}/empty.tsv"},
            r"the train set of data\.corpus\.parts\.words has no pair",
        ),
    ],
)
def test_parts_of_which_one_cannot_be_used(
    mixed: Callable[..., Config], tmp_path: Path, change: dict[str, Any], message: str
):
    (tmp_path / "empty.tsv").write_text("en\tde\n")
    corpus = mixed().data.model_dump(mode="json")["corpus"]["parts"]["words"]["corpus"]
    changed = {key: value.format(folder=tmp_path) for key, value in change.items()}
    config = mixed(words={"corpus": corpus | changed})
    with pytest.raises(DataError, match=message):
        prepare(config)
    assert not config.data.folder.exists()
