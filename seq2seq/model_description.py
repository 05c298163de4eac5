"""What a model folder says of itself in `config.json`; read without torch, and without weights."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

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

    def save(self, folder: Path) -> None:
        """Write the description into a model folder that is being made."""
        description = {
            "format": FORMAT,
            "version": __version__,
            "facts": self.facts,
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
        path = folder / _FILE
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            inner = folder / "model"
            hint = f"; did you mean {inner}?" if (inner / _FILE).exists() else ""
            raise ModelError(
                f"{folder} is no model folder (no readable {_FILE} in it){hint}"
            ) from error
        found = description.get("format") if isinstance(description, dict) else None
        if found != FORMAT:
            raise ModelError(
                f"the model folder {folder} has format {found}, but this version reads format"
                f" {FORMAT}"
            )
        try:
            config = Config.model_validate(description["config"])
        except (KeyError, ValidationError) as error:
            raise ModelError(f"{path} is damaged: its config can't be read") from error
        return ModelDescription(config, description.get("facts", {}))
