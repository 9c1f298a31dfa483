import numpy as np
import pytest

from pipeline.augmentation.rectangles import centred_rectangle, draw_rectangles

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


def test_what_fits_nowhere_is_empty():
    drawn = draw_rectangles(5, 8, 32, (0.9, 1.0), (1.0, 1.0), np.random.default_rng(0))
    assert drawn.tolist() == [[0, 0, 0, 0]] * 5
    assert draw_rectangles(0, 8, 8, SCALE, RATIO, np.random.default_rng(0)).shape == (0, 4)


def test_what_does_not_fit_changes_none_of_the_others():
    """The rectangles of one batch: those of a narrow image, of which some do not fit."""
    drawn = draw_rectangles(500, 32, 64, SCALE, RATIO, np.random.default_rng(0))
    empty = ~drawn.any(axis=1)
    assert 0 < empty.sum() < 500
    top, left, bottom, right = drawn[~empty].T
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 32, 64)
    assert ((bottom > top) & (right > left)).all()


def test_a_seed_gives_the_rectangles_of_the_published_runs():
    """Their images depend on every one of them."""
    drawn = draw_rectangles(3, 64, 64, SCALE, RATIO, np.random.default_rng(0))
    assert drawn.tolist() == [[6, 2, 59, 61], [5, 0, 64, 61], [27, 2, 63, 44]]


@pytest.mark.parametrize(
    ("height", "width", "rectangle"),
    [
        (64, 64, (0, 0, 64, 64)),
        (48, 64, (0, 0, 48, 64)),
        (32, 96, (0, 26, 32, 69)),
        (96, 32, (26, 0, 69, 32)),
    ],
)
def test_the_largest_amid_an_image_keeps_to_the_ratios(height, width, rectangle):
    assert centred_rectangle(height, width, RATIO) == rectangle
