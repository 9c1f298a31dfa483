import json

import cv2
import numpy as np
import pytest
import specialfiles

from pipeline.errors import UserError
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

COLOUR = {"R": 122.4, "G": 114.2, "B": 101.3}
RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_mean_image_is_exact_pixel_by_pixel():
    images = np.random.default_rng(0).integers(0, 256, (100, 4, 5, 3), dtype=np.uint8)
    expected = images.astype(np.float64).mean(axis=0).astype(np.float32)
    np.testing.assert_array_equal(MeanPreprocessor.of_images(images).mean, expected)


@pytest.mark.parametrize("shape", [(4, 5, 3), (7, 4, 5, 3)])
@pytest.mark.parametrize("mean_shape", [(3,), (4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_and_batches_come_centred_as_float32(shape, mean_shape, dtype):
    rng = np.random.default_rng(0)
    image, mean = rng.integers(0, 256, shape).astype(dtype), rng.uniform(0, 255, mean_shape)
    centred = MeanPreprocessor(mean).preprocess(image)
    assert centred.dtype == np.float32
    np.testing.assert_allclose(centred, image - mean, atol=2e-5)


def test_the_argument_stays_as_it_was():
    image = np.full((2, 2, 3), 9, dtype=np.float32)
    MeanPreprocessor(np.ones(3)).preprocess(image)
    assert (image == 9).all()


def test_red_is_subtracted_from_red_and_blue_from_blue(tmp_path):
    mean = MeanPreprocessor.from_json(written(tmp_path / "mean.json", COLOUR))
    for pure, expected in (
        (RED, (132.6, -114.2, -101.3)),
        (GREEN, (-122.4, 140.8, -101.3)),
        (BLUE, (-122.4, -114.2, 153.7)),
    ):
        image = np.broadcast_to(pure, (2, 2, 3))
        np.testing.assert_allclose(mean.preprocess(image)[1, 1], expected, rtol=1e-5)


def test_that_is_how_image_files_come_when_read_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((2, 2, 3), (255, 0, 0), np.uint8))  # BGR
    image = cv2.imread(str(tmp_path / "blue.png"), cv2.IMREAD_COLOR_RGB)
    mean = MeanPreprocessor.from_json(written(tmp_path / "mean.json", COLOUR))
    np.testing.assert_allclose(mean.preprocess(image)[0, 0], (-122.4, -114.2, 153.7), rtol=1e-5)


def test_the_order_in_the_file_does_not_matter(tmp_path):
    backwards = dict(reversed(COLOUR.items()))
    mean = MeanPreprocessor.from_json(written(tmp_path / "mean.json", backwards))
    np.testing.assert_allclose(mean.mean, (122.4, 114.2, 101.3))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        b"\xff\xfe".decode("latin-1"),
        "{}",
        [122.4, 114.2, 101.3],
        {"R": 1.0, "G": 2.0},
        COLOUR | {"A": 3.0},
        COLOUR | {"R": None},
        COLOUR | {"R": "red"},
        COLOUR | {"R": "122.4"},
        COLOUR | {"R": True},
        COLOUR | {"R": -1.0},
        COLOUR | {"R": 256.0},
        '{"R": NaN, "G": 1.0, "B": 1.0}',
    ],
    ids=str,
)
def test_a_file_that_holds_no_colour_is_refused(tmp_path, content):
    path = written(tmp_path / "mean.json", content)
    with pytest.raises(UserError, match=r"mean\.json does not hold the mean colour"):
        MeanPreprocessor.from_json(path)


@pytest.mark.parametrize(
    "put", [specialfiles.sparse, *specialfiles.SPECIAL], ids=lambda put: put.__name__
)
def test_what_is_no_file_of_that_size_is_refused_at_once(tmp_path, put):
    put(tmp_path / "mean.json")
    with specialfiles.at_once(), pytest.raises(UserError, match=r"mean\.json cannot be read"):
        MeanPreprocessor.from_json(tmp_path / "mean.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read: No such file"):
        MeanPreprocessor.from_json(tmp_path / "nowhere.json")


@pytest.mark.parametrize("mean", [np.zeros(4), np.zeros((2, 2)), np.array([0, np.nan, 0]), 1.0])
def test_a_mean_without_three_finite_channels_is_refused(mean):
    with pytest.raises(ValueError, match="finite red, green and blue"):
        MeanPreprocessor(mean)
