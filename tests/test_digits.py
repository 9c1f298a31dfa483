import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.errors import UserError
from pipeline.io.digits import read_digits


@pytest.fixture(scope="module")
def digits():
    return read_digits()


def test_digits_are_32x32_rgb_images_of_ten_classes(digits):
    assert digits.train_images.shape == (1437, 32, 32, 3)
    assert digits.val_images.shape == (360, 32, 32, 3)
    assert digits.train_images.dtype == digits.val_images.dtype == np.uint8
    assert digits.train_labels.dtype == digits.val_labels.dtype == np.int32
    assert digits.label_names == tuple("0123456789")


def test_pixels_are_gray_and_use_the_whole_range(digits):
    images = digits.train_images
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    assert (images.min(), images.max()) == (0, 255)


def test_the_split_is_stratified_and_no_image_is_on_both_sides(digits):
    train, test = np.bincount(digits.train_labels), np.bincount(digits.val_labels)
    assert (np.abs(test - 0.2 * (train + test)) < 1).all()
    in_training = {image.tobytes() for image in digits.train_images}
    assert not any(image.tobytes() in in_training for image in digits.val_images)


def test_every_image_has_its_own_label(digits):
    """Shrunk again, an image is nearest to the digit of scikit-learn that has its label."""
    originals = load_digits()
    shrunk = digits.val_images[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)) * (16 / 255)
    for image, label in zip(shrunk[:50], digits.val_labels[:50], strict=True):
        distances = np.abs(originals.images - image).sum(axis=(1, 2))
        assert originals.target[distances.argmin()] == label


def test_the_split_is_always_the_same(digits):
    again = read_digits()
    np.testing.assert_array_equal(digits.train_images, again.train_images)
    np.testing.assert_array_equal(digits.val_labels, again.val_labels)


def test_a_path_is_refused():
    with pytest.raises(UserError, match="somewhere: the digits come with scikit-learn"):
        read_digits("somewhere")


def test_digits_must_not_be_mirrored(digits):
    assert not digits.may_be_mirrored
