import json
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import (
    Adam,
    Config,
    DataConfig,
    Gnmt,
    HubCorpus,
    InverseSquareRoot,
    Length,
    Linear,
    MixCorpus,
    MixPart,
    SampleCorpus,
    SearchConfig,
    Sgd,
    TableCorpus,
    TextCorpus,
)
from seq2seq.config_file import (
    differences,
    dump_config,
    load_config,
    parse_config,
    search_settings,
    setting,
)
from seq2seq.config_mistakes import flow
from seq2seq.errors import ConfigError

FILES = ("data.corpus.train=[a.en, a.de]", "data.corpus.validation=[b.en, b.de]")


def read(text: str, *overrides: str) -> Config:
    return parse_config(text, name="x.yaml", overrides=overrides)


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, *overrides)
    return str(caught.value).splitlines()


# What is written, and what it means --------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("data.source", "no", "no"),
        ("data.target", "NO", "NO"),
        ("data.target", "'no'", "no"),
        ("data.source", "null", None),
        ("data.source", "'null'", "null"),
        ("data.source", '"~"', "~"),
        ("data.source", "12:00", "12:00"),
        ("data.source", "2024-01-01", "2024-01-01"),
        ("data.source", "1e3", "1e3"),
        ("data.folder", "2024", Path("2024")),
        ("data.folder", "../data/a b", Path("../data/a b")),
        ("training.optimizer.learning_rate", "1e-3", 0.001),
        ("training.optimizer.learning_rate", "5E-4", 0.0005),
        ("training.optimizer.learning_rate", "1.0e-3", 0.001),
        ("training.optimizer.learning_rate", "'1e-3'", 0.001),
        ("training.optimizer.learning_rate", "1,0e-3", None),
        ("training.optimizer.betas", "[9e-1, .98]", (0.9, 0.98)),
        ("training.optimizer.schedule.warmup", "1e3", Length(1000)),
        ("training.optimizer.schedule.warmup", "2 epochs", Length(2, "epochs")),
        ("training.optimizer.schedule.warmup", "10%", Length(10, "%")),
        ("training.optimizer.schedule.warmup", "1.5", None),
        ("training.optimizer.schedule.warmup", "~", None),
        ("training.steps", "5e4", 50000),
        ("training.steps", "1_000", 1000),
        ("training.steps", "yes", None),
        ("training.steps", "12:00", None),
        ("training.steps", "1.5", None),
        ("training.steps", "0x10", None),
        ("training.label_smoothing", "0,1", None),
        ("seed", "010", 10),
        ("seed", "null", None),
        ("vocabulary.split_digits", "yes", True),
        ("vocabulary.split_digits", "Off", False),
        ("vocabulary.split_digits", "true", True),
        ("vocabulary.split_digits", "maybe", None),
        ("model.tied", "none", "none"),
        ("model.tied", "null", None),
        ("trainer.threads", "5", 5),
    ],
)
def test_scalars_mean_what_is_written_in_the_file_and_on_the_command_line(
    key: str, written: str, value: Any
):
    lines = [" " * 2 * depth + f"{name}:" for depth, name in enumerate(key.split("."))]
    for text, overrides in (("\n".join(lines) + f" {written}\n", []), ("{}", [f"{key}={written}"])):
        if value is None:
            with pytest.raises(ConfigError, match=f"{key}: must be "):
                read(text, *overrides)
        else:
            assert attrgetter(key)(read(text, *overrides)) == value


@pytest.mark.parametrize("written", ["null", "~", "Null", "NULL", ""])
def test_null_and_nothing_are_none(written: str):
    config = read(f"trainer: {{threads: {written}}}", f"validation.patience={written}")
    assert config.trainer.threads is None
    assert config.validation.patience is None


def test_list_of_files_may_hold_any_word():
    config = read("{}", "data.corpus.kind=text", *FILES, "data.corpus.test=[no, 010]")
    corpus = config.data.corpus
    assert isinstance(corpus, TextCorpus)
    assert corpus.test == (Path("no"), Path("010"))


def test_a_table_is_one_file_or_several():
    corpus = read(
        "data: {corpus: {kind: table, train: a/*.tsv, validation: [b.csv, no], header: no}}",
        "data.corpus.test=[c.jsonl]",
    ).data.corpus
    assert corpus == TableCorpus(
        kind="table",
        train=Path("a/*.tsv"),
        validation=(Path("b.csv"), Path("no")),
        test=(Path("c.jsonl"),),
        header=False,
    )


def test_all_defaults():
    assert read("{}") == Config()


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfseed: 5\ndata:\n  source: fr\n",
        b"seed: 5\r\ndata:\r\n  source: fr\r\n",
        b"seed: 5\rdata:\r  source: fr\r",
        b"%YAML 1.1\n---\nseed: 5\ndata: {source: fr} # French\n...\n",
        b"{seed: 5, data: {source: fr}}",
    ],
)
def test_ways_to_write_one_config(data: bytes, tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    config = load_config(path)
    assert (config.seed, config.data.source) == (5, "fr")


# The command line --------------------------------------------------------------------------------


def test_command_line_wins():
    config = read("training: {steps: 10, log_every: 5}", "training.steps=20", "model.tied=none")
    assert (config.training.steps, config.training.log_every) == (20, 5)
    assert config.model.tied == "none"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a: b", "a: b"),
        ("*a", "*a"),
        ("&a", "&a"),
        ("!a", "!a"),
        ("a # b", "a # b"),
        ("a=b", "a=b"),
        ("'a: b'", "a: b"),
        ('"[a]"', "[a]"),
        ("'[a]'", "[a]"),
        (" a ", "a"),
        ("@a", "@a"),
        ("%a", "%a"),
    ],
)
def test_text_on_the_command_line(written: str, value: str):
    assert read("{}", f"data.source={written}").data.source == value


def test_section_on_the_command_line_adds_to_the_files():
    config = read("training: {steps: 10}", "training={log_every: 5, checkpoint: {every: 7}}")
    assert config.training.model_dump(include={"steps", "log_every"}) == {
        "steps": 10,
        "log_every": 5,
    }
    assert config.training.checkpoint.every == 7


def test_none_and_section_replace_each_other():
    assert read("validation: {search: {beam: 2}}", "validation.search=null") == Config()
    config = read("validation: {search: null}", "validation.search.beam=2")
    assert config.validation_search.beam == 2


# Sections with several forms ---------------------------------------------------------------------


def test_without_kind_a_section_has_its_default_form():
    config = read("data: {corpus: {pairs: 100}}", "training.optimizer.schedule.warmup=7")
    assert config.data.corpus == SampleCorpus(pairs=100)
    assert config.training.optimizer.schedule == InverseSquareRoot(warmup=Length(7))


def test_other_kind_on_the_command_line_starts_the_section_afresh():
    hub = "data: {corpus: {kind: hub, name: x, train: y}, max_length: 50}"
    config = read(hub, "data.corpus.kind=text", *FILES)
    assert isinstance(config.data.corpus, TextCorpus)
    assert config.data.max_length == 50
    assert read(hub, "data.corpus.kind=sample").data.corpus == SampleCorpus()
    assert read("data: {corpus: {pairs: 3}}", "data.corpus={kind: hub, name: x}").data.corpus == (
        HubCorpus(kind="hub", name="x")
    )


def test_same_kind_on_the_command_line_keeps_the_section():
    hub = "data: {corpus: {kind: hub, name: x, train: y}}"
    config = read(hub, "data.corpus.kind=hub", "data.corpus.test=null")
    assert config.data.corpus == HubCorpus(kind="hub", name="x", train="y", test=None)
    config = read("data: {corpus: {pairs: 3}}", "data.corpus.kind=sample")
    assert config.data.corpus == SampleCorpus(pairs=3)


def test_kind_of_a_section_that_the_file_leaves_out():
    config = read("{}", "training.optimizer.schedule.kind=linear")
    assert config.training.optimizer.schedule == Linear(kind="linear")


def test_a_section_of_several_forms_in_another_one():
    """The optimizer's schedule stays where the optimizer does, and starts afresh where not."""
    text = "training: {optimizer: {kind: sgd, momentum: 0.5, schedule: {kind: gnmt, cuts: 3}}}"
    optimizer = read(text, "training.optimizer.learning_rate=2").training.optimizer
    schedule = Gnmt(kind="gnmt", cuts=3)
    assert optimizer == Sgd(kind="sgd", momentum=0.5, learning_rate=2.0, schedule=schedule)
    optimizer = read(text, "training.optimizer.kind=adam").training.optimizer
    assert optimizer == Adam(kind="adam")


# Mistakes ----------------------------------------------------------------------------------------


def mix(parts: str, *settings: str) -> str:
    """A config of a mix of corpora."""
    corpus = ", ".join(["kind: mix", f"parts: {{{parts}}}", *settings])
    return f"data: {{corpus: {{{corpus}}}}}"


TABLE: list[tuple[str, str]] = [
    # keys
    (
        "model:\n  hiden_size: 3",
        "x.yaml:2: model.hiden_size: unknown key; did you mean 'model.encoder_size' or"
        " 'model.decoder_size'?",
    ),
    ("modle: {tied: none}", "x.yaml:1: modle: unknown key; did you mean 'model'?"),
    (
        "training: {learning_rate: 1e-3}",
        "x.yaml:1: training.learning_rate: unknown key; did you mean"
        " 'training.optimizer.learning_rate'?",
    ),
    ("steps: 5", "x.yaml:1: steps: unknown key; did you mean 'training.steps'?"),
    ("optimizer: {}", "x.yaml:1: optimizer: unknown key; did you mean 'training.optimizer'?"),
    (
        "search: {qqqq: 5}",
        "x.yaml:1: search.qqqq: unknown key; search has beam, groups, diversity, sampling,"
        " length_penalty, normalisation, coverage_penalty, min_length, max_length,"
        " min_length_ratio, max_length_ratio, block_ngrams, repetition_penalty, avoid, keep,"
        " replace_unknown, choose_by, nbest, shortlist, precision, max_source_length and"
        " tokens_per_batch",
    ),
    (
        "qqqq: 5",
        "x.yaml:1: qqqq: unknown key; a config has seed, data, vocabulary, model, base,"
        " training, validation, search, monitoring and trainer",
    ),
    (
        "monitoring: {loggers: tensorbord}",
        "x.yaml:1: monitoring.loggers: must be a list, each 'tensorboard', 'csv', 'wandb' or"
        " 'mlflow', but is 'tensorbord'",
    ),
    (
        "training.steps: 5",
        "x.yaml:1: training.steps: write the section on a line of its own, and its keys indented"
        " below it",
    ),
    ("? [a]\n: 3", "x.yaml:1: a key must be a word"),
    ("seed: 1\nseed: 1", "x.yaml:2: seed: is given twice, in lines 1 and 2"),
    (
        "search:\n  beam: 1\n  beam: 2",
        "x.yaml:3: search.beam: is given twice, in lines 2 and 3",
    ),
    (
        "search: {beam: 1}\nseed: 1\nsearch: {length_penalty: 0}",
        "x.yaml:3: search: is given twice, in lines 1 and 3",
    ),
    # forms
    (
        "data: {corpus: {name: x}}",
        "x.yaml:1: data.corpus.name: belongs to kind 'hub', but the kind is 'sample'",
    ),
    (
        "data:\n  corpus:\n    kind: hub",
        "x.yaml:2: data.corpus.name: is missing, but data.corpus of kind 'hub' needs it",
    ),
    (
        "data: {corpus: {kind: foo, name: x}}",
        "x.yaml:1: data.corpus.kind: must be 'sample', 'hub', 'text', 'table', 'tmx' or 'mix', but"
        " is 'foo'",
    ),
    (
        "data: {corpus: {kind: null}}",
        "x.yaml:1: data.corpus.kind: must be 'sample', 'hub', 'text', 'table', 'tmx' or 'mix', but"
        " is null",
    ),
    # values
    ("seed: x", "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is 'x'"),
    ("seed: -1", "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is -1"),
    ("seed:", "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is null"),
    (
        "seed: {a: 1}",
        "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is a section with a",
    ),
    ("seed: [1]", "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is [1]"),
    ("model: 5", "x.yaml:1: model: must be a section, but is 5"),
    ("model:", "x.yaml:1: model: must be a section, but is null"),
    ("data: {source: [en]}", "x.yaml:1: data.source: must be text, but is [en]"),
    ("data: {folder: null}", "x.yaml:1: data.folder: must be a path, but is null"),
    (
        "data: {corpus: {kind: hub, name: x, test: []}}",
        "x.yaml:1: data.corpus.test: must be text or null, but is []",
    ),
    (
        "data: {corpus: {kind: text, train: [a, b], validation: [a, b], test: a}}",
        "x.yaml:1: data.corpus.test: must be a list of two, each a path, or null, but is 'a'",
    ),
    (
        "data: {corpus: {kind: text, train: [a], validation: [a, b]}}",
        "x.yaml:1: data.corpus.train: must be a list of two, each a path, or null, but is [a]",
    ),
    (
        "data: {corpus: {kind: hub, name: [a]}}",
        "x.yaml:1: data.corpus.name: must be text, but is [a]",
    ),
    (
        "data: {corpus: {kind: table, train: a, validation: []}}",
        "x.yaml:1: data.corpus.validation: must be a path, or a list of at least one, each a path,"
        " or null, but is []",
    ),
    (
        "data: {corpus: {kind: table, train: a, validation: b, test: {c: d}}}",
        "x.yaml:1: data.corpus.test: must be a path, or a list of at least one, each a path, or"
        " null, but is a section with c",
    ),
    (
        "data: {corpus: {kind: table, train: a, validation: [a, [b]]}}",
        "x.yaml:1: data.corpus.validation: must be a path, or a list of at least one, each a path,"
        " or null, but is [a, [b]]",
    ),
    (
        "data: {corpus: {kind: hub, name: x, streaming: yes, train: 'train[:1%]', test: a+b}}",
        "x.yaml:1: data.corpus.train: must be the name of one split, the whole of it, where"
        " `streaming` is true, but is 'train[:1%]'",
    ),
    # mixes
    (
        mix("a: {corpus: {kind: text, validation: [a, b]}}"),
        "x.yaml:1: data.corpus.parts: must have a part with `corpus.train`, but have none",
    ),
    (
        mix("a: {corpus: {kind: text, train: [a, b]}}"),
        "x.yaml:1: data.corpus.parts: must have a part with `corpus.validation`, but have none",
    ),
    (
        mix("a: {corpus: {kind: tmx, validation: x}, limit: 1}, b: {corpus: {kind: sample}}"),
        "x.yaml:1: data.corpus.parts.a.limit: has no effect, since there is no `corpus.train`",
    ),
    (
        mix("a: {corpus: {kind: sample}, weight: 0}"),
        "x.yaml:1: data.corpus.parts.a.weight: must be a number > 0, but is 0",
    ),
    (
        mix("a: {corpus: {kind: sample}, weight: -1}, b: {corpus: {kind: sample}}"),
        "x.yaml:1: data.corpus.parts.a.weight: must be a number > 0, but is -1",
    ),
    (
        mix("a: {corpus: {kind: sample}, weight: 2}", "temperature: 5"),
        "x.yaml:1: data.corpus.temperature: must be null where parts have a weight (a), but is 5.0",
    ),
    (
        mix("a: {corpus: {kind: sample}, target: fr}, b: {corpus: {kind: sample}}"),
        "x.yaml:1: data.tags: must be true where `data.corpus.parts` have several target languages"
        " (fr, de), but is false",
    ),
    (
        mix("a: {corpus: {kind: sample}, target: fr}"),
        "x.yaml:1: data.target: must be a target language of `data.corpus.parts` (fr), but is 'de'",
    ),
    (
        mix("a: {corpus: {kind: text, train: [a, b], header: no}}"),
        "x.yaml:1: data.corpus.parts.a.corpus.header: belongs to kind 'table', but the kind is"
        " 'text'",
    ),
    (
        mix("a: {corpus: {kind: sample}, wieght: 2}"),
        "x.yaml:1: data.corpus.parts.a.wieght: unknown key; did you mean"
        " 'data.corpus.parts.a.weight'?",
    ),
    (
        mix("a: {corpus: {kind: mix}}"),
        "x.yaml:1: data.corpus.parts.a.corpus.kind: must be 'sample', 'hub', 'text', 'table' or"
        " 'tmx', but is 'mix'",
    ),
    (
        mix("a: {corpus: {pairs: 3}}"),
        "x.yaml:1: data.corpus.parts.a.corpus.kind: must be 'sample', 'hub', 'text', 'table' or"
        " 'tmx', but is null",
    ),
    (
        mix("a: {weight: 2}"),
        "x.yaml:1: data.corpus.parts.a.corpus: is missing, but data.corpus.parts.a needs it",
    ),
    (mix("a: 3"), "x.yaml:1: data.corpus.parts.a: must be a section, but is 3"),
    (
        mix("a b: {corpus: {kind: sample}}"),
        "x.yaml:1: data.corpus.parts: names must have letters, digits, - and _ alone, but one is"
        " 'a b'",
    ),
    (
        "data: {corpus: {kind: mix, parts: {}}}",
        "x.yaml:1: data.corpus.parts: must be a section of sections, but is a section with nothing"
        " in it",
    ),
    (
        "data: {corpus: {kind: mix, parts: [a]}}",
        "x.yaml:1: data.corpus.parts: must be a section of sections, but is [a]",
    ),
    (
        "data: {corpus: {kind: mix}}",
        "x.yaml:1: data.corpus.parts: is missing, but data.corpus of kind 'mix' needs it",
    ),
    (
        "data: {corpus: {kind: text, train: [a, b], validation: [a, b], header: no}}",
        "x.yaml:1: data.corpus.header: belongs to kind 'table', but the kind is 'text'",
    ),
    (
        "vocabulary: {split_digits: 5}",
        "x.yaml:1: vocabulary.split_digits: must be true or false, but is 5",
    ),
    (
        "vocabulary: {character_coverage: 1.1}",
        "x.yaml:1: vocabulary.character_coverage: must be a number > 0 and ≤ 1, but is 1.1",
    ),
    (
        "vocabulary: {algorithm: word}",
        "x.yaml:1: vocabulary.algorithm: must be 'unigram', 'bpe' or 'char', but is 'word'",
    ),
    (
        "vocabulary: {symbols: [<br>, a b]}",
        "x.yaml:1: vocabulary.symbols: must be texts with no space and no ▁ in them, but has 'a b'",
    ),
    (
        "vocabulary: {kind: file, source: spm.model, size: 100}",
        "x.yaml:1: vocabulary.size: belongs to kind 'learnt', but the kind is 'file'",
    ),
    (
        "vocabulary: {kind: file, source: a.model, target: b.model}",
        "x.yaml:1: model.tied: must be 'target' or 'none' where `vocabulary.target` is given, but"
        " is 'all'",
    ),
    (
        "vocabulary: {algorithm: char, split_digits: yes}",
        "x.yaml:1: vocabulary.split_digits: must be false where `vocabulary.algorithm` is 'char',"
        " since each digit is a piece anyway, but is true",
    ),
    (
        "vocabulary: {algorithm: bpe}\ntraining: {sampling: {kind: unigram}}",
        "x.yaml:2: training.sampling.kind: must be 'none' or 'bpe_dropout' where"
        " `vocabulary.algorithm` is 'bpe', but is 'unigram'",
    ),
    (
        "trainer: {threads: 0}",
        "x.yaml:1: trainer.threads: must be a whole number ≥ 1 and ≤ 1024 or null, but is 0",
    ),
    (
        "training: {optimizer: {learning_rate: inf}}",
        "x.yaml:1: training.optimizer.learning_rate: must be a number > 0, but is 'inf'",
    ),
    (
        "training: {label_smoothing: '0,1'}",
        "x.yaml:1: training.label_smoothing: must be a number ≥ 0 and < 1, but is '0,1'; write 0.1",
    ),
    (
        "training: {label_smoothing: '0,125'}",
        "x.yaml:1: training.label_smoothing: must be a number ≥ 0 and < 1, but is '0,125'; write"
        " 0.125",
    ),
    (
        "training:\n  optimizer:\n    learning_rate: 1,0e-3",
        "x.yaml:3: training.optimizer.learning_rate: must be a number > 0, but is '1,0e-3'; write"
        " 1.0e-3",
    ),
    (
        "training:\n  steps: 50,000",
        "x.yaml:2: training.steps: must be a whole number ≥ 1, but is '50,000'; write 50000",
    ),
    (
        "training: {optimizer: {betas: [0.9, 1.5]}}",
        "x.yaml:1: training.optimizer.betas: must be a list of two, each a number ≥ 0 and < 1, but"
        " is [0.9, 1.5]",
    ),
    (
        "training: {optimizer: {betas: [2, x, 3]}}",
        "x.yaml:1: training.optimizer.betas: must be a list of two, each a number ≥ 0 and < 1, but"
        " is [2, x, 3]",
    ),
    (
        "training: {optimizer: {schedule: {warmup: 2 weeks}}}",
        "x.yaml:1: training.optimizer.schedule.warmup: must be a length > 0 such as 500 (steps),"
        " 2 epochs, 1e6 tokens or 10% (of the run), but is '2 weeks'",
    ),
    (
        "training:\n  optimizer:\n    schedule: {kind: gnmt, interval: 0%}",
        "x.yaml:3: training.optimizer.schedule.interval: must be a length > 0 such as 500 (steps),"
        " 2 epochs, 1e6 tokens or 10% (of the run), or null, but is '0%'",
    ),
    (
        "training: {optimizer: {schedule: {kind: cosine, factor: 0.5}}}",
        "x.yaml:1: training.optimizer.schedule.factor: belongs to kind 'plateau' or 'gnmt', but"
        " the kind is 'cosine'",
    ),
    (
        "training: {optimizer: {kind: sgd, betas: [0.9, 0.98]}}",
        "x.yaml:1: training.optimizer.betas: belongs to kind 'adamw' or 'adam', but the kind is"
        " 'sgd'",
    ),
    (
        "training: {optimizer: {kind: adagrad}}",
        "x.yaml:1: training.optimizer.kind: must be 'adamw', 'adam' or 'sgd', but is 'adagrad'",
    ),
    (
        "seed: " + 100 * "x",
        "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is '" + 78 * "x" + "…",
    ),
    # rules over several keys
    (
        "seed: 1\nvocabulary: {joint: false}",
        "x.yaml:2: model.tied: must be 'target' or 'none' where `vocabulary.joint` is false, but is"
        " 'all'",
    ),
    (
        "data: {max_length: 9}\ntraining:\n  tokens_per_step: 9",
        "x.yaml:3: training.tokens_per_step: must be at least `data.max_length` + 1 = 10, but is 9",
    ),
    # YAML
    ("", "x.yaml: is empty; `{}` stands for all defaults"),
    ("# seed: 5\n", "x.yaml: is empty; `{}` stands for all defaults"),
    ("- seed", "x.yaml: must hold sections such as `training:`, but holds something else"),
    ("seed", "x.yaml: must hold sections such as `training:`, but holds something else"),
    ("seed: 1\n\tx: 1", "x.yaml:2: isn't YAML: a tab; indent with spaces"),
    ("a: b: c", "x.yaml:1: isn't YAML: a `: ` too many; put text that holds one in quotes"),
    (
        "data:\n    source: en\n  target: de",
        "x.yaml:3: isn't YAML: the indentation doesn't fit the lines above",
    ),
    (
        "data: {source: en\nseed: 1",
        "x.yaml:2: isn't YAML: no `}` where one is needed (opened in line 1)",
    ),
    ("data: {source: en", "x.yaml:1: isn't YAML: no `}` where one is needed"),
    ("seed: 'x\n\n", "x.yaml:3: isn't YAML: the text ends too early (opened in line 1)"),
    ("seed: 1\nx\ny: 1", "x.yaml:3: isn't YAML: neither `key: value` nor part of a quoted text"),
    ("seed: 1\n---\nseed: 2", "x.yaml:2: isn't YAML: a second document (`---`)"),
    ("seed: @a", "x.yaml:1: isn't YAML: found character '@' that cannot start any token"),
    ("seed: 1\ndata: \x01", "x.yaml:2: isn't YAML: the character U+0001"),
    ("data: {folder: *.x}", "x.yaml:1: isn't YAML: text that begins with `*` or `&` needs quotes"),
    (
        "seed: *a",
        "x.yaml:1: `*a` is YAML for an alias, and those aren't read; text needs quotes",
    ),
    (
        "seed: &a 1",
        "x.yaml:1: `&a` is YAML for an anchor, and those aren't read; text needs quotes",
    ),
    (
        "data: {folder: !!python/object/apply:os.getcwd ''}",
        "x.yaml:1: `!!python/object/apply:os.getcwd` is YAML for a tag, and those aren't read;"
        " text needs quotes",
    ),
    (
        "seed: !!str 1",
        "x.yaml:1: `!!str` is YAML for a tag, and those aren't read; text needs quotes",
    ),
    ("seed: " + "[" * 500 + "]" * 500, "x.yaml: is nested too deeply"),
]


def test_parts_of_a_mix_can_be_changed_on_the_command_line():
    text = mix("a: {corpus: {kind: sample}}, b-2: {corpus: {kind: sample, pairs: 7}, weight: 2}")
    key = "data.corpus.parts.b-2"
    overrides = [f"{key}.weight=3", f"{key}.corpus.held_out=5", "data.corpus.parts.a.limit=1e3"]
    config = read(text, *overrides)
    assert setting(config, f"{key}.weight") == "3.0"
    part = config.data.parts["b-2"]
    assert part.corpus == SampleCorpus(pairs=7, held_out=5)
    assert setting(config, "data.corpus.parts.a.limit") == "1000"
    with pytest.raises(ConfigError, match=r"data\.corpus\.parts has a and b-2, but no c"):
        setting(config, "data.corpus.parts.c.limit")
    with pytest.raises(ConfigError, match="parts: is a section; name one of its settings: a and b"):
        setting(config, "data.corpus.parts")


def test_parts_of_a_mix_have_the_languages_of_the_data_by_default():
    text = mix("a: {corpus: {kind: sample}}, b: {corpus: {kind: sample}, source: it, target: fr}")
    data = read(text, "data.tags=yes").data
    languages = {name: (part.source, part.target) for name, part in data.parts.items()}
    assert languages == {"a": ("en", "de"), "b": ("it", "fr")}
    assert data.targets == ["de", "fr"]
    assert (data.default_target, read("{}").data.default_target) == ("de", None)


@pytest.mark.parametrize(("text", "message"), TABLE)
def test_mistake(text: str, message: str):
    assert mistakes(text) == [message]


def test_alias_of_what_it_stands_in():
    assert mistakes("data: &a\n  data: *a") == [
        "2 mistakes in x.yaml:",
        "x.yaml:1: `&a` is YAML for an anchor, and those aren't read; text needs quotes",
        "x.yaml:2: `*a` is YAML for an alias, and those aren't read; text needs quotes",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.steps"],
            "must be section.key=value, such as training.steps=1000, but is 'training.steps'",
        ),
        (["=5"], "must be section.key=value, such as training.steps=1000, but is '=5'"),
        (["a.=5"], "must be section.key=value, such as training.steps=1000, but is 'a.=5'"),
        (["held_out=9"], "held_out: unknown key; did you mean 'data.corpus.held_out'?"),
        (["seed=x"], "seed: must be a whole number ≥ 0 and ≤ 4294967295, but is 'x'"),
        (["steps=5"], "steps: unknown key; did you mean 'training.steps'?"),
        (["training.stps=5"], "training.stps: unknown key; did you mean 'training.steps'?"),
        (["modle.tied=none"], "modle: unknown key; did you mean 'model'?"),
        (
            ["seed.x=5"],
            "seed: must be a whole number ≥ 0 and ≤ 4294967295, but is a section with x",
        ),
        (["model=5"], "model: must be a section, but is 5"),
        (["seed=1", "seed=1"], "seed: is given twice"),
        (["search={beam: 1}", "search.beam=1"], "search.beam: is given twice"),
        (["search={beam: 1, beam: 2}"], "search.beam: is given twice"),
        (
            ["validation.search=null", "validation.search.beam=1"],
            "validation.search: is given twice",
        ),
        (
            ["data.source=[en"],
            "data.source: isn't YAML: no `]` where one is needed (in '[en'; text that begins so"
            " needs quotes)",
        ),
        (
            ["data.source={en"],
            "data.source: isn't YAML: no `}` where one is needed (in '{en'; text that begins so"
            " needs quotes)",
        ),
        (
            ["data.source='en"],
            """data.source: isn't YAML: the text ends too early (in "'en"; text that begins so"""
            " needs quotes)",
        ),
        (
            ["data.source=[*a]"],
            "data.source: `*a` is YAML for an alias, and those aren't read; text needs quotes"
            " (in '[*a]'; text that begins so needs quotes)",
        ),
        (
            ["data.corpus.kind=hub"],
            "data.corpus.name: is missing, but data.corpus of kind 'hub' needs it",
        ),
        (
            ["training.tokens_per_step=200"],
            "training.tokens_per_step: must be at least `data.max_length` + 1 = 201, but is 200",
        ),
        (
            ["data.corpus.name=x"],
            "data.corpus.name: belongs to kind 'hub', but the kind is 'sample'",
        ),
    ],
)
def test_mistake_on_the_command_line(overrides: list[str], message: str):
    assert mistakes("{}", *overrides) == [f"command line: {message}"]


def test_all_mistakes_are_listed_at_once_in_the_order_of_the_file():
    text = """\
seed: -1
data: {corpus: {kind: text}}
model:
  hiden_size: 3
  tied: [x, y]
training:
  tokens_per_step: 10
  tokens_per_device: 20
  tokens_per_device: 30
  label_smoothing: 0,5
vocabulary:
  joint: perhaps
search: &s {beam: 1}
"""
    overrides = ["training.optimizer.clip=0", "steps", "training.log_every=[", "trainr.threads=1"]
    assert mistakes(text, *overrides) == [
        "14 mistakes in x.yaml:",
        "x.yaml:1: seed: must be a whole number ≥ 0 and ≤ 4294967295, but is -1",
        "x.yaml:2: data.corpus.train: is missing, but data.corpus of kind 'text' needs it",
        "x.yaml:2: data.corpus.validation: is missing, but data.corpus of kind 'text' needs it",
        "x.yaml:4: model.hiden_size: unknown key; did you mean 'model.encoder_size' or"
        " 'model.decoder_size'?",
        "x.yaml:5: model.tied: must be 'all', 'target' or 'none', but is [x, y]",
        "x.yaml:7: training.tokens_per_step: must be at least `data.max_length` + 1 = 201, but is"
        " 10",
        "x.yaml:9: training.tokens_per_device: is given twice, in lines 8 and 9",
        "x.yaml:10: training.label_smoothing: must be a number ≥ 0 and < 1, but is '0,5'; write"
        " 0.5",
        "x.yaml:12: vocabulary.joint: must be true or false, but is 'perhaps'",
        "x.yaml:13: `&s` is YAML for an anchor, and those aren't read; text needs quotes",
        "command line: must be section.key=value, such as training.steps=1000, but is 'steps'",
        "command line: training.log_every: isn't YAML: the text ends too early (in '['; text that"
        " begins so needs quotes)",
        "command line: trainr: unknown key; did you mean 'trainer'?",
        "command line: training.optimizer.clip: must be a number > 0, but is 0",
    ]


def test_mistakes_of_the_command_line_are_listed_for_a_file_that_cannot_be_read():
    assert mistakes("a: {", "seed") == [
        "2 mistakes in x.yaml:",
        "x.yaml:1: isn't YAML: the text ends too early",
        "command line: must be section.key=value, such as training.steps=1000, but is 'seed'",
    ]


def test_a_rule_over_several_keys_says_nothing_where_one_of_them_is_wrong():
    assert mistakes("data: {max_length: x}\ntraining: {tokens_per_step: 1}") == [
        "x.yaml:1: data.max_length: must be a whole number ≥ 1, but is 'x'"
    ]


def test_the_command_line_mends_the_file():
    assert read("seed: x\nmodel: 5", "seed=7", "model.tied=none").seed == 7


# Files -------------------------------------------------------------------------------------------


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match=r"x\.yaml: there is no such file$"):
        load_config(path)
    with pytest.raises(ConfigError, match=r": must be a YAML file, but is a folder$"):
        load_config(tmp_path)
    path.write_bytes(b"seed: 1\n# \xe9t\xe9\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2: must be UTF-8 text, but isn't$"):
        load_config(path)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"x\.yaml: can't be read: Permission denied$"):
        load_config(path)


def test_reading_a_config_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; from seq2seq.config_file import *;"
        "load_config(Path(sys.argv[1]));"
        "print(*{'torch', 'numpy', 'pytorch_lightning', 'datasets'} & set(sys.modules))"
    )
    config = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    command = [sys.executable, "-c", code, str(config)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=config.parents[1]
    )
    assert done.stdout == "\n"


# And back ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text == text.strip()
)
PATH = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    Path
)
WHOLE = st.integers(1, 10**20)
RATE = st.floats(0, exclude_min=True, allow_infinity=False)
LENGTH = st.builds(Length, RATE, st.sampled_from(("epochs", "%"))) | st.builds(
    Length, st.integers(1, 10**15).map(float), st.sampled_from(("steps", "tokens"))
)
SHARE = st.floats(0, 1, exclude_max=True)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a config in which any kind of value can be anything that its rule allows."""
    two = st.tuples(PATH, PATH)
    corpora = st.one_of(
        st.builds(SampleCorpus, pairs=WHOLE),
        st.builds(HubCorpus, kind=st.just("hub"), name=TEXT, test=st.none() | TEXT),
        st.builds(
            TextCorpus, kind=st.just("text"), train=two, validation=two, test=two | st.none()
        ),
        st.builds(
            TableCorpus, kind=st.just("table"), train=PATH, validation=two, test=PATH | st.none()
        ),
    )
    parts = st.dictionaries(
        st.sampled_from(["a", "b-2", "C_3"]),
        st.builds(MixPart, corpus=corpora, weight=RATE, limit=st.none() | WHOLE),
        min_size=1,
    )
    corpora |= st.builds(MixCorpus, kind=st.just("mix"), parts=parts)
    return Config.model_validate(
        {
            "seed": draw(st.integers(0, 2**32 - 1)),
            "data": {"source": draw(TEXT), "folder": draw(PATH), "corpus": draw(corpora)},
            "vocabulary": {"split_digits": draw(st.booleans())},
            "training": {
                "label_smoothing": draw(SHARE),
                "optimizer": {
                    "learning_rate": draw(RATE),
                    "betas": draw(st.tuples(SHARE, SHARE)),
                    "schedule": draw(
                        st.builds(InverseSquareRoot, warmup=LENGTH)
                        | st.builds(Gnmt, kind=st.just("gnmt"), interval=st.none() | LENGTH)
                    ),
                },
            },
            "validation": {"search": draw(st.none() | st.just({"beam": draw(WHOLE)}))},
            "trainer": {"threads": draw(st.none() | st.integers(1, 1024))},
        }
    )


@given(configs())
@settings(max_examples=30, deadline=None)
def test_a_config_is_read_back_as_it_was_written(config: Config):
    assert parse_config(dump_config(config), name="x.yaml") == config


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "null",
        "~",
        "",
        "1e3",
        "a: b",
        "a #b",
        "a\x85b",
        "a\u2028b",
        "a\nb",
        "\ufeff",
        "*",
        "\\",
    ],
)
def test_texts_that_yaml_is_apt_to_change_are_read_back(text: str):
    config = Config(data=DataConfig(source=text, folder=Path(text)))
    assert parse_config(dump_config(config), name="x.yaml") == config


@given(configs())
@settings(max_examples=30, deadline=None)
def test_a_config_can_be_given_on_the_command_line(config: Config):
    sections = config.model_dump(mode="json", include={"seed", "validation", "trainer"})
    overrides = [f"{key}={json.dumps(value)}" for key, value in sections.items()]
    new = parse_config("{}", name="x.yaml", overrides=overrides)
    assert new.model_dump(mode="json", include=set(sections)) == sections


def test_written_configs_are_easy_to_read():
    lines = dump_config(Config()).splitlines()
    assert lines[:3] == ["seed: 1", "data:", "  source: en"]
    assert "    betas: [0.9, 0.98]" in lines
    assert "  patience: null" in lines
    assert "  source: 'no'" in dump_config(read("data: {source: no}")).splitlines()
    long = read("{}", f"data.source={'word ' * 50}")
    assert max(map(len, dump_config(long).splitlines())) > 200


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "1"),
        ("training.folder", "runs/a b"),
        ("training.ema", "null"),
        ("trainer.deterministic", "false"),
        ("data.corpus.pairs", "30000"),
        ("training.optimizer.betas", "[0.9, 0.98]"),
        ("base.model", "null"),
    ],
)
def test_one_setting_alone(key: str, value: str):
    config = read("seed: 1", "training.folder=runs/a b")
    assert setting(config, key) == value


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("training.fodler", "did you mean 'training.folder'"),
        ("training", "is a section; name one of its settings: folder, steps"),
        ("training.steps.x", "training.steps is a setting, and no section that has 'x'"),
        ("data.corpus.name", "belongs to kind 'hub'"),
    ],
)
def test_a_setting_that_there_is_not(key: str, sentence: str):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        setting(Config(), key)


def test_differences():
    assert differences(Config(), Config()) == []
    overrides = (
        "training.steps=9",
        "trainer.threads=2",
        "vocabulary.split_digits=yes",
        "validation.search.beam=1",
        "training.optimizer.betas=[0.5, 0.98]",
        "training.optimizer.schedule.kind=linear",
    )
    assert differences(Config(), read("{}", *overrides)) == [
        "vocabulary.split_digits: false → true",
        "training.steps: 2000 → 9",
        "training.optimizer.betas: [0.9, 0.98] → [0.5, 0.98]",
        "training.optimizer.schedule.kind: inverse_sqrt → linear",
        f"validation.search: null → {flow(SearchConfig(beam=1).model_dump(mode='json'))}",
        "trainer.threads: null → 2",
    ]
    assert differences(Config(), read("{}", "data.corpus={kind: hub, name: x, test: null}")) == [
        "data.corpus: {kind: sample, pairs: 30000, held_out: 600} → {kind: hub, name: x,"
        " configuration: null, revision: null, streaming: false, train: train, validation:"
        " validation, test: null, source_column: null, target_column: null}"
    ]


MODEL = Config(seed=5, search=SearchConfig(beam=4, nbest=2, avoid=("no",)))


def test_search_settings_win_over_the_models_own():
    words = ("search.beam=6", "search.sampling={top_k: 3}", "search.avoid=[one, two]")
    found = search_settings(MODEL, words, name="runs/m")
    expected = {"beam": 6, "sampling": {"top_k": 3}, "avoid": ["one", "two"], "nbest": 2}
    assert found == SearchConfig.model_validate(expected)
    assert search_settings(MODEL, (), name="runs/m") == MODEL.search


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ["training.steps=3", "seed=1", "search.beam=2"],
            [
                "2 mistakes in runs/m:",
                "command line: training: is the model's own; settings of `search` alone may be"
                " given here",
                "command line: seed: is the model's own; settings of `search` alone may be given"
                " here",
            ],
        ),
        (
            ["search.baem=2", "search.nbest=x"],
            [
                "2 mistakes in runs/m:",
                "command line: search.baem: unknown key; did you mean 'search.beam'?",
                "command line: search.nbest: must be a whole number ≥ 1, but is 'x'",
            ],
        ),
        (["search.beam=1"], ["runs/m: search.nbest: must be at most `beam` = 1, but is 2"]),
        (["beam=1"], ["command line: beam: unknown key; did you mean 'search.beam'?"]),
        (["search.beam=1", "search.beam=1"], ["command line: search.beam: is given twice"]),
    ],
)
def test_mistakes_in_search_settings_are_listed(words: list[str], messages: list[str]):
    with pytest.raises(ConfigError) as caught:
        search_settings(MODEL, words, name="runs/m")
    assert str(caught.value).splitlines() == messages
