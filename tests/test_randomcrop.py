import numpy as np
import pytest

from pipeline.augmentation.geometry import RandomCrop

PADDING = 2


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


def crops(image):
    """Every crop that there can be, by its corner in the padded image."""
    padded = np.pad(image, [(PADDING, PADDING)] * 2 + [(0, 0)], mode="reflect")
    height, width = image.shape[:2]
    corners = np.ndindex(2 * PADDING + 1, 2 * PADDING + 1)
    return {padded[y : y + height, x : x + width].tobytes(): (y, x) for y, x in corners}


def test_every_crop_of_the_reflected_image_is_equally_likely(image):
    count = 5_000
    images = np.repeat(image[None], count, axis=0)
    cropped = RandomCrop(PADDING)(images, np.random.default_rng(1))
    expected = crops(image)
    corners = np.array([expected[crop.tobytes()] for crop in cropped])
    shares = np.bincount(corners @ [2 * PADDING + 1, 1], minlength=25) / count
    assert shares == pytest.approx(np.full(25, 1 / 25), abs=0.012)
    np.testing.assert_array_equal(images[-1], image)


def test_images_of_any_type_are_cropped(image):
    cropped = RandomCrop(PADDING)(image[None].astype(np.float32), np.random.default_rng(1))
    assert cropped.dtype == np.float32
    assert cropped[0].astype(np.uint8).tobytes() in crops(image)
