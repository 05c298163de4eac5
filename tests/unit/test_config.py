import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from seq2seq.config import (
    AdamW,
    Config,
    DropoutConfig,
    InverseSquareRoot,
    Length,
    SampleCorpus,
    SearchConfig,
    Section,
    TrainingConfig,
    ValidationConfig,
    VocabularyConfig,
)
from seq2seq.config_mistakes import entries_of, forms_of, rule


def sections(form: type[Section] = Config) -> Iterator[type[Section]]:
    yield form
    for field in form.model_fields.values():
        entry = entries_of(field.annotation)
        for inner in (*forms_of(field.annotation), *([entry] if entry else [])):
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
        AdamW.model_validate({"learning_rate": written})


@pytest.mark.parametrize(
    ("written", "length", "again"),
    [
        (500, Length(500), 500),
        ("500", Length(500), 500),
        ("5e2", Length(500), 500),
        (" 1_000 steps ", Length(1000), 1000),
        ("1 step", Length(1), 1),
        ("2 epochs", Length(2, "epochs"), "2 epochs"),
        ("1.5epochs", Length(1.5, "epochs"), "1.5 epochs"),
        ("1 epoch", Length(1, "epochs"), "1 epoch"),
        ("1e6 tokens", Length(1e6, "tokens"), "1000000 tokens"),
        ("10%", Length(10, "%"), "10%"),
        ("12.5 %", Length(12.5, "%"), "12.5%"),
        (".1%", Length(0.1, "%"), "0.1%"),
        (Length(3, "epochs"), Length(3, "epochs"), "3 epochs"),
    ],
)
def test_length(written: Any, length: Length, again: int | str):
    schedule = InverseSquareRoot.model_validate({"warmup": written})
    assert schedule.warmup == length
    for mode in ("json", "python"):
        plain = schedule.model_dump(mode=mode)
        assert plain["warmup"] == again
        assert InverseSquareRoot.model_validate(plain) == schedule


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0",
        "-5",
        "1.5",
        "1.5 tokens",
        "0 epochs",
        "2 weeks",
        "5 % %",
        "10% steps",
        "1e999 epochs",
        "nan%",
        "5__0",
        "epochs",
        "1,000",
        True,
        None,
        ["5"],
    ],
)
def test_not_a_length(written: Any):
    with pytest.raises(ValidationError):
        InverseSquareRoot.model_validate({"warmup": written})


def test_settings_without_a_kind_of_optimizer_are_adamws():
    """Checkpoints and models of runs that were begun before there were several."""
    plain = Config().model_dump(mode="json")
    assert plain["training"]["optimizer"].pop("kind") == "adamw"
    plain["training"]["optimizer"]["betas"] = [0.5, 0.5]
    assert Config.model_validate(plain).training.optimizer == AdamW(betas=(0.5, 0.5))


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


def test_settings_from_before_there_were_kinds_are_read():
    config = Config.model_validate({"vocabulary": {"size": 64}, "training": {"optimizer": {}}})
    assert config.vocabulary == VocabularyConfig(size=64)
    assert config.training.optimizer == AdamW()


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


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        (
            {"encoder_layers": 2, "bidirectional_layers": 3},
            "`model.bidirectional_layers` must be at most `model.encoder_layers` = 2, but is 3",
        ),
        (
            {"attention": {"kind": "dot"}, "encoder_size": 100, "decoder_size": 100},
            "`model.decoder_size` must be the width of the encoder's highest layer, 200, where"
            " `model.attention.kind` is 'dot', but is 100",
        ),
        (
            {"attention": {"kind": "multi_head", "heads": 3}, "decoder_size": 96},
            "`model.attention.heads` must divide `model.decoder_size` = 96 and the width of the"
            " encoder's highest layer, 512, but is 3",
        ),
        (
            {"bridge": "copy", "encoder_layers": 2, "bidirectional_layers": 1},
            "`model.bridge` must be 'projection' or 'zero' where the encoder's layers, which are"
            " 512, 256 wide, are not as many and as wide as the decoder's (256, 256), but is"
            " 'copy'",
        ),
        (
            {"encoder_layers": 4, "bidirectional_layers": 1, "encoder_residual_from": 2},
            "`model.encoder_residual_from` must be none or at least 3, since layer 2 is not as"
            " wide as what it is given, but is 2",
        ),
        (
            {"encoder_layers": 2, "bidirectional_layers": 1, "encoder_residual_from": 2},
            "`model.encoder_residual_from` must be none, since layer 2 is not as wide as what it"
            " is given, but is 2",
        ),
        (
            {"decoder_layers": 3, "decoder_residual_from": 4},
            "`model.decoder_residual_from` must be at most `model.decoder_layers` = 3, but is 4",
        ),
        ({"cell": {"kind": "gru", "forget_bias": 1.0}}, "Extra inputs are not permitted"),
        ({"attention": {"kind": "general", "heads": 2}}, "Extra inputs are not permitted"),
    ],
)
def test_parts_of_the_network_that_do_not_fit(model: dict[str, Any], mistake: str):
    with pytest.raises(ValidationError, match=re.escape(mistake)):
        Config.model_validate({"model": model})


def test_layers_may_add_what_they_are_given_where_all_above_are_as_wide():
    layers = {"encoder_layers": 4, "bidirectional_layers": 1, "encoder_residual_from": 3}
    assert Config.model_validate({"model": layers}).model.encoder_widths == [512, 256, 256, 256]
    both = {"encoder_layers": 3, "encoder_residual_from": 2, "decoder_residual_from": 2}
    assert Config.model_validate({"model": both}).model.num_bidirectional == 3
