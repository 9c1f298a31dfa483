import numpy as np
import pytest

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.erasing import RandomErasing


def erased(epoch=0, count=4_000, **settings):
    """Which pixels were set to 0, (batch, 32, 32)."""
    images = np.full((count, 32, 32, 3), 7, dtype=np.float32)
    return (RandomErasing(**settings)(images, BatchRng(0, epoch, 0, np.arange(count))) == 0)[..., 0]


def test_as_many_images_as_told_lose_a_rectangle():
    share = erased(probability=0.1).any(axis=(1, 2)).mean()
    assert share == pytest.approx(0.1, abs=0.02)


def test_its_area_is_in_range():
    gone = erased(probability=1.0)
    area = gone.mean(axis=(1, 2))
    assert area.min() == pytest.approx(0.02, abs=0.006)
    assert area.max() == pytest.approx(0.33, abs=0.02)
    sides = gone.any(axis=2).sum(axis=1) * gone.any(axis=1).sum(axis=1) / 32**2
    np.testing.assert_array_equal(sides, area)


def test_nothing_is_erased_where_no_rectangle_fits():
    assert not erased(count=10, probability=1.0, scale=(0.9, 1.0), ratio=(3.0, 3.3)).any()


@pytest.mark.parametrize(("epoch", "happens"), [(4, True), (5, False), (6, False)])
def test_it_rests_at_the_end(epoch, happens):
    assert erased(epoch, count=10, probability=1.0, until=5).any() == happens
