"""What makes up a way of training, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FLIPS = ("", "random", "alternating")


@dataclass(frozen=True)
class Recipe:
    """A way of training; by default, a part is left out.

    Attributes:
        epochs: default of --epochs.
        batch_size: default of --batch-size, in images.
        learning_rate: default of --learning-rate; the highest of the run.
        reg: L2 factor of the stem's and the classifier's kernels.
        module_reg: L2 factor of the residual modules' kernels.
        momentum: of SGD.
        nesterov: whether it is Nesterov's.
        warmup_epochs: over which the learning rate rises to its highest, before it falls to 0 along
            a cosine, step by step (arXiv:1608.03983, arXiv:1706.02677); None lets it fall
            linearly, epoch by epoch.
        label_smoothing: share of a label that is spread over all classes (arXiv:1512.00567).
        zero_init: whether the last convolution of every residual branch starts at zero
            (arXiv:1706.02677).
        ema: momentum of the moving average of the weights, by step, which is what is evaluated and
            saved (arXiv:1803.05407, with an exponential average).
        affine: arguments of `AffineAugmenter`, for centred images.
        crop_padding: largest shift of `RandomCrop`, in pixels.
        crop_scale: least area of `RandomResizedCrop`, as a fraction.
        flip: "random" for `RandomFlip`, "alternating" for `AlternatingFlip`.
        trivial_augment: probability of `TrivialAugment`.
        cutout: side of the square of `Cutout`, in pixels.
        erasing: probability of `RandomErasing`.
        cutmix: probability of `CutMix`.
        cutmix_alpha: of its Beta distribution.
        plain_epochs: in so many epochs at the end there is neither TrivialAugment nor random
            erasing nor CutMix.
        holdout: so many of the training images of CIFAR-10 take the place of the test images, to
            choose between recipes; Tiny ImageNet has validation images for that.

    Raises:
        ValueError: there is no such flip, or images would be mirrored twice.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    reg: float
    module_reg: float
    momentum: float
    nesterov: bool = False
    warmup_epochs: int | None = None
    label_smoothing: float = 0.0
    zero_init: bool = False
    ema: float = 0.0
    affine: Mapping[str, float | bool] = field(default_factory=dict)
    crop_padding: int = 0
    crop_scale: float = 1.0
    flip: str = ""
    trivial_augment: float = 0.0
    cutout: int = 0
    erasing: float = 0.0
    cutmix: float = 0.0
    cutmix_alpha: float = 1.0
    plain_epochs: int = 0
    holdout: int = 0

    def __post_init__(self):
        if self.flip not in FLIPS:
            raise ValueError(f"flip must be one of {FLIPS}, not {self.flip!r}")
        if self.flip and self.affine.get("flip"):
            raise ValueError(
                f"affine {dict(self.affine)} and flip {self.flip!r} would both mirror the images: "
                "leave one out"
            )

    @property
    def one_hot(self) -> bool:
        """Whether labels are to be one-hot, which those that are no longer one class need."""
        return self.label_smoothing > 0 or self.cutmix > 0

    def unmirrored(self) -> Recipe:
        """Returns the recipe for images that must not be mirrored, such as digits."""
        return replace(self, flip="", affine={**self.affine, "flip": False} if self.affine else {})
