"""Files and folders that appear whole or not at all, whatever happens meanwhile."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.errors import UserError
from seq2seq.files import clear_leftovers, create_whole, digest, whole_folder, write_whole

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def content(folder: Path) -> dict[str, str]:
    """All files below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(folder: Path, name: str, text: str) -> None:
    with whole_folder(folder) as partial:
        (partial / name).write_text(text)


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with whole_folder(folder) as partial:
        (partial / "a").write_text("1")
        (partial / "sub").mkdir()
        (partial / "sub" / "b").write_text("2")
        assert not folder.exists()
    assert content(tmp_path) == {"new/folder/a": "1", "new/folder/sub/b": "2"}


def test_a_folder_replaces_the_old_one_with_all_its_files(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "a", "old")
    fill(tmp_path / "folder", "b", "new")
    assert content(tmp_path) == {"folder/b": "new"}


def fail_in(folder: Path, error: type[BaseException]) -> None:
    with whole_folder(folder) as partial:
        (partial / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, UserError])
def test_an_exception_leaves_all_as_it_was(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        fail_in(tmp_path / "folder", error)
    assert not list(tmp_path.iterdir())
    fill(tmp_path / "folder", "a", "old")
    with pytest.raises(error):
        fail_in(tmp_path / "folder", error)
    assert content(tmp_path) == {"folder/a": "old"}


def test_a_killed_process_leaves_the_old_folder_in_its_place(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "a", "old")
    script = (
        "import os, sys; from pathlib import Path; from seq2seq.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'a').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert run(script, tmp_path / "folder").returncode == -signal.SIGKILL
    assert content(tmp_path / "folder") == {"a": "old"}
    fill(tmp_path / "folder", "a", "new")
    assert content(tmp_path / "folder") == {"a": "new"}


def test_a_place_that_takes_no_folder_is_the_users_mistake(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "folder"):
        with pytest.raises(UserError, match=re.escape(f"{folder} can't be written")):
            fill(folder, "a", "1")
    assert content(tmp_path) == {"file": "mine"}


def test_a_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert content(tmp_path) == {"new/folder/file": "new"}


def test_files_and_folders_may_be_read_by_everybody(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"1")
        fill(tmp_path / "folder", "a", "1")
    finally:
        os.umask(before)
    paths = ("file", "folder", "folder/a")
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in paths]
    assert modes == [0o644, 0o755, 0o644]


def test_a_place_that_takes_no_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(UserError, match=re.escape(f"{path} can't be written")):
            write_whole(path, b"1")
    assert content(tmp_path) == {"file": "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    """The system refuses to let the file grow, as it does on a full disk."""
    (tmp_path / "file").write_text("old")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from seq2seq.errors import UserError; from seq2seq.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    write_whole(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = run(script, tmp_path / "file")
    assert done.stdout == f"{tmp_path / 'file'} can't be written: File too large\n"
    assert content(tmp_path) == {"file": "old"}


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path(".")):
        with pytest.raises(UserError, match="no plain file"):
            write_whole(path, b"x")
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    write_whole(link, b"x")
    assert link.is_symlink()
    assert file.read_bytes() == b"x"


@pytest.mark.parametrize("last", [1, 2])
def test_an_interrupt_right_after_a_rename_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("old")
    renames: list[Path] = []
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        renames.append(rename(path, target))
        if len(renames) == last:
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("new")
    assert (tmp_path / "folder" / "file").read_text() == {1: "old", 2: "new"}[last]
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_leftovers_are_cleared_and_what_was_moved_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".file.partial-7").write_text("half")
    (tmp_path / ".new.partial-7").mkdir()
    for name in ("gone", "there"):
        (tmp_path / f".{name}.old-7").mkdir()
        (tmp_path / f".{name}.old-7" / "file").write_text("old")
    (tmp_path / "there").mkdir()
    (tmp_path / "mine").write_text("mine")
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "mine", "there"]
    assert (tmp_path / "gone" / "file").read_text() == "old"
    assert not list((tmp_path / "there").iterdir())


def test_a_file_that_is_there_already_stays(tmp_path: Path) -> None:
    create_whole(tmp_path / "new" / "file", b"first")
    create_whole(tmp_path / "new" / "file", b"second")
    assert content(tmp_path) == {"new/file": "first"}
    with pytest.raises(UserError, match="can't be written"):
        create_whole(tmp_path / "new" / "file" / "inner", b"")


def test_leftovers_of_one_name_are_cleared_alone(tmp_path: Path) -> None:
    for name in (".a[1].partial-7", ".a1.partial-7", ".a[1].json.partial-7"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path, "a[1]")
    assert set(content(tmp_path)) == {".a1.partial-7", ".a[1].json.partial-7"}


def test_a_digest_tells_files_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    digests: set[str] = set()
    for text in (b"", b"\0", b"\0\0", b"a" * 100_000, b"a" * 99_999 + b"b"):
        path.write_bytes(text)
        digests.add(digest(path))
    assert len(digests) == 5
