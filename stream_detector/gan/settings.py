"""The settings of a model; every default fits every data set it was measured on."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["MODES", "Architecture", "InversionSettings", "Mode", "ModelConfig", "ModelSettings", "View"]

MODES = ["combined", "inversion", "reconstruction", "discriminator"]
"""What the anomaly score can be; a scorer that is registered adds its own."""


def _known_mode(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"there is no mode {mode!r}; give one of {', '.join(MODES)}")
    return mode


Mode = Annotated[str, AfterValidator(_known_mode)]
View = Literal["tamed", "bounded", "soft"]
Architecture = Literal["mlp", "shallow", "deep", "residual", "funnel"]


class ModelSettings(BaseModel):
    """The networks, their training, and the normal records kept beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field(
        "combined",
        description="Which opinion is the anomaly score: combined, inversion, reconstruction (no latent search), "
        "or discriminator.",
    )
    architecture: Architecture = Field("mlp", description="Shape of the hidden layers, by name.")
    views: tuple[View, ...] = Field(
        ("tamed",), min_length=1, max_length=3, description="Scalings of the features, each with networks of its own."
    )
    members: int = Field(1, ge=1, le=16, description="Independent encoders and generators per view.")
    discriminators: int = Field(4, ge=1, le=16, description="Independent discriminators per view.")
    hidden: int = Field(64, ge=8, le=1024, description="Width of a hidden layer, units.")
    latent: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Width of the latent space, units. Default: principal axes that explain 90 % of the variance, "
        "at least 8.",
    )
    memory: int = Field(
        2048, ge=64, le=65_536, description="Most normal records kept to compare with; fewer when they are wide."
    )
    steps: int = Field(
        4000,
        ge=10,
        le=200_000,
        description="Training steps, batches: a quarter for encoder and generator, then the discriminator's.",
    )
    batch: int = Field(256, ge=16, le=65_536, description="Records per step and discriminator; a generator has half.")
    learning_rate: float = Field(2e-3, gt=0, le=0.1, description="Adam's first learning rate; it decays to 4 % of it.")
    adversarial: float = Field(0.02, ge=0, le=10, description="Weight of fooling the critic, in fitting the generator.")
    averaging: float = Field(0.995, ge=0, lt=1, description="Decay a step of the running average of the weights.")
    holdout: float = Field(
        0.2, ge=0.05, le=0.5, description="Share of the records kept out of training, to calibrate on."
    )

    @property
    def autoencoder_steps(self) -> int:
        """The steps that train encoder and generator, before those of the discriminator."""
        return self.steps // 4


class InversionSettings(BaseModel):
    """The search for the latent that best explains a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(2, ge=0, le=100, description="Damped Newton steps; 0 is the plain reconstruction scorer.")
    starts: int = Field(
        1,
        ge=1,
        le=5,
        description="Latents to start from: the encoder's, the mean of the three nearest records' latents, theirs.",
    )
    prior: float = Field(
        0.3,
        ge=0,
        le=10,
        description="Weight of the squared distance from the nearest records' latents beside the squared residual.",
    )
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
