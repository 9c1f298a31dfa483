"""Random rectangles, as random resized crops and random erasing draw them."""

import numpy as np

ATTEMPTS = 10


def draw_rectangles(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws rectangles inside an image: uniform in area, log-uniform in aspect ratio, and in place.

    Of ten attempts the first that fits into the image counts; the whole image where none does.

    Args:
        count: how many.
        height: of the image, in pixels.
        width: of the image, in pixels.
        scale: least and largest area, as fractions of the image's.
        ratio: least and largest width divided by height.
        rng: where they are drawn from.

    Returns:
        int64 (count, 4): top, left, bottom, right, in pixels.
    """
    area = rng.uniform(*scale, (count, ATTEMPTS)) * height * width
    aspect = np.exp(rng.uniform(*np.log(ratio), (count, ATTEMPTS)))
    sizes = np.rint(np.sqrt(np.stack([area / aspect, area * aspect], axis=-1))).astype(np.int64)
    fits = ((sizes > 0) & (sizes <= (height, width))).all(axis=-1)
    first = np.take_along_axis(sizes, fits.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    size = np.where(fits.any(axis=1)[:, None], first, (height, width))
    corner = rng.integers(0, (height, width) - size, endpoint=True)
    return np.concatenate([corner, corner + size], axis=1)
