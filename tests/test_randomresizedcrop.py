import numpy as np
import pytest

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.geometry import RandomResizedCrop
from pipeline.augmentation.rectangles import draw_rectangles


def test_the_rectangle_fills_the_whole_image():
    """Of an image that shows its own coordinates: the result shows the rectangle's."""
    rows, columns = np.mgrid[:64, :64] * 2.0
    image = np.stack([rows, columns, rows], axis=-1).astype(np.float32)
    images = np.repeat(image[None], 100, axis=0)
    cropped = RandomResizedCrop(0.35)(images, np.random.default_rng(0))
    settings = (0.35, 1.0), (3 / 4, 4 / 3)
    drawn = draw_rectangles(100, 64, 64, *settings, np.random.default_rng(0))
    assert cropped.shape == images.shape
    for result, (top, left, bottom, right) in zip(cropped, drawn, strict=True):
        assert result[0, :, 0] / 2 == pytest.approx(top, abs=0.51)
        assert result[-1, :, 0] / 2 == pytest.approx(bottom - 1, abs=0.51)
        assert result[:, 0, 1] / 2 == pytest.approx(left, abs=0.51)
        assert result[:, -1, 1] / 2 == pytest.approx(right - 1, abs=0.51)
        assert (np.diff(result[:, 0, 0]) >= 0).all()


def test_without_room_for_a_smaller_one_nothing_changes():
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    cropped = RandomResizedCrop(1.0, (1.0, 1.0))(images, np.random.default_rng(0))
    np.testing.assert_array_equal(cropped, images)


def test_a_wide_image_is_squashed_no_more_than_the_ratio_allows():
    """Of an image that shows its own columns: the result shows which were cut out."""
    columns = np.broadcast_to(np.arange(96, dtype=np.float32), (32, 96))
    images = np.repeat(columns[None, ..., None], 200, axis=0)
    cropped = RandomResizedCrop(0.35)(images, np.random.default_rng(0))
    seen = cropped[:, 0, -1, 0] - cropped[:, 0, 0, 0]
    assert seen.max() <= 32 * 4 / 3
    amid = (seen == 42) & (cropped[:, 0, 0, 0] == 26)
    assert amid.mean() == pytest.approx(0.68, abs=0.1)


def test_the_result_has_the_size_of_the_epoch():
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    crop = RandomResizedCrop(1.0, (1.0, 1.0), size={0: 16, 1: 96}.get)
    small, large = (crop(images, BatchRng(0, epoch, 0, np.arange(4))) for epoch in (0, 1))
    assert small.shape == (4, 16, 16, 3)
    assert large.shape == (4, 96, 96, 3)
    means = images.reshape(4, 16, 4, 16, 4, 3).mean(axis=(2, 4))  # no pixel is passed over
    np.testing.assert_allclose(small, means, atol=0.6)
