"""Text prepared with a vocabulary of a base or of files, and what that vocabulary can't write."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import Config
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import Manifest, PreparedData
from seq2seq.errors import DataError, ModelError
from seq2seq.model_description import ModelDescription
from seq2seq.vocabulary import UNK, Vocabularies
from tests.builders import tiny_vocabularies

MakeConfig = Callable[..., Config]
Pairs = list[tuple[str, str]]


def based_on(config: Config, base: Path, vocabulary: str = "base", **data: Any) -> Config:
    """The config with a base, and with other values in `data`."""
    values = config.model_dump()
    values["base"] = {"model": base, "vocabulary": vocabulary}
    values["data"] |= data
    return Config.model_validate(values)


def make_base(config: Config, folder: Path) -> Path:
    """Prepare the config's text, and make a model folder with its vocabulary, but no weights."""
    prepare(config)
    folder.mkdir()
    vocabularies = Vocabularies.load(config.data.folder)
    vocabularies.save(folder)
    ModelDescription(config, {}, vocabularies.digests).save(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if "character" in line]


@pytest.mark.parametrize("joint", [True, False])
def test_the_vocabulary_files_are_the_bases(
    joint: bool, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(joint=joint, size=50 if joint else 33)
    base = make_base(config, tmp_path / "base")
    other = make_config([("the cat: sleeps", "die Katze: ist da")] * 3, joint=joint, size=7)
    manifest = prepare(based_on(other, base, folder=tmp_path / "tuned"))
    names = ["joint.model"] if joint else ["source.model", "target.model"]
    assert [path.name for path in sorted((tmp_path / "tuned").glob("*.model"))] == names
    for name in names:
        assert (tmp_path / "tuned" / name).read_bytes() == (base / name).read_bytes()
    assert manifest.settings["vocabulary.digest"].startswith("sha256 ")
    assert said(capsys) == ["the vocabulary knows every character of the text"] * 2


def test_letters_that_the_base_never_had_are_told_by_their_number(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(make_config(), tmp_path / "base")
    # 漢 has no piece; neither have the no-break space and the accent, which can't be seen alone.
    train = [("the 漢漢", "die\u00a0漢"), ("Ω is here", "x̄")]
    prepare(based_on(make_config(train), base, folder=tmp_path / "tuned"))
    letters = "".join(unicodedata.normalize("NFC", side) for pair in train for side in pair)
    assert len(letters) == 6 + 5 + 9 + 2
    assert said(capsys)[1:] == [  # after what is said of the base's own text
        # 漢 two times and Ω, of 6 + 9; 漢, x, the accent and the no-break space, of 5 + 2
        "unknown to the vocabulary: 漢 Ω (2 characters, 20.0 % of the source text)",
        "unknown to the vocabulary: x U+00A0 U+0304 漢 (4 characters, 57.1 % of the target text)",
    ]
    ids = PreparedData.open(tmp_path / "tuned").split("train")
    assert [list(ids.source[number]).count(UNK) for number in range(2)] == [1, 1]


def test_each_side_is_told_of_its_own_vocabulary(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(make_config(joint=False, size=33), tmp_path / "base")
    train = [("the ä", "die Ω")] * 4
    prepare(based_on(make_config(train, joint=False), base, folder=tmp_path / "tuned"))
    assert said(capsys)[1:] == [
        "unknown to the vocabulary: ä (1 character, 20.0 % of the source text)",
        "unknown to the vocabulary: Ω (1 character, 20.0 % of the target text)",
    ]


def test_of_many_letters_the_commonest_are_shown(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(make_config(), tmp_path / "base")
    cyrillic = [chr(number) for number in range(0x430, 0x430 + 21)]
    train = [("".join(cyrillic), "die"), (cyrillic[-1], "die")]
    prepare(based_on(make_config(train), base, folder=tmp_path / "tuned"))
    shown = " ".join([cyrillic[-1], *cyrillic[:19]])
    assert said(capsys)[1:] == [
        f"unknown to the vocabulary: {shown} … (21 characters, 100.0 % of the source text)"
    ]


def from_files(config: Config, models: Path, **data: Any) -> Config:
    """The config with the models of a folder."""
    values = config.model_dump()
    values["data"] |= data
    names = sorted(path.stem for path in models.glob("*.model"))
    files = {name.replace("joint", "source"): models / f"{name}.model" for name in names}
    values["vocabulary"] = {"kind": "file", **files}
    values["model"]["tied"] = "none"
    return Config.model_validate(values)


@pytest.mark.parametrize("joint", [True, False])
def test_vocabularies_of_files(
    joint: bool, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = make_config(joint=joint, size=48 if joint else 33)
    prepare(learnt)
    other = make_config([("the ä", "die Ω")] * 4, joint=joint)
    config = from_files(other, learnt.data.folder, folder=tmp_path / "given")
    manifest = prepare(config)
    for name in ["joint.model"] if joint else ["source.model", "target.model"]:
        model = (learnt.data.folder / name).read_bytes()
        assert (tmp_path / "given" / name).read_bytes() == model
    assert "unknown to the vocabulary: Ω (1 character, 20.0 % of the target text)" in said(capsys)
    # The same files elsewhere are the same, others in their place are not.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(learnt.data.folder, elsewhere)
    moved = from_files(other, elsewhere, folder=tmp_path / "given")
    assert prepare(moved) == manifest
    tiny_vocabularies(joint=joint).save(elsewhere)
    with pytest.raises(DataError, match=r"vocabulary\.digest was sha256 \w+, is sha256 \w+"):
        prepare(moved)
    with pytest.raises(DataError, match=r"vocabulary\.kind was file, is learnt"):
        prepare(other.model_copy(update={"data": config.data}))


def test_the_folder_of_another_base_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    base = make_base(make_config(), tmp_path / "base")
    second = based_on(make_config(size=44), tmp_path, folder=tmp_path / "second data")
    other = make_base(second.model_copy(update={"base": None}), tmp_path / "other")
    config = based_on(make_config(), base, folder=tmp_path / "tuned")
    first = prepare(config)
    assert prepare(config) == first
    with pytest.raises(DataError, match=r"vocabulary\.digest was sha256 \w+, is sha256 \w+"):
        prepare(based_on(config, other))
    with pytest.raises(DataError, match=r"vocabulary\.digest was sha256 \w+, is None"):
        prepare(config.model_copy(update={"base": None}))
    with pytest.raises(DataError, match=r"vocabulary\.digest was sha256 \w+, is None"):
        prepare(based_on(config, base, vocabulary="own"))


def test_the_folder_that_the_base_was_trained_on_serves_as_it_is(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    base = make_base(config, tmp_path / "base")
    learnt = Manifest.load(config.data.folder)
    assert prepare(based_on(config, base)) == learnt
    assert "is prepared already" in capsys.readouterr().err
    anew = prepare(based_on(config, base, folder=tmp_path / "anew"))
    assert anew.fingerprint == learnt.fingerprint


def test_the_same_text_with_another_vocabulary_is_other_data(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    base = make_base(make_config(size=44), tmp_path / "base")
    config = make_config()
    tuned = prepare(based_on(config, base, folder=tmp_path / "tuned"))
    learnt = prepare(based_on(config, base, "own", folder=tmp_path / "own"))
    assert tuned.fingerprint != learnt.fingerprint
    assert "vocabulary.digest" not in learnt.settings


def without_vocabulary(base: Path) -> None:
    (base / "joint.model").unlink()


def with_another_vocabulary(base: Path) -> None:
    tiny_vocabularies().save(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_vocabulary, r"base/source\.model can't be read"),
        (with_another_vocabulary, r"base/joint\.model doesn't belong to the model"),
    ],
)
def test_a_base_without_its_own_vocabulary_is_named(
    change: Callable[[Path], None], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    base = make_base(config, tmp_path / "base")
    change(base)
    with pytest.raises(ModelError, match=message):
        prepare(based_on(config, base, folder=tmp_path / "tuned"))
    assert not (tmp_path / "tuned").exists()
