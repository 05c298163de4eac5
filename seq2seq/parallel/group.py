"""How the processes of a run talk: sums, agreements, and who is missing when one is gone."""

import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch.distributed.distributed_c10d import PrefixStore

from seq2seq.errors import CommonError, LostProcessError, UserError
from seq2seq.parallel.interface import interface_towards, own_address
from seq2seq.parallel.place import Place
from seq2seq.terminal import complain

_POLL = 0.2  # seconds between two looks at whether the first process is done
_PATIENCE = 2.0  # seconds until a process says that it waits for the first one
_LATE = 10.0  # seconds until the first one says whom it waits for
_CONNECT = 5.0  # seconds that one try to reach the first process may take
_BEAT = 2.0  # seconds between two signs of life
_SILENCE = 3 * _BEAT  # after which a process counts as gone

Result = TypeVar("Result")


class Group:
    """One process alone: all that is asked of a group has a plain answer."""

    def __init__(self, place: Place):
        self.place = place
        self.step = 0
        """The last step this process has done, for the others to see."""
        self._arrivals = 0

    def arrive(self) -> None:
        """Note that this process has come to where it waits for the others."""
        self._arrivals += 1

    def gather(self, value: Any) -> list[Any]:
        """Collect a plain value of each process, in their order; all must call it."""
        return [value]

    def share(self, value: Any) -> Any:
        """Give every process the plain value of the first one; all must call it."""
        return value

    def first_does(self, work: Callable[[], Result]) -> Result:
        """Let the first process do something, and give all what it returned.

        All must call it, and none goes on before it is done.

        Raises:
            CommonError: it found a mistake that the user can fix, or a file that can't be used,
                which is everyone's mistake then.
        """
        result = mistake = None
        if self.place.is_first:
            try:
                result = work()
            except UserError as error:
                mistake = str(error)
            except OSError as error:
                if error.filename is None:
                    raise
                mistake = f"{error.filename} can't be used: {error.strerror}"
        result, mistake = self.share((result, mistake))
        if mistake is not None:
            raise CommonError(mistake)
        return result

    def agree(self, wish: int) -> int:
        """Say the largest number that any process gave when they last called this.

        All must call it. The answer is the same everywhere and comes one call late, so that nobody
        waits for it. A process that is alone has its own at once.
        """
        return wish

    def call_off(self, task: str) -> None:
        """Let the others know, without waiting for them, that this process drops a task."""

    def called_off(self, task: str) -> bool:
        """Whether any process has dropped a task."""
        return False


class _SeveralProcesses(Group):
    """Processes that have met: gloo for plain values, and a store for what can't wait."""

    def __init__(self, place: Place, store: Any, timeout: timedelta, limit_name: str):
        super().__init__(place)
        self._store, self._timeout, self._limit_name = store, timeout, limit_name
        # Of its own, since the training's collectives may be NCCL's, and under way.
        self._control: Any = distributed.new_group(backend="gloo", timeout=timeout)
        self._wish: tuple[Any, torch.Tensor] | None = None
        self._names: list[str] = self.gather(
            f"{place} (PID {os.getpid()} on {socket.gethostname()})"
        )
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(store.clone(),), daemon=True)
        self._heart.start()

    def gather(self, value: Any) -> list[Any]:
        self.arrive()
        values: list[Any] = [None] * self.place.world_size
        distributed.all_gather_object(values, value, group=self._control)
        return values

    def share(self, value: Any) -> Any:
        self.arrive()
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def agree(self, wish: int) -> int:
        answer = self._answer()
        tensor = torch.tensor([wish])
        work = distributed.all_reduce(
            tensor, distributed.ReduceOp.MAX, group=self._control, async_op=True
        )
        self._wish = (work, tensor)
        return answer

    def _answer(self) -> int:
        if self._wish is None:
            return 0
        self.arrive()
        work, tensor = self._wish
        self._wish = None
        work.wait()
        return int(tensor.item())

    def call_off(self, task: str) -> None:
        self._store.set(f"called off/{task}", "1")

    def called_off(self, task: str) -> bool:
        return self._store.check([f"called off/{task}"])

    def part(self) -> None:
        """Wait until all processes have come to their end, then end the connections."""
        self._answer()
        self.gather(None)
        distributed.destroy_process_group()

    def fall_silent(self) -> None:
        """Give no more signs of life."""
        self._ended.set()
        self._heart.join()

    def _beat(self, store: Any) -> None:
        """Show, from a thread, that this process lives, even while it waits for others."""
        beats = 0
        with suppress(RuntimeError):  # the process with the store may be gone
            while not self._ended.is_set():
                beats += 1
                store.set(f"alive/{self.place.rank}", f"{beats} {self._arrivals} {self.step}")
                self._ended.wait(_BEAT)

    def missing(self) -> str:
        """Say who is gone or late, after something went wrong between the processes."""
        try:
            before = self._signs_of_life()
            time.sleep(_SILENCE)
            after = self._signs_of_life()
        except RuntimeError:
            return f"{self._names[0]} is gone"
        gone = [rank for rank, sign in after.items() if sign == before[rank]]
        if gone:
            return "; ".join(f"{self._names[rank]} is gone" for rank in gone)
        arrivals = {rank: int(sign.split()[1]) for rank, sign in after.items()}
        least = min(arrivals.values())
        late = [rank for rank, number in arrivals.items() if number == least]
        names = ", ".join(self._names[rank] for rank in late)
        step = int(after[late[0]].split()[2])
        minutes = self._timeout.total_seconds() / 60
        limit = f"{minutes:g} minutes ({self._limit_name})"
        return f"{names} has not come past step {step:,} in {limit}"

    def _signs_of_life(self) -> dict[int, str]:
        keys = {rank: f"alive/{rank}" for rank in range(self.place.world_size)}
        return {
            rank: self._store.get(key).decode() if self._store.check([key]) else "0 0 0"
            for rank, key in keys.items()
        }


class Meeting:
    """Where processes wait for one another before they form a group.

    No group has been formed yet, so nothing runs out of time while the first process prepares.
    """

    def __init__(
        self,
        place: Place,
        store: Any = None,
        timeout: timedelta = timedelta(),
        heed: Callable[[], None] = lambda: None,
        limit_name: str = "",
    ):
        self.place = place
        self._store, self._timeout, self._heed = store, timeout, heed
        self._limit_name = limit_name

    def wait_for_first(self, task: str) -> None:
        """Wait until the first process has got all ready; it returns from here at once.

        Args:
            task: what it does meanwhile.

        Raises:
            CommonError: the first process is gone; it has said why.
        """
        if self.place.is_first:
            return
        try:
            began = time.monotonic()
            told = False
            while not self._store.check(["ready"]):
                time.sleep(_POLL)
                if not told and time.monotonic() - began > _PATIENCE:
                    complain(f"waiting for rank 0, which is {task}")
                    told = True
        except distributed.DistError as error:
            raise CommonError(f"rank 0 ended while it was {task}") from error

    def tell_ready(self) -> None:
        """Let the others go on, if this is the first process."""
        if self._store is not None and self.place.is_first:
            self._store.set("ready", "1")

    @contextmanager
    def group(self, device: torch.device) -> Generator[Group]:
        """Form a group, and part from the others at the end.

        Args:
            device: what this process computes on; GPUs exchange their numbers through NCCL.

        Raises:
            LostProcessError: a process was gone, or late, or has never come.
        """
        if self._store is None:
            yield Group(self.place)
            return
        group = self._form_group(device)
        try:
            yield group
            group.part()
        except RuntimeError as error:
            if not _is_about_others(error):
                raise
            raise LostProcessError(group.missing()) from error
        finally:
            group.fall_silent()

    def _form_group(self, device: torch.device) -> _SeveralProcesses:
        cuda = device.type == "cuda"
        try:
            self._wait_for_all()
            self._choose_interface()
            distributed.init_process_group(
                "nccl" if cuda else "gloo",
                store=self._store,
                rank=self.place.rank,
                world_size=self.place.world_size,
                # Longer on GPUs: NCCL ends a process without a word, so gloo has to notice first.
                timeout=2 * self._timeout if cuda else self._timeout,
                device_id=device if cuda else None,
            )
            return _SeveralProcesses(self.place, self._store, self._timeout, self._limit_name)
        except distributed.DistError as error:
            if self.place.is_first:
                reason = str(error).splitlines()[0]
                raise LostProcessError(
                    f"the processes can't talk to one another: {reason}"
                ) from error
            raise LostProcessError("rank 0 is gone") from error

    def _wait_for_all(self) -> None:
        """Wait until every process has come here."""
        reached = f"{socket.gethostname()} {own_address(self.place.address)}"
        self._store.set(f"here/{self.place.rank}", reached)
        began = time.monotonic()
        told = not self.place.is_first
        ranks = range(self.place.world_size)
        while missing := [rank for rank in ranks if not self._store.check([f"here/{rank}"])]:
            name = f"rank {', '.join(map(str, missing))} of {len(ranks)}"
            waited = time.monotonic() - began
            if waited > self._timeout.total_seconds():
                raise LostProcessError(f"{name} has not come to the meeting")
            if not told and waited > _LATE:
                complain(f"waiting for {name}")
                told = True
            self._heed()
            time.sleep(_POLL)

    def _choose_interface(self) -> None:
        """Have gloo talk through the interface by which the machines have found one another.

        It would take what the machine's own name leads to, and on many that is 127.0.1.1.
        """
        here = socket.gethostname()
        found = (  # one after another: the first process's store has to serve all
            self._store.get(f"here/{rank}").decode().split(" ")
            for rank in range(self.place.world_size)
        )
        towards: str | None = self.place.address
        if next(found)[0] == here:
            towards = next((own for host, own in found if host != here and own), None)
        if towards is not None and (name := interface_towards(towards)):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


@contextmanager
def meet(
    place: Place,
    *,
    timeout: float = 30.0,
    limit_name: str = "trainer.timeout",
    heed: Callable[[], None] = lambda: None,
) -> Generator[Meeting]:
    """Open the place where the first process can be found, or find it there.

    Args:
        place: of this process.
        timeout: minutes that a process waits for another one.
        limit_name: what that time is called where a person sets it.
        heed: is called again and again while another one has not come, and may raise.

    Raises:
        UserError: the place is taken, or can't be reached.
    """
    if place.world_size == 1:
        yield Meeting(place)
        return
    limit = timedelta(minutes=timeout)
    # torchrun's store outlives the processes that it starts anew, and what they have left in it.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"attempt {attempt}", _connect(place, limit, heed))
    yield Meeting(place, store, limit, heed, limit_name)


def _connect(place: Place, limit: timedelta, heed: Callable[[], None]) -> Any:
    """Open the store, or find it."""
    # torchrun keeps a store itself, and sets this variable.
    opens = place.is_first and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ
    try:
        if not opens:
            _wait_for_listener(place, limit, heed)
        return distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            place.address,
            place.port,
            place.world_size,
            is_master=opens,
            timeout=limit,
            wait_for_workers=False,
        )
    except (OSError, distributed.DistError) as error:
        raise UserError(_why_not_met(place, error)) from error


def _wait_for_listener(place: Place, limit: timedelta, heed: Callable[[], None]) -> None:
    """Wait until somebody can be reached: torch's own way of waiting hears no signal."""
    deadline = time.monotonic() + limit.total_seconds()
    while True:
        try:
            socket.create_connection((place.address, place.port), timeout=_CONNECT).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        heed()
        time.sleep(_POLL)


def _why_not_met(place: Place, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    where = f"{place.address}, port {place.port}"
    if "EADDRINUSE" in reason:
        return f"{where} is taken by another program: set MASTER_PORT to a port that is free"
    return (
        f"rank 0 can't be found at {where} ({reason}): start all {place.world_size} processes, with"
        " MASTER_ADDR and MASTER_PORT where the first one can be reached"
    )


def _is_about_others(error: RuntimeError) -> bool:
    """Whether another process is the cause: gloo raises no type of its own."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
