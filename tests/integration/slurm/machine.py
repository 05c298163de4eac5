"""A machine made of namespaces, and whether such can be made here."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "ip": "iproute2",
    "pkill": "procps",
    "nsenter": "util-linux",
}
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
FREEZER = Path("/sys/fs/cgroup/freezer")

# SIGCHLD is ignored so that the kernel itself buries the orphans of this namespace.
FIRST_PROCESS = """
set -e
hostname "$0"
mount --bind "$1" /etc/hosts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
[ -z "$2" ] || mount --bind "$2" "$3"
ip link set lo up
trap '' CHLD
echo ready
exec head --bytes=1 >/dev/null 2>&1
"""
TRIAL = """
mount -t tmpfs tmpfs /dev/shm && mknod /dev/shm/device c 1 3 &&
ip link add bridge type bridge && ip link add one type veth peer name other
"""


def what_is_missing() -> str | None:
    """Say in a sentence why no cluster can be started here, if that is so."""
    if os.geteuid():
        return "only root can start a SLURM cluster in namespaces"
    missing = {
        package
        for program, package in PACKAGES.items()
        if not shutil.which(program, path=SYSTEM_PATH)
    }
    if missing:
        return f"a SLURM cluster needs Debian's packages {' '.join(sorted(missing))}"
    trial = subprocess.run(
        ["unshare", "--fork", "--mount-proc", *NAMESPACES, "sh", "-c", TRIAL],
        capture_output=True,
        text=True,
        env={"PATH": SYSTEM_PATH},
    )
    return f"namespaces cannot be made here ({trial.stderr.strip()})" if trial.returncode else None


def wait_until(
    condition: Callable[[], bool], seconds: float, account: Callable[[], str] = lambda: ""
) -> None:
    """Wait for something; where it takes too long, fail with the account of how things stand."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{account()}"
        time.sleep(0.2)


def remove_cgroup(group: Path) -> None:
    """Remove a cgroup with all below it, as soon as no process counts for it any more."""

    def is_gone() -> bool:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not group.exists()

    wait_until(is_gone, 10, lambda: f"the cgroup {group} is not empty")


class Machine:
    """Namespaces, which last as long as their first process.

    That process reads from a pipe: it ends at the first byte, and when whoever holds the other end
    dies. The kernel then kills all other processes of the namespace, and the mounts go with them.
    """

    def __init__(self, name: str, hosts: Path, group: Path | None = None):
        """Start it.

        Args:
            name: its host name.
            hosts: the file that is its /etc/hosts.
            group: the cgroup that it takes for the uppermost one, if it is to have one.
        """
        if group is not None:
            group.mkdir(parents=True, exist_ok=True)
        words = [name, str(hosts), str(group or ""), str(FREEZER)]
        self._first = subprocess.Popen(
            ["unshare", "--fork", "--mount-proc", *NAMESPACES, "bash", "-c", FIRST_PROCESS, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": SYSTEM_PATH},
            cwd="/",
            start_new_session=True,  # Ctrl-C at the terminal is for the tests alone
        )
        self.pid = self._first.pid
        assert self._first.stdout is not None
        said = self._first.stdout.readline()
        assert said == "ready\n", f"{name} does not start: {said}{self._first.communicate()[0]}"

    def entered(self) -> list[str]:
        """The words to put before a command that is to run there."""
        *others, _ = NAMESPACES
        # unshare itself stays outside the namespace of the processes that it starts.
        return [
            "nsenter",
            f"--target={self.pid}",
            *others,
            f"--pid=/proc/{self.pid}/ns/pid_for_children",
        ]

    def ip(self, *words: str) -> None:
        """Change the network as it is seen from there."""
        entered = ["nsenter", f"--target={self.pid}", "--net", "ip", *words]
        subprocess.run(entered, check=True, env={"PATH": SYSTEM_PATH})

    def end(self) -> None:
        """End it at once; nothing of it is left when this returns."""
        self._first.communicate("\n", timeout=20)
