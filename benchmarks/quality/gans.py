"""GAN peers that no library ships in working order, written from their papers.

AnoGAN (Schlegl et al. 2017) searches the latent of every record at scoring time, which the one in
PyOD does not do. GANomaly (Akcay et al. 2018) compares the latents of a record and of its
reconstruction.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.quality import mlp
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.mlp import batches, descend, network, optimiser
from benchmarks.quality.scaling import fit_scaling

__all__ = ["GANS"]

HIDDEN = 64
BATCH = 128
ANOGAN = {"hidden": HIDDEN, "batch": BATCH, "steps": 2_000, "rate": 5e-4, "latent": 16, "search": 100, "feature": 0.1}
GANOMALY = {"hidden": HIDDEN, "batch": BATCH, "steps": 2_000, "rate": 1e-3, "adversarial": 1.0, "residual": 50.0}
real_or_fake = nn.functional.binary_cross_entropy_with_logits


class Judge(nn.Module):
    """A discriminator whose last hidden layer can be looked at."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.features = network(columns, HIDDEN, HIDDEN)
        self.verdict = nn.Linear(HIDDEN, 1)

    def forward(self, records: Tensor) -> Tensor:
        """The logit of being real."""
        logit: Tensor = self.verdict(self.features(records))
        return logit

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Cross-entropy of telling real records from made ones."""
        logits = self(torch.cat([real, fake]))
        labels = torch.cat([torch.ones(len(real), 1), torch.zeros(len(fake), 1)])
        return real_or_fake(logits, labels)


def fit_anogan(train: Matrix, seed: int) -> Score:
    """A plain GAN; a record's score is what its own best latent leaves unexplained."""
    torch.manual_seed(seed)
    prepare = fit_scaling("standard", train)
    width = int(ANOGAN["latent"])
    generator, judge = network(width, HIDDEN, HIDDEN, train.shape[1]), Judge(train.shape[1])
    build, detect = (optimiser(ANOGAN["rate"], each, momentum=0.5) for each in (generator, judge))
    for real in batches(torch.from_numpy(prepare(train)), BATCH, int(ANOGAN["steps"])):
        made = generator(torch.randn(len(real), width))
        descend(detect, judge.loss(real, made.detach()))
        descend(build, real_or_fake(judge(made), torch.ones(len(made), 1)))
    for weight in [*generator.parameters(), *judge.parameters()]:
        weight.requires_grad_(False)
    return lambda X: (_search(generator, judge, torch.from_numpy(prepare(X)), width).numpy(),)


def _search(generator: nn.Module, judge: Judge, records: Tensor, width: int) -> Tensor:
    """The objective of every record after Adam on its own latent; a record's gradient is its own."""
    latent = torch.zeros(len(records), width, requires_grad=True)
    adam = torch.optim.Adam([latent], 0.05, fused=True)
    wanted = judge.features(records)

    def objective() -> Tensor:
        made = generator(latent)
        residual: Tensor = (records - made).abs().sum(1)
        unlike: Tensor = (wanted - judge.features(made)).abs().sum(1)
        return residual + ANOGAN["feature"] * unlike

    for _ in range(int(ANOGAN["search"])):
        descend(adam, objective().sum())
    return objective().detach()


def fit_ganomaly(train: Matrix, seed: int) -> Score:
    """Encoder, decoder and second encoder; a record's score is the distance between its two latents."""
    torch.manual_seed(seed)
    prepare = fit_scaling("standard", train)
    columns = train.shape[1]
    width = max(2, min(16, columns // 2))
    encoder, decoder = network(columns, HIDDEN, HIDDEN, width), network(width, HIDDEN, HIDDEN, columns)
    again, judge = network(columns, HIDDEN, HIDDEN, width), Judge(columns)
    build = optimiser(GANOMALY["rate"], encoder, decoder, again, momentum=0.5)
    detect = optimiser(GANOMALY["rate"], judge, momentum=0.5)
    for real in batches(torch.from_numpy(prepare(train)), BATCH, int(GANOMALY["steps"])):
        latent = encoder(real)
        made = decoder(latent)
        descend(detect, judge.loss(real, made.detach()))
        parts = (
            GANOMALY["residual"] * (real - made).abs().mean(),
            GANOMALY["adversarial"] * (judge.features(real).detach() - judge.features(made)).square().mean(),
            (latent - again(made)).square().mean(),
        )
        descend(build, sum(parts, torch.zeros(())))

    @torch.inference_mode()
    def score(X: Matrix) -> tuple[Matrix]:
        latent = encoder(torch.from_numpy(prepare(X)))
        return ((latent - again(decoder(latent))).square().mean(1).numpy(),)

    return score


GANS = (
    Method(
        "anogan",
        ("AnoGAN, searching",),
        fit_anogan,
        ANOGAN,
        is_gan=True,
        sources=(Path(__file__), Path(mlp.__file__)),
        note="our own, with the paper's search that PyOD's lacks: 100 Adam steps on every record's own latent "
        "(500 in the paper), 2,000 training steps of 128 records",
    ),
    Method(
        "ganomaly",
        ("GANomaly",),
        fit_ganomaly,
        GANOMALY,
        is_gan=True,
        sources=(Path(__file__), Path(mlp.__file__)),
        note="our own, with fully connected layers: 2,000 training steps of 128 records",
    ),
)
