from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from seq2seq.config import (
    Config,
    DropoutConfig,
    OptimizerConfig,
    SampleCorpus,
    SearchConfig,
    Section,
    TrainingConfig,
    ValidationConfig,
)
from seq2seq.config_mistakes import forms_of, rule


def sections(form: type[Section] = Config) -> Iterator[type[Section]]:
    yield form
    for field in form.model_fields.values():
        for inner in forms_of(field.annotation):
            yield from sections(inner)


def test_every_section_and_setting_says_what_it_means():
    for section in sections():
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            assert field.description.split("\n\n")[0].endswith("."), f"{section.__name__}.{name}"


def test_the_rule_of_every_setting_can_be_put_into_words():
    for section in sections():
        for field in section.model_fields.values():
            if not forms_of(field.annotation):
                assert rule(field.annotation, field.metadata)
    assert rule(tuple[int, ...]) == "a list, each a whole number"


def test_defaults_obey_the_rules():
    assert Config.model_validate(Config().model_dump()) == Config()


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("5e4", 50000),
        ("5E4", 50000),
        ("1.5e3", 1500),
        ("10.0", 10),
        ("010", 10),
        (" 7 ", 7),
        ("1_000", 1000),
        ("12345678901234567891", 12345678901234567891),
        (3, 3),
    ],
)
def test_whole_number(written: Any, number: int):
    assert SampleCorpus.model_validate({"pairs": written}).pairs == number


@pytest.mark.parametrize(
    "written",
    [
        "1.5",
        "1e-3",
        "1.5e0",
        "1e999",
        "0x10",
        "0o10",
        "12:00",
        "yes",
        "true",
        "e",
        "",
        "1,000",
        "0",
    ],
)
def test_not_a_positive_whole_number(written: str):
    with pytest.raises(ValidationError):
        SampleCorpus.model_validate({"pairs": written})


@pytest.mark.parametrize("written", ["inf", "nan", "-inf", "1e999", float("inf"), float("nan")])
def test_numbers_are_finite(written: Any):
    with pytest.raises(ValidationError):
        OptimizerConfig.model_validate({"learning_rate": written})


def test_sections_are_frozen_and_know_their_keys():
    with pytest.raises(ValidationError):
        DropoutConfig().words = 0.5
    with pytest.raises(ValidationError):
        DropoutConfig.model_validate({"word": 0.5})


def test_rules_over_several_sections_are_all_named_at_once():
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(
            {
                "vocabulary": {"joint": False},
                "data": {"max_length": 300},
                "training": {"tokens_per_step": 300, "tokens_per_device": 9},
            }
        )
    (problem,) = caught.value.errors()
    assert str(problem.get("ctx", {})["error"]).splitlines() == [
        "`model.tied` must be 'target' or 'none' where `vocabulary.joint` is false, but is 'all'",
        "`training.tokens_per_step` must be at least `data.max_length` + 1 = 301, but is 300",
        "`training.tokens_per_device` must be at least 2 × (`data.max_length` + 1) = 602, but is 9",
    ]


def test_rules_let_the_least_allowed_pass():
    training = TrainingConfig(tokens_per_step=201, tokens_per_device=402)
    assert Config(training=training).training == training


def test_what_a_device_computes_at_once_is_a_number_or_auto():
    assert Config.model_validate({"training": {"tokens_per_device": "5e4"}}).training == (
        TrainingConfig(tokens_per_device=50000)
    )
    auto = {"data": {"max_length": 4000}, "training": {"tokens_per_device": "auto"}}
    assert Config.model_validate(auto).training.tokens_per_device == "auto"


def test_validation_searches_as_evaluation_does_unless_told_otherwise():
    search, greedy = SearchConfig(beam=7), SearchConfig(beam=1)
    assert Config(search=search).validation_search == search
    config = Config(search=search, validation=ValidationConfig(search=greedy))
    assert config.validation_search == greedy
