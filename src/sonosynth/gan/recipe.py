"""The contract between the training loop and a family of generators: its settings, its generator, and its losses."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from torch import Tensor, nn
from torch.optim import Optimizer

from sonosynth.core.device import autocast
from sonosynth.core.draws import Draws
from sonosynth.core.errors import RecipeError
from sonosynth.core.text import did_you_mean
from sonosynth.gan.augment.diffaugment import OPERATIONS, diffaugment
from sonosynth.gan.lecam import LeCam

COMPILE_KIMG = 30.0  # compiling StyleGAN2 takes three minutes on two cores and saves eleven seconds a kimg


def setting(default: Any, source: str, meaning: str | None = None, before: Any = ..., **limits: Any) -> Any:
    """Return the pydantic field of a setting with its default in the family.

    `source` says where that comes from: the short name of one of the `papers` and where in it, or "ours" and why.
    `meaning` is what the setting does; one that `Recipe` declares keeps the meaning given there. `before` is what runs
    of earlier versions did, if their default was another or there was no such setting. `limits` are pydantic's.
    """
    extra = {"source": source} | ({} if before is ... else {"before": before})
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


Decay = Annotated[float, Field(ge=0, lt=1)]
"""What a moving average keeps in a step."""
Compile = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(lambda value: ("off", "on")[value] if isinstance(value, bool) else value),  # as YAML reads them
]


def _known_operations(policy: tuple[str, ...]) -> tuple[str, ...]:
    for name in policy:
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation '{name}'{did_you_mean(name, list(OPERATIONS))}")
    return policy


DiffAugmentPolicy = Annotated[tuple[str, ...], AfterValidator(_known_operations)]
"""Operations of DiffAugment, in the order in which they are applied."""
CUTOUT_RATIO_MEANING = "side of the square that cutout hides, as a share of the image"


class Recipe(BaseModel, ABC):
    """Settings that every family of generators has, and what a family builds from them.

    A family adds settings of its own, and names three classes. Each takes the recipe: networks are made by
    ``(size, n_classes, recipe)``, where `n_classes` is 0 for an unconditional one, losses by
    ``(recipe, generator, discriminator)``.

    Attributes:
        papers: those that sources of settings name, by the short name; a family gives those of its own settings.
        generator_class: a `GeneratorNetwork`.
        discriminator_class: a module that takes what `objective_class` gives it.
        objective_class: an `Objective`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    papers: ClassVar[dict[str, str]] = {
        "Karras 2020b": "Karras, Aittala, Hellsten, Laine, Lehtinen, Aila: Training Generative Adversarial Networks "
        "with Limited Data. NeurIPS 2020",
        "Maack 2022": "Maack, Holstein, Schlaefer: GANs for generation of synthetic ultrasound images from small "
        "datasets. Current Directions in Biomedical Engineering 8(1), 2022",
        "Mo 2020": "Mo, Cho, Shin: Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs. "
        "CVPR Workshops 2020",
        "Tseng 2021": "Tseng, Jiang, Liu, Yang, Yang: Regularizing Generative Adversarial Networks under Limited Data. "
        "CVPR 2021",
        "Zhao 2020": "Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training. "
        "NeurIPS 2020",
    }

    generator_class: ClassVar[type[Any]]
    discriminator_class: ClassVar[type[Any]]
    objective_class: ClassVar[type[Any]]

    name: str
    family: str
    mode: Literal["per_class", "conditional"] = setting(
        "per_class", "Maack 2022, as far as known", "`per_class`: one generator per class; `conditional`: one for all"
    )
    kimg: float = setting(300.0, "Zhao 2020, few-shot runs", "thousands of real images shown", gt=0)
    batch: int = setting(
        16, "Karras 2020b, authors' `auto` at 256 px on one GPU", "real images per step", ge=2, multiple_of=2
    )
    mirror: bool = setting(
        True,
        "Karras 2020b: doubles small data sets; off there by default",
        "flip half of the real images left to right; false where left and right are anatomy",
        before=False,
    )
    balanced_classes: bool = setting(
        False,
        "ours: a generator makes what it was shown",
        "show every class as often, instead of in the proportions of the training images",
    )
    pretrain_kimg: float = setting(
        0.0,
        "ours: as long as few-shot runs of Zhao 2020 where a recipe pretrains; not tuned",
        "thousands of phantoms shown before the real images; 0: no pretraining",
        ge=0,
    )
    pretrain_images: int = setting(
        300, "ours: several times a small data set; not tuned", "simulated phantoms of each class", ge=2
    )
    pretrain_seed: int = setting(
        0,
        "ours: one pretrained generator serves all runs of a study",
        "of phantoms and pretraining; runs that share it start from the same weights, whatever their own seed",
    )
    prior: str | None = setting(
        None,
        "ours: knowledge from other patients, where recipes end in +prior",
        "pretrained generator to start from: one of `sonosynth priors`, the folder of another, or `auto`, the one of "
        "that command for the family and the size of the images",
    )
    freeze_discriminator: int = setting(
        0,
        "Mo 2020: all but the last layers; off unless a run starts from another",
        "stages of the discriminator, from the image on, that are not trained",
        ge=0,
    )
    discriminator_rate: float = setting(
        1.0,
        "ours: both networks alike, as in all papers here",
        "learning rate of the discriminator, as a multiple of `learning_rate`",
        gt=0,
    )
    ema_halflife_kimg: float = Field(
        gt=0, description="half-life of the moving average of the generator's weights, in kimg"
    )
    ema_rampup: float = Field(gt=0, description="that half-life is at most this share of the images shown so far")
    learning_rate: float = Field(gt=0, description="of Adam, for both networks")
    adam_betas: tuple[Decay, Decay] = Field(description="decay rates of Adam's two moments")
    compile: Compile = setting(
        "auto",
        f"ours: compiling pays after about that many kimg; `auto` is `on` for runs of at least {COMPILE_KIMG:g} kimg",
        "compile the networks before training: `on`, `off` or `auto`",
    )
    lecam_weight: float = setting(
        0.0,
        "Tseng 2021, authors' scripts: 0.3 with hinge losses, 3e-7 to 1e-6 with StyleGAN2; off here",
        "weight of LeCam regularisation of the discriminator",
        ge=0,
    )
    lecam_decay: float = setting(
        0.99, "Tseng 2021, authors' StyleGAN2", "what LeCam's averages of logits keep in a step", ge=0, lt=1
    )

    _given: frozenset[str] = PrivateAttr(default=frozenset())

    def __eq__(self, other: object) -> bool:
        """Recipes are equal whose settings are, whether given or defaults."""
        return type(self) is type(other) and dict(self) == dict(other)

    @property
    def given(self) -> frozenset[str]:
        """The settings that were given to `make_recipe`; all others are the recipe's own."""
        return self._given

    @classmethod
    def defaults_before(cls) -> dict[str, Any]:
        """Return the settings whose defaults were others in earlier versions, or not to be set, as they were."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {
            name: extra["before"] for name, extra in extras.items() if isinstance(extra, dict) and "before" in extra
        }

    @classmethod
    def network_settings(cls) -> set[str]:
        """Return the names of the settings that its networks are built from: those of the class it is derived from."""
        base = cls.__base__
        assert base is not None and issubclass(base, Recipe)
        return base.model_fields.keys() - Recipe.model_fields.keys()

    def compiles(self, kimg: float) -> bool:
        """Return whether a run of `kimg` compiles its networks; nothing else decides, so that resuming is exact."""
        return self.compile == "on" or (self.compile == "auto" and kimg >= COMPILE_KIMG)

    def compile_plan(self, kimg: float) -> str:
        """Return a line that says whether a run of `kimg` compiles its networks, and why."""
        choice = "compile: on" if self.compiles(kimg) else "compile: off"
        if self.compile != "auto":
            return f"{choice}, as set"
        return f"{choice}, since the run is {'' if self.compiles(kimg) else 'not '}at least {COMPILE_KIMG:g} kimg long"

    def check_processes(self, processes: int) -> None:
        """Raise RecipeError if a batch cannot be divided among so many `processes`."""
        images, left = divmod(self.batch, processes)
        if processes > 1 and (left or images % self.process_batch_multiple):
            raise RecipeError(
                f"GAN '{self.name}', batch = {self.batch}: {processes} processes need a multiple of "
                f"{processes * self.process_batch_multiple} images; set batch to one (--set batch=...), "
                "or use fewer processes"
            )

    @property
    def process_batch_multiple(self) -> int:
        """Where several processes share a batch, the images of each are a multiple of this."""
        return 2

    def record(self) -> dict[str, Any]:
        """Return the settings that decide what a run computes, as plain JSON values.

        Length and mode are decided by a run, not its recipe; settings of pretraining are left out where there is none,
        and those of fine-tuning where they are not used.
        """
        idle = {"pretrain_kimg", "pretrain_images", "pretrain_seed"} if not self.pretrain_kimg else set()
        of_fine_tuning = ("prior", "freeze_discriminator", "discriminator_rate")
        idle |= {name for name in of_fine_tuning if getattr(self, name) == Recipe.model_fields[name].default}
        return json.loads(self.model_dump_json(exclude={"mode", "kimg"} | idle))  # type: ignore[no-any-return]

    def resolved(self, kimg: float) -> Self:
        """Return the recipe with all that depends on the length of a run, `kimg`, written out."""
        return self

    def build_generator(self, size: int, n_classes: int) -> "GeneratorNetwork":
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return self.generator_class(size, n_classes, self)  # type: ignore[no-any-return]

    def build_discriminator(self, size: int, n_classes: int) -> nn.Module:
        """Return a freshly initialised discriminator, without gradients in the stages that are not trained.

        Raises RecipeError: it has not so many stages.
        """
        network: nn.Module = self.discriminator_class(size, n_classes, self)
        stages: list[list[nn.Module]] = getattr(network, "stages_from_image", list)()
        if self.freeze_discriminator > len(stages):
            raise RecipeError(
                f"GAN '{self.name}', freeze_discriminator = {self.freeze_discriminator}: its discriminator for {size} "
                f"px has {len(stages)} stages that can be frozen; take fewer"
            )
        for module in chain.from_iterable(stages[: self.freeze_discriminator]):
            module.requires_grad_(False)
        return network

    def build_objective(self, generator: "GeneratorNetwork", discriminator: nn.Module) -> "Objective":
        """Return the losses of both networks."""
        return self.objective_class(self, generator, discriminator)  # type: ignore[no-any-return]

    def build_optimizers(self, generator: "GeneratorNetwork", discriminator: nn.Module) -> tuple[Optimizer, Optimizer]:
        """Return an optimiser for the generator and one for the discriminator: Adam, unless a family overrides it."""
        rate, betas = self.learning_rate, self.adam_betas
        return adam(generator, rate, betas), adam(discriminator, rate * self.discriminator_rate, betas)

    def parameter_counts(self, size: int, n_classes: int) -> tuple[int, int]:
        """Return the numbers of trained parameters of generator and discriminator."""
        with torch.device("meta"):
            networks = self.build_generator(size, n_classes), self.build_discriminator(size, n_classes)
        return tuple(sum(p.numel() for p in network.parameters()) for network in networks)  # type: ignore[return-value]


def adam(network: nn.Module, learning_rate: float, betas: tuple[float, float]) -> Optimizer:
    """Return Adam on the trained parameters of `network`."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, lr=learning_rate, betas=betas, eps=1e-8, fused=True)


class GeneratorNetwork(nn.Module, ABC):
    """A generator of one-channel images. Everything random is an argument: the same tensors give the same image.

    Attributes:
        size: image side in pixels.
        z_dim: length of the latent.
    """

    size: int
    z_dim: int

    @property
    @abstractmethod
    def noise_length(self) -> int:
        """Number of noise values an image takes besides its latent; may be 0."""

    @abstractmethod
    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return float32 images ``[N, 1, size, size]`` in about [-1, 1].

        Args:
            z: standard normal latents ``[N, z_dim]``.
            labels: classes, int64 ``[N]``; None for an unconditional generator.
            noise: standard normal ``[N, noise_length]``.
            truncation: ψ in [0, 1]; below 1 images are less diverse and more typical.
        """


@dataclass(frozen=True)
class Batch:
    """What one phase of one step works on: real images, the classes of generated ones, and its random draws.

    `real` is float32 ``[N, 1, H, W]`` in [-1, 1]; labels are int64 ``[N]``, or None for an unconditional GAN.
    """

    real: Tensor
    real_labels: Tensor | None
    fake_labels: Tensor | None
    draws: Draws

    @property
    def both_labels(self) -> Tensor | None:
        """The classes of generated images, then those of real ones, int64 ``[2 N]``."""
        if self.fake_labels is None or self.real_labels is None:
            return None
        return torch.cat([self.fake_labels, self.real_labels])


@dataclass(frozen=True)
class Phase:
    """One optimiser step of one network: its loss is minimised every `interval` steps.

    `loss` returns the scalar to minimise and detached statistics to log.
    """

    name: str
    network: Literal["generator", "discriminator"]
    interval: int
    loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]


class Objective(ABC):
    """The losses of a family: the phases of a step, and what they keep between steps.

    Attributes:
        recipe: the settings.
        generator: the network that makes images.
        discriminator: the network that tells them from real ones.
        device: of both networks.
        lecam: regularisation of the discriminator; see `LeCam`.
        compilable: the names of the methods that `torch.compile` may replace. They take and return tensors, draw
            nothing, and what they return is not differentiated twice.
    """

    generator: GeneratorNetwork
    compilable: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, generator: GeneratorNetwork, discriminator: nn.Module):
        self.recipe, self.generator, self.discriminator = recipe, generator, discriminator
        self.device = next(generator.parameters()).device
        self.lecam = LeCam(recipe.lecam_weight, recipe.lecam_decay, self.device)

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        return [
            Phase("generator", "generator", 1, self.generator_loss),
            Phase("discriminator", "discriminator", 1, self.discriminator_loss),
        ]

    @abstractmethod
    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar that the generator minimises, and detached statistics to log."""

    @abstractmethod
    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar that the discriminator minimises, and detached statistics to log."""

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return the discriminator's float32 outputs ``[N, ...]`` on images as they are, without augmentation.

        `images` are float32 ``[N, 1, H, W]`` in [-1, 1]; `labels` int64 ``[N]``, or None in an unconditional GAN.
        """
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, labels)
        return logits

    def diffaugmented(self, images: Tensor, batch: Batch) -> Tensor:
        """Return `images` after the operations of a recipe that has `diffaugment` and `cutout_ratio`."""
        recipe: Any = self.recipe
        return diffaugment(images, recipe.diffaugment, batch.draws, recipe.cutout_ratio)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides the networks."""
        return self.lecam.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.lecam.load_state_dict(state)

    def _latents(self, n: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Draw latents ``[n, z_dim]`` and noise ``[n, noise_length]``."""
        return batch.draws.normal(n, self.generator.z_dim), batch.draws.normal(n, self.generator.noise_length)

    def _synthesise(self, z: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        """Return generated images ``[N, 1, H, W]``."""
        with autocast(z.device):
            images: Tensor = self.generator(z, labels, noise)
        return images

    def _generate(self, batch: Batch, labels: Tensor | None) -> Tensor:
        """Return as many generated images as `batch` has real ones, of the classes `labels`."""
        z, noise = self._latents(len(batch.real), batch)
        return self._synthesise(z, labels, noise)

    def _regularised(
        self, loss: Tensor, real: Tensor, fake: Tensor, **more: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the adversarial `loss` of the discriminator with the penalty of LeCam, and what is logged of both.

        `real` and `fake` are logits ``[N, ...]``; `more` is logged too.
        """
        statistics = {
            "loss_d": loss.detach(),
            "logit_real": real.detach().mean(),
            "logit_fake": fake.detach().mean(),
            "sign_real": real.detach().sign().mean(),
        }
        loss, penalty = self.lecam(loss, real, fake)
        return loss, statistics | more | penalty
