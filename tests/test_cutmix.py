import numpy as np
import pytest

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.mixing import CutMix

COUNT = 6


def mixed(index=0, epoch=0, **settings):
    """A batch whose images show their own number, mixed: images and labels of as many classes."""
    numbers = np.arange(COUNT, dtype=np.float32)
    images = np.broadcast_to(numbers[:, None, None, None], (COUNT, 16, 20, 3)).copy()
    rng = BatchRng(0, epoch, index, np.arange(COUNT))
    return CutMix(**settings)(images, np.eye(COUNT, dtype=np.float32), rng)


@pytest.mark.parametrize("index", range(20))
def test_labels_are_mixed_by_the_area_of_what_is_seen(index):
    images, labels = mixed(index, probability=1.0)
    assert (images.dtype, labels.dtype) == (np.float32, np.float32)
    for image, label in zip(images, labels, strict=True):
        seen = np.bincount(image[..., 0].astype(int).ravel(), minlength=COUNT) / image[..., 0].size
        assert label == pytest.approx(seen, abs=1e-6)


def test_it_is_one_rectangle_the_same_for_the_whole_batch():
    for index in range(20):
        images, _ = mixed(index, probability=1.0)
        own = images[..., 0] == np.arange(COUNT)[:, None, None]
        changed = ~own.all(axis=0)
        rectangle = changed.any(axis=1)[:, None] & changed.any(axis=0)
        np.testing.assert_array_equal(changed, rectangle)


def test_the_pasted_area_is_uniform_but_for_what_lies_outside():
    own = [mixed(index, probability=1.0)[1].diagonal().min() for index in range(600)]
    # Of a rectangle of area a, whose centre is anywhere, (1 - sqrt(a) / 4)^2 lies inside.
    area = np.linspace(0, 1, 1001)
    expected = (area * (1 - np.sqrt(area) / 4) ** 2).mean()
    assert 1 - np.mean(own) == pytest.approx(expected, abs=0.03)


def test_as_many_batches_as_told_are_mixed():
    share = np.mean([(mixed(index, probability=0.3)[1] % 1).any() for index in range(600)])
    assert share == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("epoch", "happens"), [(4, True), (5, False), (6, False)])
def test_it_rests_at_the_end(epoch, happens):
    assert (mixed(epoch=epoch, probability=1.0, until=5)[1] % 1).any() == happens
