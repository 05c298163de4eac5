"""What the README says can be pasted."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seq2seq.cli import app
from seq2seq.config_file import load_config
from seq2seq.model_description import ModelDescription
from seq2seq.model_folder import save_model
from tests.builders import tiny_model

ROOT = Path(__file__).parents[2]


def commands() -> list[list[str]]:
    """Take the seq2seq commands from the README's blocks for a shell."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("seq2seq") :] for line in words if "seq2seq" in line]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_of_the_readme_exists_and_its_settings_do(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    trained = load_config(Path("configs/quickstart.yaml"))
    (model := trained.training.folder / "model").mkdir(parents=True)
    ModelDescription(trained, {}).save(model)
    _, command, *rest = words
    if command.startswith("--"):
        command, rest = "--help", []
    if command == "benchmark":
        command = f"benchmark {rest.pop(0)}"
    if command in ("train", "config", "prepare", "benchmark train"):
        config, *overrides = [word for word in rest if not word.startswith("--")]
        load_config(Path(config), overrides)
    help_text = CliRunner().invoke(app, [*command.split(), "--help"]).output
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in help_text
    assert "Usage" in help_text


@pytest.mark.parametrize("page", ["README.md", "docs/translation.md"])
def test_the_python_of_a_page_runs(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(Path("runs/quickstart/model"), tiny_model())
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(code, {})
    assert "[(" in capsys.readouterr().out  # the alignment


def test_files_that_the_readme_links_to_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text)
    assert links
    for link in ("".join(pair) for pair in links):
        assert (ROOT / link).exists(), link


def test_the_readme_fits_in_200_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
