"""A way of training, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SCHEDULES = ("constant", "polynomial", "cosine")
FLIPS = ("", "random", "alternating")


@dataclass(frozen=True)
class Recipe:
    """All that a run's result depends on, apart from the network, the data and the seed.

    By default it is SGD with momentum and L2, whose learning rate falls linearly, and nothing else.

    Attributes:
        epochs: default of --epochs.
        batch_size: default of --batch-size, in images.
        learning_rate: default of --learning-rate; the highest of the run.
        reg: L2 factor of the stem's and the classifier's kernels.
        module_reg: L2 factor of the residual modules' kernels.
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        schedule: "constant" keeps the learning rate, for whoever watches the run to lower it;
            "polynomial" lowers it to 0 epoch by epoch; "cosine" lowers it to 0 along a cosine, step
            by step (arXiv:1608.03983).
        power: exponent of the polynomial schedule; 1 makes it linear.
        warmup_epochs: over which the learning rate first rises to its highest
            (arXiv:1706.02677); for the cosine schedule only.
        label_smoothing: share of a label that is spread over all classes (arXiv:1512.00567).
        zero_init: whether the last convolution of every residual branch starts at zero
            (arXiv:1706.02677).
        ema: momentum, per step, of the moving average of the weights, which is what is evaluated
            and saved (arXiv:1803.05407, with an exponential average).
        affine: arguments of `AffineAugmenter`, which is applied to preprocessed images.
        crop_padding: largest shift of `RandomCrop`, in pixels.
        crop_scale: least area of `RandomResizedCrop`, as a fraction.
        growth: arguments of `growing_size`; it needs a `crop_scale` below 1.
        flip: "random" for `RandomFlip`, "alternating" for `AlternatingFlip`.
        trivial_augment: probability of `TrivialAugment`.
        cutout: side of the square of `Cutout`, in pixels.
        erasing: probability of `RandomErasing`.
        cutmix: probability of `CutMix`.
        cutmix_alpha: of its Beta distribution.
        plain_epochs: number of epochs at the end that go without TrivialAugment, random erasing
            and CutMix; a run of no more epochs has none of them.
        holdout: number of training images that take the place of the validation images, to choose
            between recipes.

    Raises:
        ValueError: a field has a value that does not exist, or two contradict each other.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    reg: float = 1e-4
    module_reg: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "polynomial"
    power: float = 1.0
    warmup_epochs: int | None = None
    label_smoothing: float = 0.0
    zero_init: bool = False
    ema: float = 0.0
    affine: Mapping[str, float | bool] = field(default_factory=dict)
    crop_padding: int = 0
    crop_scale: float = 1.0
    growth: Mapping[str, float] = field(default_factory=dict)
    flip: str = ""
    trivial_augment: float = 0.0
    cutout: int = 0
    erasing: float = 0.0
    cutmix: float = 0.0
    cutmix_alpha: float = 1.0
    plain_epochs: int = 0
    holdout: int = 0

    def __post_init__(self):
        for name, values in (("schedule", SCHEDULES), ("flip", FLIPS)):
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name} must be one of {values}, not {value!r}")
        if self.warmup_epochs and self.schedule != "cosine":
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} needs the schedule 'cosine', "
                f"not {self.schedule!r}"
            )
        if self.growth and self.crop_scale == 1:
            raise ValueError(f"growth {dict(self.growth)} needs a crop_scale below 1")
        if self.flip and self.affine.get("flip"):
            raise ValueError(
                f"affine {dict(self.affine)} and flip {self.flip!r} would both mirror the images: "
                "leave one out"
            )

    @property
    def one_hot(self) -> bool:
        """Whether labels have to be one-hot, because they may be spread over several classes."""
        return self.label_smoothing > 0 or self.cutmix > 0

    @property
    def first_plain_epoch(self) -> int:
        """From which epoch, counted from 0, there is no TrivialAugment, erasing and CutMix."""
        return self.epochs - self.plain_epochs

    def unmirrored(self) -> Recipe:
        """Returns the recipe for images that must not be mirrored, such as digits."""
        return replace(self, flip="", affine={**self.affine, "flip": False} if self.affine else {})
