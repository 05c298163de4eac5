"""What a model folder says of itself in `config.json`; read without torch, and without weights.

Format 2 is written. Of format 1 the weights have other names (`model_folder`); settings that it
doesn't know have defaults that mean what there was before. Not read are models of its first hours:
at first embeddings were not scaled, and nothing but the settings tells when a model was written.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from seq2seq import __version__
from seq2seq.config import Config
from seq2seq.errors import ModelError

FORMAT = 2
_FILE = "config.json"


class ModelDescription(NamedTuple):
    """A model without its weights and vocabularies."""

    config: Config
    facts: dict[str, Any]
    """What is known of the model: step, scores, fingerprint of its data."""
    vocabularies: dict[str, str] | None = None
    """SHA-256 of each vocabulary, by the name of its file; older folders don't tell."""

    def save(self, folder: Path) -> None:
        """Write the description into a model folder that is being made."""
        description = {
            "format": FORMAT,
            "version": __version__,
            "facts": self.facts,
            "vocabularies": self.vocabularies,
            "config": self.config.model_dump(mode="json"),
        }
        text = json.dumps(description, indent=1, ensure_ascii=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "ModelDescription":
        """Read the description of a model folder.

        Raises:
            ModelError: it is no model folder, damaged, or of another format.
        """
        description = _read(folder)
        known = {name: part for name, part in description.items() if name in _PARTS}
        try:
            found = TypeAdapter(ModelDescription).validate_python(known)
        except ValidationError as error:
            raise ModelError(f"{folder / _FILE} is damaged: its config can't be read") from error
        # Soon after embeddings were first scaled, there were settings for monitoring.
        if description["format"] == 1 and "monitoring" not in found.config.model_fields_set:
            raise ModelError(
                f"the model folder {folder} was written by one of the first versions, whose"
                " networks can't be told from those of later ones: train the model anew"
            )
        return found


_PARTS = ModelDescription._fields


def _read(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        inner = folder / "model"
        hint = f"; did you mean {inner}?" if (inner / _FILE).exists() else ""
        raise ModelError(
            f"{folder} is no model folder (no readable {_FILE} in it){hint}"
        ) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found not in (1, FORMAT):
        number = "no format number" if found is None else f"format {found}"
        raise ModelError(
            f"the model folder {folder} has {number}, but this version reads the formats 1 and"
            f" {FORMAT}"
        )
    return description
