"""Training by several processes, as `torchrun` starts them: each takes its share of every batch.

One process leads: it runs the command, and hands data, settings and checkpoints to the others,
which only train. All hold the same weights, because all take the same steps along gradients that
torch's DistributedDataParallel averages. With a single process nothing here does anything.
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
from stream_detector.gan.state import TrainingState

__all__ = ["align", "brief", "computing", "leading", "listen", "share"]

Job = tuple[dict[str, Tensor], ModelSettings, int, torch.device]
"""Tensors of the training data by name, settings, seed and device."""
Losses = Callable[[], tuple[Tensor, ...]]

PATIENCE = timedelta(days=365)  # those who follow wait for the next training as long as it takes
INTERRUPTED = 130  # exit code; the others find out by the lost connection
RANK_SEEDS = 1_000_003  # apart, so that no process draws what another does


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process among them; 0 leads."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def leading(follow: Callable[[], None]) -> Iterator[bool]:
    """Whether this process is to go on with its command, as leader or alone.

    Under `torchrun` those that do not lead call `follow` first, which returns when the leader's block ends.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        if rank():
            follow()
            yield False
        else:
            with _dismissing():
                yield True
    finally:
        distributed.destroy_process_group()


def brief(tensors: dict[str, Tensor], settings: ModelSettings, seed: int, device: torch.device) -> None:
    """The leader's call before a training: the others hear of it by `listen`."""
    if size() > 1 and rank() == 0:
        said = {"settings": settings.model_dump(mode="json"), "seed": seed, "device": device.type}
        _broadcast(json.dumps(said).encode())
        _broadcast(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def listen() -> Job | None:
    """The next training to take part in; None when there is none any more."""
    said = _broadcast(None)
    if not said:
        return None
    job = json.loads(said)
    settings = ModelSettings.model_validate(job["settings"])
    return load(_broadcast(None)), settings, int(job["seed"]), torch.device(job["device"])


def share(settings: ModelSettings) -> ModelSettings:
    """The settings with this process's share of a batch."""
    return settings.model_copy(update={"batch": max(1, round(settings.batch / size()))})


def align(state: TrainingState, done: int, seed: int) -> int:
    """Gives every process the leader's state after `done` steps, and draws of its own; returns the leader's `done`."""
    if size() == 1:
        return done
    done = int(_broadcast(str(done).encode() if rank() == 0 else None))
    if done:
        kept = _broadcast(save(state.tensors()) if rank() == 0 else None)
        if rank():
            state.restore(load(kept))
    if rank():
        state.rng.manual_seed(seed + RANK_SEEDS * rank() + done)
    return done


def computing(parameters: Sequence[nn.Parameter]) -> Callable[[Losses], tuple[Tensor, ...]]:
    """A call that computes losses so that, by their `backward`, `parameters` get the mean gradient of all processes."""
    if size() == 1:
        return lambda losses: losses()
    shared: Callable[[Losses], tuple[Tensor, ...]] = DistributedDataParallel(_Computation(parameters))
    return shared


class _Computation(nn.Module):
    """What `DistributedDataParallel` wraps: it hears of a step by `forward`, of gradients by its parameters' hooks."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.group = nn.ParameterList(parameters)

    def forward(self, losses: Losses) -> tuple[Tensor, ...]:
        return losses()


@contextmanager
def _dismissing() -> Iterator[None]:
    """The others are told that nothing follows, unless the block was interrupted in the middle of a training."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except SystemExit as end:
        if end.code != INTERRUPTED:
            _broadcast(b"")
        raise
    except BaseException:
        _broadcast(b"")
        raise
    else:
        _broadcast(b"")


def _broadcast(message: bytes | None) -> bytes:
    """The leader's bytes, in every process."""
    length = torch.tensor([len(message) if message is not None else 0])
    distributed.broadcast(length, 0)
    content = torch.zeros(int(length), dtype=torch.uint8)
    if message:
        content = torch.frombuffer(bytearray(message), dtype=torch.uint8)
    if len(content):
        distributed.broadcast(content, 0)
    return content.numpy().tobytes()
