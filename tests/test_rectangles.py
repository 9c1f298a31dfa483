import numpy as np
import pytest

from pipeline.preprocessing.rectangles import draw_rectangles

SCALE, RATIO = (0.35, 1.0), (3 / 4, 4 / 3)


@pytest.fixture(scope="module")
def rectangles():
    return draw_rectangles(20_000, 64, 64, SCALE, RATIO, np.random.default_rng(0))


def test_they_lie_inside_the_image_anywhere(rectangles):
    top, left, bottom, right = rectangles.T
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 64, 64)
    assert ((bottom > top) & (right > left)).all()
    room = 64 - (bottom - top)
    wide = room > 20
    assert (top[wide] / room[wide]).mean() == pytest.approx(0.5, abs=0.02)


def test_area_and_aspect_ratio_are_in_their_ranges(rectangles):
    top, left, bottom, right = rectangles.T
    height, width = bottom - top, right - left
    area, ratio = height * width / 64**2, width / height
    assert (area.min(), area.max()) == pytest.approx(SCALE, abs=0.02)
    assert (ratio.min(), ratio.max()) == pytest.approx(RATIO, abs=0.06)
    # Uniform: what does not fit is drawn again, which only large areas are.
    below = [(area < limit).sum() for limit in (0.4, 0.45, 0.5)]
    assert below == pytest.approx(np.array([1, 2, 3]) * below[0], rel=0.1)
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.01)


def test_what_can_fit_nowhere_is_the_whole_image():
    drawn = draw_rectangles(5, 8, 32, (0.9, 1.0), (1.0, 1.0), np.random.default_rng(0))
    assert drawn.tolist() == [[0, 0, 8, 32]] * 5
    assert draw_rectangles(0, 8, 8, SCALE, RATIO, np.random.default_rng(0)).shape == (0, 4)
