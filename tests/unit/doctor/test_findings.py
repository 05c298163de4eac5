"""The report: every finding that isn't fine has its cure, and the last line is the verdict."""

import pytest

from seq2seq.doctor.findings import (
    failure,
    failure_of,
    fine,
    remark,
    show_findings,
    would_run,
)
from seq2seq.errors import UserError


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        fine("CPUs", "2 usable"),
        remark("devices", "3 GPUs are idle", "start more"),
        failure("meeting", "the port is taken\x1b", "set MASTER_PORT"),
    ]
    show_findings(findings)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[1].split(maxsplit=2) == ["fine", "CPUs", "2 usable"]
    assert "the port is taken\\x1b" in shown
    assert lines[-5:-2] == [
        "What to do:",
        "- devices (remark): start more.",
        "- meeting (failure): set MASTER_PORT.",
    ]
    assert lines[-1] == "The job would fail: 1 finding above."
    assert not would_run(findings)


def test_remarks_keep_no_job_from_running(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [remark("time", "it takes 3 starts", "raise the limit")]
    show_findings(findings)
    assert capsys.readouterr().out.splitlines()[-1] == "The job would run."
    assert would_run(findings)


@pytest.mark.parametrize(
    ("sentence", "found", "cure"),
    [
        ("a, port 1 is taken: set MASTER_PORT", "a, port 1 is taken", "set MASTER_PORT"),
        (
            "they differ (a: 1 → 2); give all the same",
            "they differ (a: 1 → 2)",
            "give all the same",
        ),
        ("it is gone", "it is gone", "look for it"),
    ],
)
def test_the_sentence_of_an_error_is_told_apart(sentence: str, found: str, cure: str) -> None:
    finding = failure_of("thing", UserError(sentence), "look for it")
    assert finding == failure("thing", found, cure)
