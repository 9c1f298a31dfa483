"""TrivialAugment's operations as Pillow has them, to measure against: one image at a time."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def apply(name: str, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """Does what the operation of this name in `pipeline.augmentation.trivialaugment` does.

    Args:
        name: of the operation.
        images: uint8 RGB (batch, height, width, 3).
        magnitudes: one an image, (batch,).
    """
    operation = _OPERATIONS[name]
    changed = [
        np.asarray(operation(Image.fromarray(image), float(magnitude)))
        for image, magnitude in zip(images, magnitudes, strict=True)
    ]
    return np.stack(changed)


def _affine(
    coefficients: Callable[[float], tuple[float, ...]],
) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, magnitude: image.transform(
        image.size, Image.Transform.AFFINE, coefficients(magnitude)
    )


_OPERATIONS = {
    "identity": lambda image, magnitude: image,
    "shear_x": _affine(lambda magnitude: (1, magnitude, 0, 0, 1, 0)),
    "shear_y": _affine(lambda magnitude: (1, 0, 0, magnitude, 1, 0)),
    "translate_x": _affine(lambda magnitude: (1, 0, int(magnitude), 0, 1, 0)),
    "translate_y": _affine(lambda magnitude: (1, 0, 0, 0, 1, int(magnitude))),
    "rotate": lambda image, magnitude: image.rotate(magnitude),
    "brightness": lambda image, magnitude: ImageEnhance.Brightness(image).enhance(1 + magnitude),
    "color": lambda image, magnitude: ImageEnhance.Color(image).enhance(1 + magnitude),
    "contrast": lambda image, magnitude: ImageEnhance.Contrast(image).enhance(1 + magnitude),
    "sharpness": lambda image, magnitude: ImageEnhance.Sharpness(image).enhance(1 + magnitude),
    "posterize": lambda image, magnitude: ImageOps.posterize(image, 8 - round(magnitude)),
    "solarize": lambda image, magnitude: ImageOps.solarize(image, 255 - magnitude),
    "autocontrast": lambda image, magnitude: ImageOps.autocontrast(image),
    "equalize": lambda image, magnitude: ImageOps.equalize(image),
}
