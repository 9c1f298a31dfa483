import numpy as np
import pytest

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.geometry import AlternatingFlip

COUNT = 1_000
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 2, 3, 3), dtype=np.uint8)


def mirrored(flip, epoch, indices=None, batch=0, seed=0):
    """Which of the data set's images are mirrored, (batch,)."""
    indices = np.arange(COUNT) if indices is None else indices
    images = IMAGES[indices]
    flipped = flip(images.copy(), BatchRng(seed, epoch, batch, indices))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored ^ (flipped == images).all(axis=(1, 2, 3))).all()
    return mirrored


@pytest.fixture
def flip():
    return AlternatingFlip(COUNT, seed=3)


def test_a_random_half_is_mirrored_in_the_first_epoch(flip):
    first = mirrored(flip, 0)
    assert 0.45 < first.mean() < 0.55
    assert not np.array_equal(first, mirrored(AlternatingFlip(COUNT, seed=4), 0))


def test_every_image_is_mirrored_in_every_other_epoch(flip):
    epochs = np.array([mirrored(flip, epoch) for epoch in range(5)])
    assert (epochs[1:] ^ epochs[:-1]).all()


def test_it_depends_on_the_image_and_the_epoch_and_not_on_the_batch(flip):
    order = np.random.default_rng(2).permutation(COUNT)
    expected = mirrored(AlternatingFlip(COUNT, seed=3), 4)[order]
    np.testing.assert_array_equal(mirrored(flip, 4, order, batch=9, seed=8), expected)
