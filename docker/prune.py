"""Takes out of this environment what torch's default build brings for GPUs only.

libtorch is linked against CUDA's libraries, so those that the loader maps must stay even where
there is no GPU; kernels, compilers and headers need not. Which is which is not listed here but seen:
torch is put to work, and what the process has mapped is kept. A build of torch without CUDA has
nothing to lose.
"""

# ruff: noqa: INP001 - a script for the image, not a module

import shutil
import subprocess
import sys
from pathlib import Path

import torch

SITE = Path(torch.__file__).parent.parent


def work() -> None:
    """One step of all that fitting and scoring ask of torch."""
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LeakyReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(64, 8)).square().mean().backward()
    optimizer.step()
    torch.linalg.cholesky(torch.eye(8).expand(4, 8, 8))
    torch.linalg.eigh(torch.eye(8))
    torch.randn(64).quantile(0.5)


def mapped() -> set[Path]:
    """The files that the loader has mapped into this process."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {Path(line.split(maxsplit=5)[5]) for line in lines if "/" in line}


def prune() -> None:
    """Removes what no CPU needs."""
    needed = mapped()
    for path in (SITE / "nvidia").rglob("*"):
        if path.is_file() and path not in needed:
            path.unlink()
    for name in ("triton", "torch/include"):
        shutil.rmtree(SITE / name, ignore_errors=True)


if __name__ == "__main__":
    work()
    if sys.argv[1:] != ["check"]:
        prune()
        subprocess.run([sys.executable, __file__, "check"], check=True)  # noqa: S603 - a fresh process finds it all
