"""Random parts of images, enlarged to the images' size."""

import cv2
import numpy as np

from pipeline.preprocessing.rectangles import centred_rectangle, draw_rectangles


class RandomResizedCrop:
    """Cuts a rectangle out of every image and resizes it to the whole (arXiv:1409.4842).

    Where ten rectangles drawn do not fit into the image, it is the largest in the middle whose
    ratio is within bounds, as torchvision has it. Interpolation is bilinear.

    Args:
        scale: least area of a rectangle, as a fraction of the image's; the largest is 1.
        ratio: least and largest width divided by height.
    """

    def __init__(self, scale: float, ratio: tuple[float, float] = (3 / 4, 4 / 3)):
        self.scale, self.ratio = scale, ratio

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crops and resizes every image of a batch.

        Args:
            images: (batch, height, width, channels).
            rng: where the rectangles are drawn from.

        Returns:
            A new array of the same shape and type.
        """
        height, width = images.shape[1:3]
        scale = (self.scale, 1.0)
        rectangles = draw_rectangles(len(images), height, width, scale, self.ratio, rng)
        rectangles[~rectangles.any(axis=1)] = centred_rectangle(height, width, self.ratio)
        resized = np.empty(images.shape, images.dtype)
        for image, (top, left, bottom, right), target in zip(
            images, rectangles.tolist(), resized, strict=True
        ):
            part = image[top:bottom, left:right]
            cv2.resize(part, (width, height), target, interpolation=cv2.INTER_LINEAR)
        return resized
