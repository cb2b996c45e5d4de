"""What can be chosen about a model; every default fits every data set it was measured on."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["InversionSettings", "ModelConfig", "ModelSettings"]

Mode = Literal["combined", "inversion", "reconstruction", "discriminator"]
View = Literal["range", "standard"]
Architecture = Literal["mlp", "shallow", "deep", "funnel"]


class ModelSettings(BaseModel):
    """The networks and their training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field(
        "combined",
        description="Which opinion is the anomaly score: combined, inversion, reconstruction (no latent search), "
        "or discriminator.",
    )
    architecture: Architecture = Field("mlp", description="Shape of the hidden layers, by name.")
    views: tuple[View, ...] = Field(
        ("range",), min_length=1, max_length=2, description="Scalings of the features, each with networks."
    )
    members: int = Field(2, ge=1, le=16, description="Independent sets of networks per view.")
    hidden: int | None = Field(
        None, ge=8, le=1024, description="Width of a hidden layer, units. Default: by the number of columns."
    )
    latent: int | None = Field(
        None, ge=1, le=64, description="Width of the latent space, units. Default: by the number of columns."
    )
    steps: int = Field(2000, ge=10, le=200_000, description="Training steps, batches.")
    batch: int = Field(256, ge=16, le=65_536, description="Records per training step and member.")
    learning_rate: float = Field(2e-3, gt=0, le=0.1, description="Adam's first learning rate; it decays to 0.")
    prior: float = Field(
        0.2, ge=0, le=10, description="Weight of the squared latent beside the squared residual, in fit and search."
    )
    adversarial: float = Field(0.05, ge=0, le=10, description="Weight of fooling the discriminator, in fitting.")
    averaging: float = Field(0.995, ge=0, lt=1, description="Decay a step of the running average of the weights.")
    holdout: float = Field(
        0.2, ge=0.05, le=0.5, description="Share of the records kept out of training, to calibrate on."
    )


class InversionSettings(BaseModel):
    """The search for the latent that best explains a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(2, ge=0, le=100, description="Damped Gauss-Newton steps; 0 is the plain reconstruction scorer.")
    damping: float = Field(0.05, gt=0, le=100, description="First damping of a step; it adapts to each record.")
    screen: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Share of normal records whose encoder start is good enough to skip the search; 0 searches all.",
    )


class ModelConfig(BaseModel):
    """All that shapes a fitted model, beside the data and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelSettings = ModelSettings()
    inversion: InversionSettings = InversionSettings()

    @property
    def search(self) -> InversionSettings:
        """The inversion's settings with the mode applied: `reconstruction` does not search."""
        if self.model.mode == "reconstruction":
            return self.inversion.model_copy(update={"steps": 0})
        return self.inversion
