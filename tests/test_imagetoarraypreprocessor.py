import keras
import numpy as np
import pytest

from pipeline.preprocessing.imagetoarraypreprocessor import ImageToArrayPreprocessor


@pytest.fixture(params=["channels_last", "channels_first"])
def data_format(request):
    return request.param


def photo(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4)])
def test_an_image_becomes_what_keras_makes_of_it(shape, data_format):
    array = ImageToArrayPreprocessor(data_format).preprocess(photo(*shape))
    expected = keras.utils.img_to_array(photo(*shape), data_format)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


def test_a_batch_becomes_what_its_images_become(data_format):
    preprocessor = ImageToArrayPreprocessor(data_format)
    images = photo(6, 5, 4, 3)
    arrays = preprocessor.preprocess(images)
    assert arrays.flags.c_contiguous
    np.testing.assert_array_equal(arrays, [preprocessor.preprocess(image) for image in images])


def test_left_out_the_format_is_the_one_keras_is_set_to(data_format):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        array = ImageToArrayPreprocessor().preprocess(photo(5, 4, 3))
    finally:
        keras.config.set_image_data_format(before)
    assert array.shape == {"channels_last": (5, 4, 3), "channels_first": (3, 5, 4)}[data_format]


def test_what_is_right_already_is_not_copied():
    images = photo(2, 4, 4, 3).astype(np.float32)
    assert ImageToArrayPreprocessor("channels_last").preprocess(images) is images


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="not 'channels_middle'"):
        ImageToArrayPreprocessor("channels_middle")
