import numpy as np
import pytest

from pipeline.preprocessing.centrecrop import CentreCrop


def stripes(height, width):
    """Every pixel says where it is: red the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(40, 100, (0, 40), (30, 70)), (100, 40, (30, 70), (0, 40)), (40, 40, (0, 40), (0, 40))],
)
def test_the_largest_square_in_the_middle_is_kept(height, width, rows, columns):
    cropped = CentreCrop(40, 40).preprocess(stripes(height, width))
    np.testing.assert_array_equal(cropped[:, 0, 0], np.arange(*rows))
    np.testing.assert_array_equal(cropped[0, :, 1], np.arange(*columns))


def test_of_that_square_a_share_may_be_kept():
    cropped = CentreCrop(20, 20, share=0.5).preprocess(stripes(40, 100))
    np.testing.assert_array_equal(cropped[:, 0, 0], np.arange(10, 30))
    np.testing.assert_array_equal(cropped[0, :, 1], np.arange(40, 60))


def test_the_proportions_are_those_that_are_asked_for():
    cropped = CentreCrop(20, 10).preprocess(stripes(60, 60))
    assert cropped.shape == (10, 20, 3)
    assert cropped[0, 0, 0] == pytest.approx(15 + 1, abs=1)  # of the rows 15 to 44


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3), (3, 2, 3)])
def test_tiny_pictures_are_enlarged(shape):
    assert (CentreCrop(8, 8).preprocess(np.full(shape, 7, np.uint8)) == 7).all()
