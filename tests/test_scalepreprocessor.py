import numpy as np

from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor


def test_pixels_come_to_lie_between_0_and_1_as_float32():
    image = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    scaled = ScalePreprocessor().preprocess(image)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_allclose(scaled * 255, image, rtol=1e-6)


def test_a_batch_is_scaled_like_its_images():
    batch = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    preprocess = ScalePreprocessor().preprocess
    np.testing.assert_array_equal(preprocess(batch), [preprocess(image) for image in batch])


def test_what_was_scaled_can_be_looked_at_again():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    scale = ScalePreprocessor()
    np.testing.assert_array_equal(scale.restore(scale.preprocess(image)), image)
    np.testing.assert_array_equal(scale.restore(np.array([-0.1, 1.1])), [0, 255])
