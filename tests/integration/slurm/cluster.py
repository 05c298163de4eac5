"""A real SLURM cluster on one machine: its daemons, each on a machine made of namespaces.

The machines are "head", where jobs are submitted, and node1, node2 and so on. They share the files
of this machine and nothing else: each has its own name, processes, /etc/hosts, /dev/shm and eth0.
Only the cluster itself is reached from there, as on a site whose nodes have no way out.
"""

import os
import re
import secrets
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

from tests.integration.slurm.machine import (
    FREEZER,
    SYSTEM_PATH,
    Machine,
    remove_cgroup,
    wait_until,
)

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
IN_SERVICE = {"idle", "mixed", "allocated", "completing"}

Tracking = Literal["cgroup", "linuxproc", "pgid"]
TRACKING: Tracking = "cgroup" if FREEZER.is_dir() else "linuxproc"


def last_lines(path: Path, number: int = 25) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join([f"--- {path}", *text.splitlines()[-number:]])


class Cluster:
    """SLURM's daemons on a head and some nodes."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        cpus: int = 4,
        gpus: int = 2,
        grace: int = 20,
        tracking: Tracking = TRACKING,
        path: Sequence[Path] = (),
        settings: Mapping[str, str] | None = None,
    ):
        """Describe it.

        Args:
            folder: for all its files; the path is short and without spaces, for its sockets' sake.
            nodes: how many.
            cpus: of each node; that many are declared, however many there are.
            gpus: of each node; they are counted and handed out, but nothing computes on them.
            grace: seconds for a job of the partition main that one of urgent displaces.
            tracking: how SLURM finds the processes of a job, which decides whom a signal reaches:
                cgroup each task alone, linuxproc all its descendants too.
            path: folders of programs that commands and jobs find before the system's.
            settings: of slurm.conf, in place of those below or beside them.
        """
        self.folder = folder
        self.home = folder / "home"
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self._cpus, self._gpus, self._grace, self._tracking = cpus, gpus, grace, tracking
        self._settings = dict(settings or {})
        name = str(folder).strip("/").replace("/", "-")
        self.cgroup = FREEZER / name if tracking == "cgroup" else None
        self._machines: dict[str, Machine] = {}
        self.environment = {
            "PATH": ":".join([*map(str, path), SYSTEM_PATH]),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "SBATCH_OUTPUT": f"{self.home}/%x-%j.out",
        }

    # --- Its files ---

    def address(self, machine: str) -> str:
        """The address of a machine, out of those that are reserved for documentation."""
        return f"198.51.100.{10 + ['head', *self.nodes].index(machine)}"

    def hosts(self, machine: str) -> Path:
        """The file that is a machine's /etc/hosts; what is written into it counts at once."""
        return self.folder / "hosts" / machine

    def _write_files(self) -> None:
        for name in ("home", "hosts", "log", "state", *(f"spool/{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        machines = ["head", *self.nodes]
        names = "".join(f"{self.address(machine)} {machine}\n" for machine in machines)
        for machine in machines:
            self.hosts(machine).write_text(f"127.0.0.1 localhost\n{names}")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        (self.folder / "slurm.conf").write_text(self._configuration())
        if self.cgroup is not None:
            # Without this file a job that is tracked by cgroups never begins and is "completed".
            mounted = f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={FREEZER.parent}\n"
            (self.folder / "cgroup.conf").write_text(mounted)
        self._write_gpus()

    def _write_gpus(self) -> None:
        # CUDA_VISIBLE_DEVICES is set for device files alone; these are further names of /dev/null.
        lines: list[str] = []
        for number in range(self._gpus):
            device = self.folder / f"gpu{number}"
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            lines.append(f"Name=gpu Flags=nvidia_gpu_env File={device}\n")
        (self.folder / "gres.conf").write_text("".join(lines))

    def _configuration(self) -> str:
        folder = self.folder
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"head({self.address('head')})",
            "SlurmUser": "root",
            # A requeued job waits until its first credential has expired: 5 s are the least.
            "AuthInfo": f"socket={folder}/munge.socket,cred_expire=5",
            "StateSaveLocation": f"{folder}/state",
            "SlurmdSpoolDir": f"{folder}/spool/%n",
            "SlurmctldPidFile": f"{folder}/slurmctld.pid",
            "SlurmdPidFile": f"{folder}/slurmd-%n.pid",
            "SlurmctldLogFile": f"{folder}/log/slurmctld.log",
            "SlurmdLogFile": f"{folder}/log/%n.log",
            "MailProg": "/bin/true",
            "ProctrackType": f"proctrack/{self._tracking}",
            "TaskPlugin": "task/none",
            "SlurmdParameters": "config_overrides",  # more CPUs than there are
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "GresTypes": "gpu",
            "SchedulerParameters": "bf_interval=1,sched_interval=1,batch_sched_delay=0",
            # A dead node is noticed 16 s later; with the usual 10 s for a message, 30.
            "SlurmdTimeout": "6",
            "MessageTimeout": "5",
            "KillWait": "5",
            "MinJobAge": "3600",  # an ended job can still be asked for
            "JobRequeue": "1",
            "ReturnToService": "2",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
        } | self._settings
        last = len(self.nodes)
        lines = [f"{name}={value}" for name, value in settings.items()]
        # By addresses, so that SLURM itself works whatever a test writes into /etc/hosts.
        lines += [
            f"NodeName=node[1-{last}] NodeAddr=198.51.100.[11-{10 + last}] CPUs={self._cpus} "
            f"RealMemory=64000 State=UNKNOWN {f'Gres=gpu:{self._gpus}' if self._gpus else ''}",
            f"PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime={self._grace}",
            "PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF",
        ]
        return "\n".join(lines) + "\n"

    # --- Its machines ---

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all machines, and wait until they are in service."""
        try:
            self._write_files()
            head = self._machines["head"] = Machine("head", self.hosts("head"))
            head.ip("link", "add", "eth0", "type", "bridge")
            head.ip("address", "add", f"{self.address('head')}/24", "dev", "eth0")
            head.ip("link", "set", "eth0", "up")
            files = {"key-file": "key", "seed-file": "seed", "pid-file": "pid", "socket": "socket"}
            options = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
            # It takes a folder that only its owner can read for a mistake, unless it is forced.
            self.run("munged", "--force", f"--log-file={self.folder}/log/munged.log", *options)
            self.start_daemon("head")
            for node in self.nodes:
                self._start_node(node)
            for node in self.nodes:
                self._wait_for_service(node)
        except BaseException:
            self.stop()
            raise

    def _start_node(self, node: str) -> None:
        assert node not in self._machines, f"{node} is running"
        group = self.cgroup and self.cgroup / node
        machine = self._machines[node] = Machine(node, self.hosts(node), group)
        head, cable = self._machines["head"], ("type", "veth", "peer", "name", "eth0")
        head.ip("link", "add", node, *cable, "netns", str(machine.pid))
        head.ip("link", "set", node, "master", "eth0", "up")
        machine.ip("address", "add", f"{self.address(node)}/24", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
        self.start_daemon(node)

    def stop(self) -> None:
        """End all machines; their files stay."""
        with ExitStack() as ends:  # each is called, whatever another raises
            if self.cgroup is not None:
                ends.callback(remove_cgroup, self.cgroup)
            for machine in self._machines.values():
                ends.callback(machine.end)
            self._machines.clear()

    def crash(self, node: str) -> None:
        """Cut a node's power: the others hear nothing more of it, not even that it is gone."""
        assert node in self.nodes, node
        machine = self._machines.pop(node)
        self._machines["head"].ip("link", "delete", node)
        machine.end()

    def boot(self, node: str) -> None:
        """Start a node that has crashed, and wait until it is in service."""
        self._start_node(node)
        self._wait_for_service(node)

    def kill_daemon(self, machine: str) -> None:
        """Kill slurmd, or end slurmctld on the head; the processes of jobs go on."""
        # Killed, slurmctld would forget what it has not written down for some seconds: a job that
        # has just started would be pending again, and be started once more.
        name, number = ("slurmctld", "-TERM") if machine == "head" else ("slurmd", "-KILL")
        self.run("pkill", number, "-x", name, on=machine)
        wait_until(lambda: not self.run("pgrep", "-x", name, on=machine, check=False), 30)

    def start_daemon(self, machine: str) -> None:
        """Start what `kill_daemon` has killed."""
        self.run("slurmctld" if machine == "head" else "slurmd", on=machine)

    def node_state(self, node: str) -> str:
        """What SLURM takes a node for, as in "idle"; with a star where it does not answer."""
        words = ("--noheader", "--partition=main", f"--nodes={node}", "--format=%T")
        return self.run("sinfo", *words, check=False).strip()

    def _wait_for_service(self, node: str) -> None:
        wait_until(lambda: self.node_state(node) in IN_SERVICE, 60, self.account)

    # --- Its use ---

    def run(
        self,
        *words: object,
        on: str = "head",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        check: bool = True,
        seconds: float = 120.0,
    ) -> str:
        """Run a command on a machine, as after a fresh login; returns its output.

        Args:
            words: the command.
            on: the machine.
            env: variables beside those of `environment`; none of this process's own is passed on.
            cwd: the folder to run it in, instead of the home folder.
            check: fail with what it wrote where its status is not 0.
            seconds: after which it fails.
        """
        place = ["env", f"--chdir={cwd or self.home}"]
        done = subprocess.run(
            [*self._machines[on].entered(), *place, *map(str, words)],
            env=self.environment | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        failed = check and done.returncode != 0
        assert not failed, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(
        self, *words: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "Job":
        """Submit a job by sbatch."""
        said = self.run("sbatch", "--parsable", *words, env=env, cwd=cwd)
        return Job(self, said.strip().partition(";")[0])

    def account(self) -> str:
        """The last lines that the daemons wrote, for whoever reads why a test failed."""
        return "\n".join(map(last_lines, sorted(self.folder.glob("log/*.log"))))


class Job:
    """A job, or a task of an array, as in "7_1"."""

    def __init__(self, cluster: Cluster, identifier: str):
        self.cluster = cluster
        self.id = identifier

    def facts(self) -> dict[str, str]:
        """What SLURM knows of it, as in {"JobState": "RUNNING"}."""
        line = self.cluster.run("scontrol", "--oneliner", "show", "job", self.id).splitlines()[0]
        return dict(re.findall(r"(\S+?)=(.*?)(?= \S+=| *$)", line))

    @property
    def state(self) -> str:
        return self.facts()["JobState"]

    def node(self) -> str:
        """The node of its batch script."""
        return self.facts()["BatchHost"]

    def log(self) -> str:
        """What it has written so far."""
        path = Path(self.facts()["StdOut"])
        return path.read_text(errors="replace") if path.exists() else ""

    def account(self) -> str:
        """How it stands, for whoever reads why a test failed."""
        facts = self.facts()
        kept = ("JobState", "Reason", "ExitCode", "Restarts", "NodeList")
        told = ", ".join(f"{name} {facts.get(name)}" for name in kept)
        return f"job {self.id}: {told}\n{last_lines(Path(facts['StdOut']), 60)}\n" + (
            self.cluster.account()
        )

    def wait(self, *states: str, seconds: float = 60.0) -> None:
        """Wait until it is in one of these states; fail as soon as it has ended in another."""

        def is_there() -> bool:
            state = self.state
            assert state in states or state not in FINAL, f"{state}\n{self.account()}"
            return state in states

        wait_until(is_there, seconds, self.account)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something that it is to bring about; fail as soon as it has ended without."""

        def is_so() -> bool:
            ended = self.state in FINAL  # asked first: what it does last counts
            met = condition()
            assert met or not ended, self.account()
            return met

        wait_until(is_so, seconds, self.account)

    def signal(self, number: signal.Signals, *options: str) -> None:
        """Signal its steps, as at --signal's time; options of scancel, as in "--batch"."""
        self.cluster.run("scancel", f"--signal={number.name[3:]}", *options, self.id)

    def cancel(self) -> None:
        self.cluster.run("scancel", self.id)

    def requeue(self) -> None:
        self.cluster.run("scontrol", "requeue", self.id)

    def hurry(self) -> None:
        """After a requeue: let it start as soon as it can, not when its credential expires."""
        self.wait("PENDING")
        # A node refuses a credential from the very second in which it has killed the job.
        self.cluster.run("scontrol", "update", f"JobId={self.id}", "StartTime=now+2")
