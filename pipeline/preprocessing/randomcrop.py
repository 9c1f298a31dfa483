"""Random crops of padded images."""

import cv2
import numpy as np


class RandomCrop:
    """Shifts images by whole pixels; what comes in from outside is the image's reflection.

    The same as a crop of the original size from an image padded by reflection, without its edge
    repeated. Every shift of at most `padding` pixels either way is equally likely.

    Args:
        padding: largest shift, in pixels; below the images' size.
    """

    def __init__(self, padding: int):
        self.padding = padding

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crops every image of a batch.

        Args:
            images: (batch, height, width, channels).
            rng: where the crops are drawn from.

        Returns:
            A new array of the same shape and type.
        """
        height, width = images.shape[1:3]
        corners = rng.integers(0, 2 * self.padding + 1, (len(images), 2)).tolist()
        cropped = np.empty(images.shape, images.dtype)
        padding = [self.padding] * 4
        for image, (top, left), target in zip(images, corners, cropped, strict=True):
            padded = cv2.copyMakeBorder(image, *padding, cv2.BORDER_REFLECT_101)
            target[:] = padded[top : top + height, left : left + width]
        return cropped
