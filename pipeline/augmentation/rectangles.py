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

    Of ten attempts the first that fits into the image counts. Where none does, the rectangle is an
    empty one: random erasing leaves such an image alone, and a crop has `centred_rectangle`.

    Args:
        count: how many.
        height: of the image, in pixels.
        width: of the image, in pixels.
        scale: least and largest area, as fractions of the image's.
        ratio: least and largest width divided by height.
        rng: where they are drawn from.

    Returns:
        int64 (count, 4): top, left, bottom, right, in pixels; four zeros for an empty one.
    """
    area = rng.uniform(*scale, (count, ATTEMPTS)) * height * width
    aspect = np.exp(rng.uniform(*np.log(ratio), (count, ATTEMPTS)))
    sizes = np.rint(np.sqrt(np.stack([area / aspect, area * aspect], axis=-1))).astype(np.int64)
    fits = ((sizes > 0) & (sizes <= (height, width))).all(axis=-1)
    first = np.take_along_axis(sizes, fits.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    fitting = fits.any(axis=1)[:, None]
    size = np.where(fitting, first, (height, width))
    corner = rng.integers(0, (height, width) - size, endpoint=True)
    return np.where(fitting, np.concatenate([corner, corner + size], axis=1), 0)


def centred_rectangle(
    height: int, width: int, ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Returns the largest rectangle amid an image whose aspect ratio is within bounds.

    It is the whole image if the image's own ratio is.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        ratio: least and largest width divided by height.

    Returns:
        Top, left, bottom, right, in pixels.
    """
    least, largest = ratio
    inner_height = min(height, round(width / least))
    inner_width = min(width, round(height * largest))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return top, left, top + inner_height, left + inner_width
