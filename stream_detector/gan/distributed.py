"""Training by several processes, as `torchrun` starts them: each takes its share of every batch.

One process leads: it runs the command, and hands data, settings and checkpoints to the others,
which only train. All hold the same weights, because all take the same steps along gradients that
torch's DistributedDataParallel averages. In a single process these functions do nothing.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stream_detector.gan.settings import ModelSettings

__all__ = ["announce", "broadcast", "computing", "leading", "listen", "rank", "share", "size"]

Job = tuple[dict[str, Tensor], ModelSettings, int, torch.device]
"""Tensors of the training data by name, settings, seed and device."""
Losses = Callable[[], tuple[Tensor, ...]]

FOLLOWER_TIMEOUT = timedelta(days=365)  # those who follow wait for the next training as long as it takes
INTERRUPTED = 130  # exit code; the others find out by the lost connection


def size() -> int:
    """The number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them; 0 leads."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def leading(follow: Callable[[], None]) -> Iterator[bool]:
    """Tells in its block whether this process is to go on with its command, as leader or alone.

    Under `torchrun` those that do not lead call `follow` first, which returns when the leader's block ends.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=FOLLOWER_TIMEOUT
    )
    try:
        if rank():
            follow()
            yield False
        else:
            with _dismissing():
                yield True
    finally:
        distributed.destroy_process_group()


def announce(tensors: dict[str, Tensor], settings: ModelSettings, seed: int, device: torch.device) -> None:
    """Announces a training, where this process leads: the others hear of it by `listen`."""
    if size() > 1 and rank() == 0:
        said = {"settings": settings.model_dump(mode="json"), "seed": seed, "device": device.type}
        broadcast(json.dumps(said).encode())
        broadcast(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def listen() -> Job | None:
    """Waits for the next training to take part in; None when there will be none."""
    said = broadcast(None)
    if not said:
        return None
    job = json.loads(said)
    settings = ModelSettings.model_validate(job["settings"])
    return load(broadcast(None)), settings, int(job["seed"]), torch.device(job["device"])


def share(settings: ModelSettings) -> ModelSettings:
    """The settings with the share of a batch that is this process's own."""
    return settings.model_copy(update={"batch": max(1, round(settings.batch / size()))})


def computing(parameters: Sequence[nn.Parameter]) -> Callable[[Losses], tuple[Tensor, ...]]:
    """A function that computes losses so that their `backward` gives `parameters` the mean gradient of all processes."""
    if size() == 1:
        return lambda losses: losses()
    shared: Callable[[Losses], tuple[Tensor, ...]] = DistributedDataParallel(_Computation(parameters))
    return shared


class _Computation(nn.Module):
    """Is wrapped by `DistributedDataParallel`, which hears of a step by `forward` and of gradients by hooks."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.group = nn.ParameterList(parameters)

    def forward(self, losses: Losses) -> tuple[Tensor, ...]:
        return losses()


@contextmanager
def _dismissing() -> Iterator[None]:
    """Tells the others that nothing follows, unless the block was interrupted in the middle of a training."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except SystemExit as end:
        if end.code != INTERRUPTED:
            broadcast(b"")
        raise
    except BaseException:
        broadcast(b"")
        raise
    else:
        broadcast(b"")


def broadcast(message: bytes | None) -> bytes:
    """Returns the leader's bytes in every process; the others give None."""
    length = torch.tensor([len(message) if message is not None else 0])
    distributed.broadcast(length, 0)
    content = torch.zeros(int(length), dtype=torch.uint8)
    if message:
        content = torch.frombuffer(bytearray(message), dtype=torch.uint8)
    if len(content):
        distributed.broadcast(content, 0)
    return content.numpy().tobytes()
