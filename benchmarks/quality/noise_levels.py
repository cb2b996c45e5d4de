"""A classifier of noise levels, after diffusion time estimation (Livernoche et al., ICLR 2024).

Records of normal operation get noise of a random strength; a network learns to tell the strength.
A record that looks noisy to it is anomalous. Written from the paper's idea, not from its code.
"""

from pathlib import Path

import torch
from torch import nn

from benchmarks.quality import mlp
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.mlp import batches, descend, network, optimiser
from benchmarks.quality.scaling import fit_scaling

__all__ = ["NOISE_LEVELS"]

SETTINGS = {"levels": 7, "hidden": 128, "steps": 2_500, "batch": 128, "rate": 1e-3, "smallest": 0.05, "largest": 2.0}


def fit(train: Matrix, seed: int) -> Score:
    """Learns to tell how much noise was added; scores by the expected level."""
    torch.manual_seed(seed)
    levels, hidden = int(SETTINGS["levels"]), int(SETTINGS["hidden"])
    prepare = fit_scaling("standard", train)
    ends = (torch.tensor(SETTINGS[end]).log10() for end in ("smallest", "largest"))
    strengths = torch.logspace(*ends, levels - 1)  # type: ignore[call-overload]
    strengths = torch.cat([torch.zeros(1), strengths])
    classifier = network(train.shape[1], hidden, hidden, hidden, levels)
    adam = optimiser(SETTINGS["rate"], classifier)
    for clean in batches(torch.from_numpy(prepare(train)), int(SETTINGS["batch"]), int(SETTINGS["steps"])):
        level = torch.randint(levels, (len(clean),))
        noisy = clean + strengths[level, None] * torch.randn_like(clean)
        descend(adam, nn.functional.cross_entropy(classifier(noisy), level))

    @torch.inference_mode()
    def score(X: Matrix) -> tuple[Matrix]:
        chances = classifier(torch.from_numpy(prepare(X))).softmax(1)
        return ((chances @ torch.arange(levels, dtype=torch.float32)).numpy(),)

    return score


NOISE_LEVELS = Method(
    "noise-levels",
    ("noise levels (DTE-like)",),
    fit,
    SETTINGS,
    sources=(Path(__file__), Path(mlp.__file__)),
    note="our own, after DTE: three layers of 128, 2,500 steps of 128 records, six strengths from 0.05 to 2 and none",
)
