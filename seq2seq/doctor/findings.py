"""Findings, and the report of them: what was looked at, what was found, what cures it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from seq2seq.terminal import show_table, visible

Level = Literal["fine", "remark", "failure"]


class Finding(NamedTuple):
    """What a check has found; plain types, so that processes can tell each other."""

    level: Level
    """`failure` where a training job would fail, `remark` where it would merely do less well."""
    what: str
    """The thing that was looked at, in a word or two."""
    found: str
    """What it is like."""
    cure: str
    """What to do about it; empty where all is fine."""


def fine(what: str, found: str) -> Finding:
    """Say that a thing is as it should be."""
    return Finding("fine", what, found, "")


def remark(what: str, found: str, cure: str) -> Finding:
    """Say that training would go, but could go better, and how."""
    return Finding("remark", what, found, cure)


def failure(what: str, found: str, cure: str) -> Finding:
    """Say why training would fail, and what to do."""
    return Finding("failure", what, found, cure)


def failure_of(what: str, error: Exception, cure: str) -> Finding:
    """Turn the sentence of an error into a finding.

    Args:
        what: was looked at.
        error: whose sentence says after its last colon or semicolon what to do, or doesn't.
        cure: for a sentence that doesn't.
    """
    sentence = str(error)
    end = max(sentence.rfind(": "), sentence.rfind("; "))
    if end < 0:
        return failure(what, sentence, cure)
    return failure(what, sentence[:end], sentence[end + 2 :])


def would_run(findings: Sequence[Finding]) -> bool:
    """Whether nothing was found that a training job would fail of."""
    return all(finding.level != "failure" for finding in findings)


def show_findings(findings: Sequence[Finding]) -> None:
    """Print the findings, then the cures, then the verdict, to stdout."""
    rows = [(finding.level, finding.what, finding.found) for finding in findings]
    show_table("", ("", "what", "found"), rows)
    cures = [finding for finding in findings if finding.level != "fine"]
    if cures:
        print("\nWhat to do:")
    for finding in cures:
        print(visible(f"- {finding.what} ({finding.level}): {finding.cure}."))
    print(f"\n{_verdict(findings)}", flush=True)


def _verdict(findings: Sequence[Finding]) -> str:
    failures = sum(finding.level == "failure" for finding in findings)
    if not failures:
        return "The job would run."
    return f"The job would fail: {failures} finding{'s' if failures > 1 else ''} above."
