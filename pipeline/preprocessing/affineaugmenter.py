"""Random shifts, rotations, zooms, shears and flips, with one resampling an image."""

import cv2
import numpy as np


class AffineAugmenter:
    """Draws one affine transform an image and resamples the image once.

    The transform is the one of Keras's former ImageDataGenerator: rotation, shift, shear and zoom
    about the image's centre, then the flip, with bilinear interpolation and the nearest edge pixel
    repeated outside.

    Args:
        rotation: largest angle, in degrees, either way.
        zoom: rows and columns are each scaled by a factor in 1 - zoom .. 1 + zoom.
        shift: largest shift either way, as a fraction of height and of width.
        shear: largest shear angle, in degrees, either way.
        flip: whether every second image, at random, is mirrored left to right.

    Raises:
        ValueError: a range is negative, or `zoom` is not below 1.
    """

    def __init__(
        self,
        rotation: float = 0.0,
        zoom: float = 0.0,
        shift: float = 0.0,
        shear: float = 0.0,
        flip: bool = False,
    ):
        if min(rotation, zoom, shift, shear) < 0 or zoom >= 1:
            raise ValueError(
                "ranges must not be negative and zoom must be below 1: "
                f"got rotation {rotation}, zoom {zoom}, shift {shift}, shear {shear}"
            )
        self.rotation, self.zoom, self.shift, self.shear = rotation, zoom, shift, shear
        self.flip = flip

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transforms each image of a batch by a transform of its own.

        Args:
            images: float32 (batch, height, width, channels).
            rng: where the transforms are drawn from.

        Returns:
            A new array of the same shape and type.
        """
        height, width = images.shape[1:3]
        # In C order, which empty_like would not promise: OpenCV writes into no other.
        augmented = np.empty(images.shape, images.dtype)
        matrices = self.draw_matrices(len(images), height, width, rng)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for image, matrix, target in zip(images, matrices, augmented, strict=True):
            cv2.warpAffine(image, matrix, (width, height), target, flags, cv2.BORDER_REPLICATE)
        return augmented

    def draw_matrices(
        self, count: int, height: int, width: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws `count` transforms.

        Returns:
            float64 (count, 2, 3): each maps a pixel (x, y, 1) of the result to the point of the
            image from which it is taken.
        """

        def uniform(limit: float) -> np.ndarray:
            return rng.uniform(-limit, limit, count)

        angle, shear = np.deg2rad(uniform(self.rotation)), np.deg2rad(uniform(self.shear))
        shift_y, shift_x = uniform(self.shift) * height, uniform(self.shift) * width
        zoom_y, zoom_x = 1 + uniform(self.zoom), 1 + uniform(self.zoom)
        mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if self.flip else np.ones(count)

        # rotation @ shift @ shear @ zoom, written out in (x, y); the mirror acts on the result.
        cos, sin = np.cos(angle), np.sin(angle)
        shear_yx, shear_xx = -np.sin(shear), np.cos(shear)
        matrices = np.empty((count, 2, 3))
        matrices[:, 0, 0] = (sin * shear_yx + cos * shear_xx) * zoom_x * mirror
        matrices[:, 0, 1] = sin * zoom_y
        matrices[:, 1, 0] = (cos * shear_yx - sin * shear_xx) * zoom_x * mirror
        matrices[:, 1, 1] = cos * zoom_y
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrices[:, 0, 2] = sin * shift_y + cos * shift_x
        matrices[:, 1, 2] = cos * shift_y - sin * shift_x
        matrices[:, :, 2] += centre - matrices[:, :, :2] @ centre
        return matrices
