import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.io.dataset import Dataset
from pipeline.io.digits import read_digits


@pytest.fixture(scope="module")
def digits():
    return read_digits()


def test_a_data_set_knows_its_mean_image_and_the_shape_of_its_images(digits):
    np.testing.assert_allclose(digits.mean, digits.train_images.mean(axis=0), atol=1e-4)
    assert digits.mean.dtype == np.float32
    assert digits.image_shape == (32, 32, 3)


def test_a_mean_that_is_given_is_kept(digits):
    mean = np.float32([1, 2, 3])
    images, labels = digits.val_images, digits.val_labels
    data = Dataset(images, labels, images, labels, digits.label_names, mean)
    assert data.mean is mean
    assert data.may_be_mirrored


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"train_images": np.zeros((4, 8, 8, 3), np.float32)}, "must be uint8, .* not float32"),
        (
            {"train_labels": np.array([[0], [1], [0], [1]])},
            r"not int64 of shape \(4, 1\)",
        ),
        (
            {"train_labels": np.array([0, 1, 0])},
            r"need as many labels, .* of shape \(3,\)",
        ),
        (
            {"train_labels": np.array([0.0, 1.0, 0.0, 1.0])},
            "of one dimension, not float64",
        ),
        ({"train_labels": np.array([1, 2, 1, 2])}, "from 0 to 1, as .* 2 names, not from 1 to 2"),
        ({"val_labels": np.array([0, -1, 0, 1])}, "not from -1 to 1"),
        ({"test_images": np.zeros((1, 8, 8, 3), np.uint8), "test_labels": np.array([2])}, "to 2"),
    ],
)
def test_images_and_labels_that_nothing_can_be_learned_from_are_refused(changed, complaint):
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    parts = {
        "train_images": images,
        "train_labels": labels,
        "val_images": images,
        "val_labels": labels,
        "label_names": ("cat", "dog"),
    }
    Dataset(**parts)
    with pytest.raises(UserError, match=complaint):
        Dataset(**parts | changed)


# holding images out


def test_held_out_training_images_take_the_place_of_the_validation_images(digits):
    held = digits.with_held_out(300)
    together = np.concatenate([held.train_images, held.val_images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, digits.train_images))
    label_of = dict(zip(map(bytes, digits.train_images), digits.train_labels, strict=True))
    for images, labels in [
        (held.train_images, held.train_labels),
        (held.val_images, held.val_labels),
    ]:
        assert [label_of[image.tobytes()] for image in images] == labels.tolist()
    share = np.bincount(digits.train_labels) * 300 / len(digits.train_labels)
    assert np.abs(np.bincount(held.val_labels) - share).max() < 1


def test_images_are_held_out_from_all_over_the_training_set(digits):
    numbers = np.arange(1_000)
    numbered = Dataset(
        np.stack([numbers // 256, numbers % 256, 0 * numbers], -1).astype(np.uint8)[:, None, None],
        np.repeat(np.arange(10), 100),
        digits.val_images,
        digits.val_labels,
        digits.label_names,
    )
    held = numbered.with_held_out(500)
    kept, held_out = (
        images[:, 0, 0] @ np.array([256, 1, 0]) for images in (held.train_images, held.val_images)
    )
    assert (np.diff(kept) > 0).all()
    in_each_half = np.bincount(held_out // 50)
    assert in_each_half.min() > 10
    np.testing.assert_array_equal(held.val_images, numbered.with_held_out(500).val_images)


@pytest.mark.parametrize("count", [0, 9, 1_428, 1_437])
def test_both_sides_need_images_of_every_class(digits, count):
    with pytest.raises(UserError, match=f"{count} of 1437 training images cannot be held out"):
        digits.with_held_out(count)


@pytest.mark.parametrize("count", [100, 500, 960])
def test_even_of_a_small_class_there_is_an_image_on_both_sides(count):
    labels = np.repeat(np.arange(3, dtype=np.int32), [496, 502, 2])
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    held = Dataset(images, labels, images[:0], labels[:0], ("a", "b", "c")).with_held_out(count)
    both = [np.bincount(part, minlength=3) for part in (held.train_labels, held.val_labels)]
    assert np.min(both) > 0
    np.testing.assert_array_equal(np.sum(both, axis=0), np.bincount(labels))
    assert abs(len(held.val_labels) - count) <= 1


def test_the_mean_is_of_the_images_that_are_left_to_train_on(digits):
    held = digits.with_held_out(300)
    np.testing.assert_allclose(held.mean, held.train_images.mean(axis=0), atol=1e-4)


def test_a_mean_colour_stays_one_where_images_are_held_out(digits):
    mean = np.float32([1, 2, 3])
    images, labels = digits.train_images, digits.train_labels
    data = Dataset(images, labels, images, labels, digits.label_names, mean)
    assert data.with_held_out(300).mean is mean


class OnDisk:
    """Images that are read when they are asked for, and must not be read all at once."""

    def __init__(self, images):
        self._images, self.shape = images, images.shape

    def __len__(self):
        return len(self._images)

    def __getitem__(self, indices):
        assert len(indices) < 20
        return self._images[indices]


def test_images_on_disk_stay_there(digits):
    images, labels = digits.train_images, digits.train_labels
    mean = np.float32([1, 2, 3])
    on_disk = Dataset(OnDisk(images), labels, OnDisk(images), labels, digits.label_names, mean)
    ours, theirs = on_disk.with_held_out(300), digits.with_held_out(300)
    some = np.array([7, 0, 299])
    for split in ("train_images", "val_images"):
        read, expected = getattr(ours, split), getattr(theirs, split)
        assert (len(read), read.shape) == (len(expected), expected.shape)
        np.testing.assert_array_equal(read[some], expected[some])
    np.testing.assert_array_equal(ours.val_labels, theirs.val_labels)
    assert ours.mean is mean
