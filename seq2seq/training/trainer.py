"""Lightning's trainer, with all that the boundary does itself switched off."""

import logging
import warnings
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from seq2seq.config import Config
from seq2seq.parallel.place import Place


def make_trainer(
    config: Config, callbacks: list[lightning.Callback], place: Place, device: torch.device
) -> lightning.Trainer:
    """Make the trainer of a process.

    Args:
        config: of the run.
        callbacks: what happens between two steps, in this order.
        place: of this process among those of the run, which have met before.
        device: what this process computes on.
    """
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Advice on worker processes and loggers, which are no settings of ours.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning")
    trainer = lightning.Trainer(
        accelerator=device.type,
        precision="32-true",
        max_epochs=1,
        callbacks=callbacks,
        default_root_dir=config.training.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **_processes(place, device),
    )
    _switch_off_signals(cast(Any, trainer))
    return trainer


def _processes(place: Place, device: torch.device) -> dict[str, Any]:
    if place.world_size == 1:  # whatever SLURM's variables say
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    devices = [torch.device("cpu")] * place.local_size
    if device.type == "cuda":
        devices = [torch.device("cuda", number) for number in range(place.local_size)]
        devices[place.local_rank] = device  # number 0, where a process sees no other
    strategy = DDPStrategy(
        parallel_devices=devices,
        cluster_environment=_Environment(place),
        gradient_as_bucket_view=True,
        broadcast_buffers=False,  # there are none that change
    )
    return {"devices": place.local_size, "strategy": strategy}


def _switch_off_signals(trainer: Any) -> None:
    """Keep Lightning from handling signals: ours, installed before, set a flag.

    Its handlers would save within the handler, or talk to the other processes there. Where there
    are several it asks before each batch whether the first one had a signal, and waits.
    """
    connector, loop = trainer._signal_connector, trainer.fit_loop.epoch_loop
    assert hasattr(connector, "register_signal_handlers")
    assert hasattr(loop, "_broadcast_sigterm_tensor")
    connector.register_signal_handlers = lambda: None
    loop._broadcast_sigterm_tensor = lambda: None


class _Environment(ClusterEnvironment):
    """Tells Lightning what is known of the processes, whoever started them."""

    def __init__(self, place: Place):
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._place.address

    @property
    def main_port(self) -> int:
        return self._place.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.world_size

    def set_world_size(self, size: int) -> None:
        pass  # Lightning multiplies nodes and devices, which may be unlike

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return 0
