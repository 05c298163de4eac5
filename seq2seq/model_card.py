"""A model folder's card, `README.md`: what the model is, its use, its scores and fingerprints.

It begins with the YAML that hubs of models read. Languages, and names of files, are whatever a user
has called them: they are shown as text, which Markdown makes nothing of.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seq2seq import __version__
from seq2seq.config import DataConfig, ModelConfig
from seq2seq.files import write_whole
from seq2seq.model_description import FORMAT, ModelDescription
from seq2seq.terminal import visible

CARD = "README.md"
# Between these a test set's scores have their place; around them the card may be edited.
_BEGIN, _END = "<!-- seq2seq evaluate: begin -->", "<!-- seq2seq evaluate: end -->"
_TABLES = {
    "all": "one table for source, target and output",
    "target": "a table for the source, one for target and output",
    "none": "tables for source, target and output",
}
_USE = """## Use

```sh
seq2seq translate FOLDER < in.txt > out.txt
```

```python
from seq2seq import Translator

translator = Translator.load("FOLDER")
print(translator.translate(["A sentence."])[0].text)
```

FOLDER is the folder of this file. Nothing in it is ever run: it holds numbers and text."""

Scores = Iterable[tuple[str, float, str]]
"""Names, values in per cent, and signatures."""


def model_card(
    description: ModelDescription, *, pieces: Mapping[str, int], parameters: int, weights: str
) -> str:
    """Write the card of a model.

    Args:
        description: of the model.
        pieces: their numbers, by the names of the vocabularies' files.
        parameters: number of weights, tied ones counted once.
        weights: SHA-256 of their file.
    """
    config, facts = description.config, description.facts
    directions = dict.fromkeys((part.source, part.target) for part in config.data.parts.values())
    languages = " and ".join(
        f"from {_text(source)} to {_text(target)}" for source, target in directions
    )
    parts = [
        _front_matter(config.data),
        f"# Translation {languages}",
        f"A recurrent encoder-decoder with attention that translates {languages}.{_origin(facts)}",
        _table(("", ""), _sizes(config.model, pieces, parameters)),
        _USE,
        f"## Scores\n\n{_validation(facts)}{_BEGIN}\nOn a test set: as soon as `seq2seq evaluate"
        f" FOLDER` has found them.\n{_END}",
        f"## Fingerprints\n\nFormat {FORMAT}, written by seq2seq {__version__}; all settings are in"
        " `config.json`.",
        _table(("of", "SHA-256"), _fingerprints(description, weights)),
    ]
    return "\n\n".join(parts) + "\n"


def add_test_scores(folder: Path, title: str, scores: Scores) -> None:
    """Put the scores on a test set into a folder's card, in place of earlier ones.

    A folder without a card, or whose card has no place for them any more, stays as it is.

    Args:
        folder: of the model.
        title: what was scored.
        scores: of the translations.

    Raises:
        UserError: the card can't be written.
    """
    path = folder / CARD
    if not path.is_file():
        return
    before, begin, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if end:
        found = f"\n{_text(title)} (more in `score.json`):\n\n{_score_table(scores)}\n\n"
        write_whole(path, f"{before}{begin}{found}{end}{after}".encode())


def _front_matter(data: DataConfig) -> str:
    sides = [side for part in data.parts.values() for side in (part.source, part.target)]
    codes = [re.match(r"[a-z]{2,3}(?![^-_])", side.lower()) for side in sides]
    known = dict.fromkeys(code.group() for code in codes if code)
    languages = ["language:", *(f'- "{code}"' for code in known)] if known else []
    return "\n".join(
        ["---", *languages, "pipeline_tag: translation", "library_name: seq2seq", "---"]
    )


def _origin(facts: dict[str, Any]) -> str:
    """Say which weights these are, in sentences after another one."""
    found = ""
    if "step" in facts:
        found += f" Its weights are those after step {facts['step']:,} of the training."
    if "averaged" in facts:
        steps = ", ".join(f"{step:,}" for step in facts["averaged"])
        found += f" Its weights are the mean of those after the steps {steps} of the training."
    if "folder" in (base := facts.get("base", {})):
        found += f" The training began with the model {_text(base['folder'])}."
    return found


def _sizes(
    model: ModelConfig, pieces: Mapping[str, int], parameters: int
) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{parameters:,}"
    yield "vocabulary", ", ".join(f"`{name}`: {size:,} pieces" for name, size in pieces.items())
    yield "embeddings", f"{model.embedding_size} wide; {_TABLES[model.tied]}"
    both, layers = model.num_bidirectional, _layers(model.encoder_layers, model.cell.kind)
    which = " (all)" if both == model.encoder_layers else f" (the lowest {both})"
    ways = f" in each direction, bidirectional{which}" if both else ""
    yield "encoder", f"{layers}, {model.encoder_size} wide{ways}"
    layers = _layers(model.decoder_layers, model.cell.kind)
    yield "decoder", f"{layers}, {model.decoder_size} wide; layout `{model.layout}`"
    yield "attention", f"`{model.attention.kind}`"


def _layers(number: int, kind: str) -> str:
    return f"{number} {kind.upper()} layer{'s' if number > 1 else ''}"


def _validation(facts: dict[str, Any]) -> str:
    if "validation" not in facts:
        return ""
    scores = [(s["name"], s["value"], s["signature"]) for s in facts["validation"].values()]
    return f"On the validation set:\n\n{_score_table(scores)}\n\n"


def _fingerprints(description: ModelDescription, weights: str) -> Iterator[tuple[str, str]]:
    facts = description.facts
    yield "`model.safetensors`", f"`{weights}`"
    for name, digest in (description.vocabularies or {}).items():
        yield f"`{name}`", f"`{digest}`"
    if "data" in facts:
        yield "the prepared training data", _text(facts["data"])
    if "weights" in (base := facts.get("base", {})):
        yield "the weights that the training began with", _text(base["weights"])


def _score_table(scores: Scores) -> str:
    rows = [(_text(name), f"{value:.2f}", _text(signature)) for name, value, signature in scores]
    return _table(("score", "%", "signature"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    """Show a text as it is: on one line, and without any meaning in Markdown."""
    return re.sub(r"[!-+<-@\[-`{-~]", r"\\\g<0>", visible(str(value)))
