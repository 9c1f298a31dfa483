import cv2
import numpy as np
import pytest

from pipeline.preprocessing.simplepreprocessor import SimplePreprocessor


def photo(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_gets_the_size_whatever_its_aspect_ratio(dtype):
    image = photo(48, 30, 3, dtype=dtype)
    resized = SimplePreprocessor(width=20, height=16).preprocess(image)
    assert resized.dtype == dtype
    np.testing.assert_array_equal(
        resized, cv2.resize(image, (20, 16), interpolation=cv2.INTER_AREA)
    )


def test_halving_averages_four_pixels():
    image = photo(8, 6, 3, dtype=np.float32)
    expected = image.reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(SimplePreprocessor(3, 4).preprocess(image), expected, rtol=1e-6)


def test_an_image_that_is_made_larger_is_interpolated():
    ramp = np.array([0, 80, 160, 240], np.uint8).reshape(1, 4, 1)
    (row,) = SimplePreprocessor(8, 1).preprocess(ramp)
    assert row[:, 0].tolist() == [0, 20, 60, 100, 140, 180, 220, 240]


def test_another_interpolation_can_be_chosen():
    nearest = SimplePreprocessor(64, 64, cv2.INTER_NEAREST).preprocess(photo(32, 32, 3))
    np.testing.assert_array_equal(nearest, photo(32, 32, 3).repeat(2, axis=0).repeat(2, axis=1))


def test_a_batch_is_resized_image_by_image():
    images = photo(5, 32, 32, 3)
    preprocessor = SimplePreprocessor(24, 24)
    resized = preprocessor.preprocess(images)
    assert resized.shape == (5, 24, 24, 3)
    for image, expected in zip(resized, images, strict=True):
        np.testing.assert_array_equal(image, preprocessor.preprocess(expected))


def test_a_single_channel_stays_one():
    assert SimplePreprocessor(8, 8).preprocess(photo(3, 16, 16, 1)).shape == (3, 8, 8, 1)


def test_images_of_the_size_are_not_copied():
    images = photo(2, 64, 64, 3)
    assert SimplePreprocessor(64, 64).preprocess(images) is images


def test_no_size_below_one():
    with pytest.raises(ValueError, match="start at 1: got 0x64"):
        SimplePreprocessor(0, 64)
