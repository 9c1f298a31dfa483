import numpy as np
import pytest

from pipeline.augmentation.erasing import Cutout


@pytest.fixture(scope="module")
def cut():
    """Which pixels of many images were set to 0, (batch, 32, 32)."""
    images = np.full((4_000, 32, 32, 3), 7, dtype=np.float32)
    images = Cutout(12)(images, np.random.default_rng(0))
    assert set(np.unique(images)) == {0, 7}
    cut = images == 0
    assert (cut.all(axis=3) == cut.any(axis=3)).all()
    return cut.all(axis=3)


def test_each_image_loses_one_square_or_the_part_of_it_that_lies_inside(cut):
    rows, columns = cut.any(axis=2), cut.any(axis=1)
    np.testing.assert_array_equal(cut, rows[:, :, None] & columns[:, None, :])
    for lines in (rows, columns):
        lengths = lines.sum(axis=1)
        assert (lengths.min(), lengths.max()) == (6, 12)
        assert (np.abs(np.diff(lines.astype(int), axis=1)).sum(axis=1) <= 2).all()
        inside = ~lines[:, 0] & ~lines[:, -1]
        assert (lengths[inside] == 12).all()


def test_its_centre_is_any_pixel_with_equal_probability(cut):
    assert cut.any(axis=0).all()
    # With the centre anywhere among 32, a square of 12 covers the middle in 12 of 32 places.
    assert cut[:, 15, 15].mean() == pytest.approx((12 / 32) ** 2, abs=0.02)
    assert cut[:, 0, 0].mean() == pytest.approx((7 / 32) ** 2, abs=0.02)
