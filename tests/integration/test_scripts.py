"""The set-up scripts in a copy of the project: what they say when they fail, what they reuse."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]

# Stands for python3, for the environment's python and for what is installed there, and notes calls.
STAND_IN = r"""#!/usr/bin/env bash
case "$(basename "$0") $*" in
  *"-I -c"*) [[ -e ${0%/*}/torch ]] ;;
  *"-c import sys"*) echo "${VERSION:-3.12.1}" ;;
  *"-m venv"*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
  *"-m pip install"*)
    echo "pip ${*:4}" >>"$CALLS"
    eval "${PIP_DOES:-}"
    cp "$0" "${0%/*}/seq2seq" && touch "${0%/*}/torch" ;;
  *"-m pytest"*) echo "pytest ${*:3}" >>"$CALLS" ;;
  seq2seq*)
    echo "seq2seq $*" >>"$CALLS"
    if [[ $1 == config ]]; then
      printf '%s\n' 'data:' '  folder: data/x' 'training:' '  folder: runs/mine' 'search:'
      exit 0
    fi
    eval "${SEQ2SEQ_DOES:-}" ;;
esac
"""


class Copy:
    """A copy of the project and the variables its scripts are called with."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls = folder.parent / "calls"
        self.stand_ins = folder.parent / "bin"
        heeded = ("PIP_", "UV_", "PYTHON", "SEQ2SEQ_", "TORCH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(heeded)}
        self.variables = kept | {
            "PATH": f"{self.stand_ins}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "SEQ2SEQ_INSTALLER": "pip",
        }
        shutil.copytree(PROJECT / "scripts", folder / "scripts")
        shutil.copy(PROJECT / "pyproject.toml", folder)
        self.stand_ins.mkdir()
        for name in ("python3", "python3.13", "python3.12", "python3.11"):
            self.stand_in(name, STAND_IN)

    def stand_in(self, name: str, text: str) -> None:
        (self.stand_ins / name).write_text(text)
        (self.stand_ins / name).chmod(0o755)

    def call(self, script: str, *arguments: str, **variables: str) -> Done:
        return subprocess.run(
            [self.folder / "scripts" / script, *arguments],
            env=self.variables | variables,
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def is_clean(self) -> bool:
        return not (self.folder / ".venv").exists() and not (self.folder / ".venv.making").exists()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "a project"
    folder.mkdir()
    return Copy(folder)


def error_of(done: Done) -> str:
    """The one sentence a script ended with."""
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.splitlines()[-1:] == errors, done.stderr
    return errors[0]


def test_an_old_python_is_named_with_the_one_that_is_needed(copy: Copy):
    for script in ("quickstart", "test", "check"):
        error = error_of(copy.call(script, VERSION="3.9.18"))
        assert "Python 3.11 or newer is needed and python3 is 3.9.18" in error
    assert copy.is_clean()


def test_a_newer_python_on_the_path_serves_where_python3_is_old(copy: Copy):
    copy.stand_in("python3", "#!/bin/sh\necho 3.9.18")
    assert copy.call("test").returncode == 0


def test_a_python_that_was_asked_for_is_not_replaced_by_another(copy: Copy):
    copy.stand_in("old", "#!/bin/sh\necho 3.10.2")
    assert "old is 3.10.2" in error_of(copy.call("test", PYTHON="old"))
    assert "nowhere is missing" in error_of(copy.call("test", PYTHON="nowhere"))


def test_a_python_without_venv_is_told_from_a_broken_one(copy: Copy):
    copy.stand_in("python3", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac; echo 3.11.2')
    assert "python3-venv" in error_of(copy.call("quickstart"))
    assert copy.is_clean()


def test_an_unknown_installer_is_refused(copy: Copy):
    error = error_of(copy.call("test", SEQ2SEQ_INSTALLER="conda"))
    assert "must be uv or pip, and it is 'conda'" in error
    assert copy.is_clean()


def test_a_registry_that_does_not_answer(copy: Copy):
    """With the real pip, and an address at which nothing listens."""
    nothing = {
        "PIP_INDEX_URL": "http://name:secret@127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
    }
    error = error_of(copy.call("quickstart", PYTHON=sys.executable, **nothing))
    assert "registry could not be reached (http://127.0.0.1:9)" in error
    assert "secret" not in error
    assert str(copy.folder / ".venv.log") in error
    assert (copy.folder / ".venv.log").stat().st_size > 0
    assert copy.is_clean()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_full(tiny_disk: Path):
    """With the real venv, which itself says nothing of the disk."""
    (tiny_disk / "project").mkdir()
    copy = Copy(tiny_disk / "project")
    error = error_of(copy.call("test", PYTHON=sys.executable, TMPDIR=str(tiny_disk)))
    assert re.search(rf"the disk is full: \d MB are free in {copy.folder}", error)
    assert copy.is_clean()


def test_a_disk_that_fills_while_packages_are_installed(copy: Copy):
    failing = "echo 'ERROR: [Errno 28] No space left on device'; exit 1"
    error = error_of(copy.call("test", PIP_DOES=failing))
    assert re.search(r"the disk is full: \d+ MB are free in .*a project and \d+ MB in /", error)
    assert copy.is_clean()


def test_any_other_failure_is_told_in_the_installers_words(copy: Copy):
    words = "ERROR: No matching distribution found for torch>=2.10"
    error = error_of(copy.call("test", PIP_DOES=f"echo '{words}'; exit 1"))
    assert f"for Python 3.12.1 ({words})" in error


def test_a_folder_that_is_no_environment_is_left_alone(copy: Copy):
    (copy.folder / ".venv").mkdir()
    (copy.folder / ".venv" / "precious").touch()
    assert "move it out of the way" in error_of(copy.call("test"))
    assert (copy.folder / ".venv" / "precious").exists()


def test_a_second_call_reuses_the_environment(copy: Copy):
    assert copy.call("test").returncode == 0
    assert copy.call("test").stderr == ""
    assert [call.split()[0] for call in copy.called()] == ["pip", "pytest", "pytest"]


def test_the_tests_environment_serves_the_quickstart_and_not_the_other_way_round(copy: Copy):
    for script in ("quickstart", "test", "quickstart"):
        assert copy.call(script).returncode == 0
    installs = [call for call in copy.called() if call.startswith("pip")]
    assert [call.split()[-1] for call in installs] == [".", ".[dev]"]


def test_a_changed_project_or_another_torch_is_installed_anew(copy: Copy):
    assert copy.call("test", TORCH="torch==2.13.0").returncode == 0
    assert copy.call("test").returncode == 0
    with (copy.folder / "pyproject.toml").open("a") as project:
        project.write("# changed\n")
    assert copy.call("quickstart").returncode == 0
    assert copy.call("quickstart", TORCH="torch==2.12.0").returncode == 0
    installs = [call for call in copy.called() if call.startswith("pip")]
    assert [call.split()[-2:] for call in installs] == [
        [".[dev]", "torch==2.13.0"],
        [".[dev]", "torch==2.13.0"],
        [".[dev]", "torch==2.12.0"],
    ]


def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(copy: Copy):
    assert copy.call("test").returncode == 0
    (copy.folder / ".venv" / "bin" / "python").unlink()
    assert "making it anew" in copy.call("test").stderr
    copy.folder = copy.folder.rename(copy.folder.with_name("elsewhere"))
    assert "making it anew" in copy.call("test").stderr
    assert copy.call("test").stderr == ""


def test_an_installation_that_was_cut_off_is_not_taken_for_whole(copy: Copy):
    assert copy.call("quickstart").returncode == 0
    killing = copy.variables | {"PIP_DOES": "kill -KILL $PPID; exit 1"}
    cut_off = subprocess.run([copy.folder / "scripts" / "test"], env=killing, check=False)
    assert cut_off.returncode == -signal.SIGKILL
    assert (copy.folder / ".venv").exists()
    assert "making it anew" in copy.call("quickstart").stderr
    assert copy.call("quickstart").stderr.count("environment") == 0


def test_a_registry_out_of_reach_spares_the_environment_there_was(copy: Copy):
    assert copy.call("quickstart").returncode == 0
    words = "Could not fetch URL https://example.org/simple/x/: connection error: no"
    error = error_of(copy.call("test", PIP_DOES=f"echo '{words}'; exit 1"))
    assert "(https://example.org)" in error
    assert "environment" not in copy.call("quickstart").stderr


def test_two_calls_do_not_make_the_environment_at_once(copy: Copy):
    (copy.folder / ".venv.making").write_text(f"{os.getpid()}\n")
    assert f"process {os.getpid()} is making" in error_of(copy.call("test"))
    assert (copy.folder / ".venv.making").exists()


def test_uv_makes_the_environment_where_it_is_installed(copy: Copy):
    copy.stand_in(
        "uv",
        """#!/usr/bin/env bash
        echo "uv $*" >>"$CALLS"
        [[ $1 != venv ]] || "$3" -m venv "$4"
        [[ $1 != pip ]] || touch "${4%/*}/torch"
        """,
    )
    done = copy.call("test", SEQ2SEQ_INSTALLER="")
    assert done.returncode == 0, done.stderr
    venv = copy.folder / ".venv"
    assert copy.called()[:2] == [
        f"uv venv --python {copy.stand_ins}/python3 {venv}",
        f"uv pip install --python {venv}/bin/python --compile-bytecode -e .[dev]",
    ]


def test_the_quickstart_runs_from_any_folder_and_through_a_link(copy: Copy, tmp_path: Path):
    link = tmp_path / "qs"
    link.symlink_to(copy.folder / "scripts" / "quickstart")
    variables = copy.variables | {"SEQ2SEQ_DOES": "pwd"}
    done = subprocess.run(
        [link, "training.steps=3"], env=variables, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{copy.folder}\n" * 3)
    assert "translate runs/mine/model" in done.stdout
    _, train, evaluate, inspect = copy.called()[1:]
    assert train == "seq2seq train configs/quickstart.yaml --resume training.steps=3"
    assert evaluate == "seq2seq evaluate runs/mine/model --lookup"
    assert inspect.startswith("seq2seq inspect runs/mine/model ")


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def heed_ctrl_c() -> None:
    """A job that was started in the background ignores it, and so do the ones it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    ("variables", "begun", "code"),
    [
        ({"SEQ2SEQ_DOES": "trap 'exit 75' INT; sleep 20"}, "seq2seq train", 75),
        ({"SEQ2SEQ_DOES": "trap 'exit 130' INT; sleep 20"}, "seq2seq train", 130),
        ({"PIP_DOES": "trap 'exit 1' INT; sleep 20"}, "pip", 130),
    ],
)
def test_ctrl_c_ends_it_without_noise(copy: Copy, variables: dict[str, str], begun: str, code: int):
    process = subprocess.Popen(
        [copy.folder / "scripts" / "quickstart"],
        env=copy.variables | variables,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    wait_until(lambda: any(call.startswith(begun) for call in copy.called()))
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == code, printed
    assert "error" not in printed.lower()
    assert "line" not in printed
    assert not (copy.folder / ".venv.making").exists()
    assert copy.call("quickstart").returncode == 0


def test_help_needs_no_environment(copy: Copy):
    for script in ("quickstart", "test", "check"):
        done = copy.call(script, "--help", VERSION="3.9.18")
        assert done.returncode == 0
        assert f"scripts/{script}" in done.stdout
        assert "TORCH" in done.stdout


def test_an_argument_of_the_checks_is_refused(copy: Copy):
    assert "takes no arguments" in error_of(copy.call("check", "src"))
