"""Random changes of position, size and side: affine transforms, crops and flips."""

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.augmentation.batchrng import BatchRng, rows_of
from pipeline.augmentation.rectangles import centred_rectangle, draw_rectangles
from pipeline.io.imagefiles import REDUCTIONS
from pipeline.io.photographs import Photograph


def warp(images: np.ndarray, matrices: np.ndarray, interpolation: int, border: int) -> np.ndarray:
    """Resamples every image of a batch.

    Args:
        images: (batch, height, width, channels).
        matrices: (batch, 2, 3), which map a pixel (x, y, 1) of the result to the point of the
            image from which it is taken.
        interpolation: OpenCV's, such as `cv2.INTER_LINEAR`.
        border: what lies outside, such as `cv2.BORDER_REPLICATE`.

    Returns:
        A new array of the same shape and type.
    """
    # In C order, which empty_like would not promise: OpenCV writes into no other.
    warped = np.empty(images.shape, images.dtype)
    size, flags = images.shape[2:0:-1], interpolation | cv2.WARP_INVERSE_MAP
    for image, matrix, target in zip(images, matrices, warped, strict=True):
        cv2.warpAffine(image, matrix, size, target, flags, border)
    return warped


class AffineAugmenter:
    """Draws one affine transform an image and resamples the image once.

    The transform is the one of Keras's former ImageDataGenerator: rotation, shift, shear and zoom
    about the image's centre, then the flip, with the nearest edge pixel repeated outside.

    Args:
        rotation: largest angle, in degrees, either way.
        zoom: rows and columns are each scaled by a factor in 1 - zoom .. 1 + zoom.
        shift: largest shift either way, as a fraction of height and of width.
        shear: largest shear angle, in degrees, either way.
        flip: whether every second image, at random, is mirrored left to right.
        nearest: whether the nearest pixel is taken, as by Keras up to 2.1, instead of bilinear
            interpolation.

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
        nearest: bool = False,
    ):
        if min(rotation, zoom, shift, shear) < 0 or zoom >= 1:
            raise ValueError(
                "ranges must not be negative and zoom must be below 1: "
                f"got rotation {rotation}, zoom {zoom}, shift {shift}, shear {shear}"
            )
        self.rotation, self.zoom, self.shift, self.shear = rotation, zoom, shift, shear
        self.flip = flip
        self._interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transforms each image of a batch by a transform of its own.

        Args:
            images: float32 (batch, height, width, channels).
            rng: where the transforms are drawn from.

        Returns:
            A new array of the same shape and type.
        """
        count, rows = rows_of(images, rng)
        matrices = self.draw_matrices(count, *images.shape[1:3], rng)[rows]
        return warp(images, matrices, self._interpolation, cv2.BORDER_REPLICATE)

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


class RandomCrop:
    """Shifts images by whole pixels; what comes in from outside is the image's reflection.

    The same as a crop of the original size from an image padded by reflection, without its edge
    repeated. Every shift of at most `padding` pixels either way is equally likely.

    Args:
        padding: largest shift, in pixels; below the images' size.
    """

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crops every image of a batch.

        Args:
            images: (batch, height, width, channels).
            rng: where the crops are drawn from.

        Returns:
            A new array of the same shape and type.
        """
        height, width = images.shape[1:3]
        count, rows = rows_of(images, rng)
        corners = rng.integers(0, 2 * self.padding + 1, (count, 2))[rows].tolist()
        cropped = np.empty(images.shape, images.dtype)
        padding = [self.padding] * 4
        for image, (top, left), target in zip(images, corners, cropped, strict=True):
            padded = cv2.copyMakeBorder(image, *padding, cv2.BORDER_REFLECT_101)
            target[:] = padded[top : top + height, left : left + width]
        return cropped


Size = int | Callable[[int], int]
"""Width and height of images in pixels, or a function from the epoch, counted from 0, to them."""


def size_in(size: Size, rng: np.random.Generator) -> int:
    """Returns the size of a batch's images; if it depends on the epoch, `rng` is a `BatchRng`."""
    return size if isinstance(size, int) else size(rng.epoch)


def resize(image: np.ndarray, target: np.ndarray) -> None:
    """Resizes an image into an array of another height and width, bilinearly or by areas."""
    height, width = target.shape[:2]
    # Of what is not twice as large no pixel is passed over, and it is done in a quarter of the time
    # that means of areas take.
    linear = image.shape[0] < 2 * height and image.shape[1] < 2 * width
    interpolation = cv2.INTER_LINEAR if linear else cv2.INTER_AREA
    cv2.resize(image, (width, height), target, interpolation=interpolation)


class RandomResizedCrop:
    """Cuts a rectangle out of every image and resizes it to the whole (arXiv:1409.4842).

    Where ten rectangles drawn do not fit into the image, it is the largest in the middle whose
    ratio is within bounds, as torchvision has it.

    Args:
        scale: least area of a rectangle, as a fraction of the image's; the largest is 1.
        ratio: least and largest width divided by height.
        size: of the result; that of the images if left out.
    """

    def __init__(
        self,
        scale: float,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        size: Size | None = None,
    ):
        self.scale, self.ratio, self.size = scale, ratio, size

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crops and resizes every image of a batch.

        Args:
            images: (batch, height, width, channels).
            rng: where the rectangles are drawn from; a `BatchRng` where the size depends on the
                epoch.

        Returns:
            A new array of the same type, (batch, size, size, channels).
        """
        height, width = images.shape[1:3]
        scale = (self.scale, 1.0)
        count, rows = rows_of(images, rng)
        rectangles = draw_rectangles(count, height, width, scale, self.ratio, rng)[rows]
        rectangles[~rectangles.any(axis=1)] = centred_rectangle(height, width, self.ratio)
        if self.size is not None:
            height = width = size_in(self.size, rng)
        resized = np.empty((len(images), height, width, images.shape[-1]), images.dtype)
        for image, (top, left, bottom, right), target in zip(
            images, rectangles.tolist(), resized, strict=True
        ):
            resize(image[top:bottom, left:right], target)
        return resized


class PhotographCrop:
    """Cuts a rectangle out of every photograph and resizes it to one size.

    What `RandomResizedCrop` does, but straight from the files: the rectangle is drawn first, so
    that a JPEG much larger than needed is made smaller while it is decoded, which takes less time.

    Args:
        size: of the result.
        scale: least area of a rectangle, as a fraction of the photograph's; the largest is 1.
        ratio: least and largest width divided by height.
    """

    def __init__(
        self,
        size: Size,
        scale: float,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ):
        self.size, self.scale, self.ratio = size, scale, ratio

    def __call__(self, photographs: np.ndarray, rng: BatchRng) -> np.ndarray:
        """Decodes, crops and resizes the photographs of a batch.

        Args:
            photographs: `Photograph`s, an array of objects (batch,); always the whole batch, as
                what is drawn for one depends on its size.
            rng: where the rectangles are drawn from; a `BatchRng` says which of them are made, and
                in which epoch, where the size depends on that.

        Returns:
            uint8 RGB (n, size, size, 3).

        Raises:
            UserError: a file cannot be decoded any more.
        """
        size = size_in(self.size, rng)
        rectangles = np.array([self._draw(photograph, rng) for photograph in photographs])
        _, rows = rows_of(photographs, rng)
        chosen = photographs[rows]
        images = np.empty((len(chosen), size, size, 3), dtype=np.uint8)
        for photograph, rectangle, target in zip(
            chosen, rectangles[rows].tolist(), images, strict=True
        ):
            resize(self._decode(photograph, rectangle, size), target)
        return images

    def _draw(self, photograph: Photograph, rng: np.random.Generator) -> tuple[int, int, int, int]:
        height, width = photograph.height, photograph.width
        scale = (self.scale, 1.0)
        (rectangle,) = draw_rectangles(1, height, width, scale, self.ratio, rng).tolist()
        return rectangle if any(rectangle) else centred_rectangle(height, width, self.ratio)

    def _decode(
        self, photograph: Photograph, rectangle: tuple[int, int, int, int], size: int
    ) -> np.ndarray:
        top, left, bottom, right = rectangle
        side = min(bottom - top, right - left)
        reduction = max((n for n in REDUCTIONS if side >= n * size), default=1)
        image = photograph.decode(reduction)
        if image.shape[0] == photograph.height:  # it is no JPEG
            reduction = 1
        # No less than a pixel, as the rectangle of an extremely long picture could be.
        return image[
            top // reduction : -(-bottom // reduction), left // reduction : -(-right // reduction)
        ]


def mirror(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mirrors those images of a batch left to right, in place, where `chosen`, (batch,), is true.

    Returns:
        `images`.
    """
    for index in np.flatnonzero(chosen):
        images[index] = cv2.flip(images[index], 1)
    return images


class RandomFlip:
    """Mirrors every image of a batch left to right with probability 1/2."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mirrors a batch (batch, height, width, channels) in place.

        Args:
            images: of any type.
            rng: where it is drawn from which of them are mirrored.

        Returns:
            `images`.
        """
        count, rows = rows_of(images, rng)
        return mirror(images, rng.random(count)[rows] < 0.5)


class AlternatingFlip:
    """Mirrors a random half of the images in the first epoch, and every image every other epoch.

    So in any two consecutive epochs an image is seen from both sides, which independent flips
    leave to chance (arXiv:2404.00498).

    Args:
        count: number of images in the data set.
        seed: of the half that is mirrored in the first epoch.
    """

    def __init__(self, count: int, seed: int):
        self._first = np.random.default_rng(np.random.SeedSequence(seed)).random(count) < 0.5

    def __call__(self, images: np.ndarray, rng: BatchRng) -> np.ndarray:
        """Mirrors a batch (batch, height, width, channels) in place.

        Args:
            images: of any type.
            rng: the batch's, for its epoch and the indices of its images; nothing is drawn.

        Returns:
            `images`.
        """
        return mirror(images, self._first[rng.indices] ^ (rng.epoch % 2 == 1))
