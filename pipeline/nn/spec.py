"""What a network is and what it is for, as model files say it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import NetworkError

if TYPE_CHECKING:  # slow to import: configurations and options say what network they are for
    import keras
    import numpy as np

    from pipeline.preprocessing.centrecrop import CentreCrop
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor

# No network of this project comes near these; what is above them is damage, and could fill memory.
MOST_MODULES, MOST_FILTERS, MOST_PIXELS = 1_000, 2**14, 2**12


def check_stages(stages: tuple[int, ...], filters: tuple[int, ...]) -> None:
    """Refuses stages and filters that no `ResNet` has; see `ResNet.build`.

    Raises:
        NetworkError: their lengths do not fit together, or a number has no meaning.
    """
    if not stages or len(filters) != len(stages) + 1:
        raise NetworkError(
            "filters must have one number for the stem and one for each stage: "
            f"got {len(filters)} filters {filters} for {len(stages)} stages {stages}"
        )
    if min(stages + filters) < 1:
        raise NetworkError(f"stages {stages} and filters {filters} must be positive")
    for number in filters[1:]:
        if number % 4:
            raise NetworkError(
                f"filters of a stage must be a multiple of 4 (the bottleneck has a quarter), "
                f"not {number}"
            )


# The networks without stages and filters of their own, and what they are called for people.
TITLES = {
    "resnet18": "ResNet-18",
    "keras_hub": "KerasHub's ResNet-18",
    "torchvision": "torchvision's ResNet-18",
}


@dataclass(frozen=True)
class Architecture:
    """A network, but for the images and classes that it is for.

    Attributes:
        family, stem, stages, filters: as for `NetworkSpec`.

    Raises:
        NetworkError: `stages` and `filters` do not fit together, or cannot be trained.
    """

    family: str = "resnet"
    stem: str = ""
    stages: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()

    def __post_init__(self):
        if self.family != "resnet":
            return
        check_stages(self.stages, self.filters)
        # oneDNN's gradient of a strided 1x1 convolution on one core, by TensorFlow 2.21.
        if any(number < 8 for number in self.filters[1:-1]):
            raise NetworkError(
                f"every stage but the last needs at least 8 filters, not {self.filters}: training "
                "with fewer can corrupt memory"
            )

    def spec(
        self,
        image_shape: tuple[int, int, int],
        label_names: tuple[str, ...],
        mean: np.ndarray | None,
        centre: float = 1.0,
    ) -> NetworkSpec:
        """Returns the network for images of this shape, of these classes, with this mean."""
        return NetworkSpec(
            **vars(self), image_shape=image_shape, label_names=label_names, mean=mean, centre=centre
        )


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """Enough to build a network and to use it on pictures.

    Attributes:
        family: `resnet` for `ResNet`, `resnet18` for `ResNet18`, `keras_hub` or `torchvision` for
            these libraries' ResNet-18.
        image_shape: height and width in pixels, and channels.
        label_names: the classes' names, by label.
        mean: what is subtracted from images, float32 (height, width, 3) or (3,); without it they
            are scaled to 0..1.
        stem: how a `resnet` opens, a key of `resnet.STEMS`.
        stages: residual modules in each stage of a `resnet`.
        filters: channels of the stem and of each stage of a `resnet`.
        centre: what the network is shown of a picture: this fraction of the sides of the largest
            part in its middle that has the proportions of `image_shape`.

    Raises:
        NetworkError: a part has a value that no network has.
    """

    family: str
    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    mean: np.ndarray | None = None
    stem: str = ""
    stages: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()
    centre: float = 1.0

    def __post_init__(self):
        for name in ("image_shape", "label_names", "stages", "filters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.family not in ("resnet", *TITLES):
            raise NetworkError(f"there is no network {self.family!r}")
        if not self.label_names or not all(type(name) is str for name in self.label_names):
            raise NetworkError("label_names must be texts")
        if len(self.image_shape) != 3:
            raise NetworkError(f"image_shape must be height, width, channels: {self.image_shape}")
        for numbers, most in (
            (self.image_shape, MOST_PIXELS),
            (self.stages, MOST_MODULES),
            (self.filters, MOST_FILTERS),
        ):
            if not all(type(number) is int and 1 <= number <= most for number in numbers):
                raise NetworkError(f"{numbers} must be whole numbers from 1 to {most}")
        if sum(self.stages) > MOST_MODULES:
            raise NetworkError(f"stages must not have more than {MOST_MODULES} modules in all")
        if type(self.centre) is not float or not 0 < self.centre <= 1:
            raise NetworkError(f"centre must be a fraction: {self.centre}")
        if self.mean is not None:
            if self.mean.shape not in (self.image_shape, (3,)):
                raise NetworkError(f"a mean of shape {self.mean.shape} is for other images")
            if not all(map(math.isfinite, self.mean.flat)):
                raise NetworkError("the mean must be finite")

    def build(self, **training: Any) -> keras.Model:
        """Builds the network with new weights.

        Args:
            training: what only matters while it is trained, such as `reg`; see `ResNet.build`.

        Raises:
            NetworkError: the parts do not fit together.
        """
        from pipeline.nn.conv import ResNet, ResNet18, resnet18_libraries

        height, width, depth = self.image_shape
        shape = (width, height, depth, len(self.label_names))
        if self.family == "resnet":
            return ResNet.build(*shape, self.stages, self.filters, dataset=self.stem, **training)
        build = {
            "resnet18": ResNet18.build,
            "keras_hub": resnet18_libraries.keras_hub_resnet18,
            "torchvision": resnet18_libraries.torchvision_resnet18,
        }[self.family]
        return build(*shape, **training)

    @property
    def title(self) -> str:
        """What the network is called for people."""
        if self.family == "resnet":
            stages, filters = ("-".join(map(str, part)) for part in (self.stages, self.filters))
            return f"ResNet {stages}, filters {filters}"
        return TITLES[self.family]

    @property
    def least_weights(self) -> int:
        """A lower bound of the network's number of weights."""
        # In a residual module of K filters 9/16 K^2 in the 3x3 and 1/4 K^2 in the last convolution.
        modules = zip(self.stages, self.filters[1:], strict=False)
        last = self.filters[-1] if self.filters else 512
        return sum(n * k * k // 2 for n, k in modules) + last * len(self.label_names)

    @property
    def preprocessor(self) -> MeanPreprocessor | ScalePreprocessor:
        """Makes of uint8 images in RGB order what the network takes, without augmentation."""
        from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
        from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor

        return ScalePreprocessor() if self.mean is None else MeanPreprocessor(self.mean)

    @property
    def centre_crop(self) -> CentreCrop:
        """Makes of a picture of any size an image of the network's size."""
        from pipeline.preprocessing.centrecrop import CentreCrop

        height, width, _ = self.image_shape
        return CentreCrop(width, height, self.centre)

    def to_json(self) -> str:
        """Returns everything but the mean.

        A centre of 1 is left out, too: earlier versions, which do not know it, can read that.
        """
        parts = asdict(self)
        del parts["mean"]
        if self.centre == 1:
            del parts["centre"]
        return json.dumps(parts)

    @classmethod
    def from_json(cls, text: str | bytes, mean: np.ndarray | None) -> NetworkSpec:
        """Reads what `to_json` has written.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(mean=mean, **json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
