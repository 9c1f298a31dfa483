from dataclasses import replace

import keras
import numpy as np
import pytest

from pipeline.errors import NetworkError
from pipeline.nn.spec import Architecture, NetworkSpec

MEAN = np.arange(8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
NAMES = ("ant", "bee", "cät", "dog")
SPEC = NetworkSpec("resnet", (8, 8, 3), NAMES, MEAN, "cifar10", (1,), (4, 8))


def test_it_builds_the_network_that_it_describes():
    network = SPEC.build(zero_init=True)
    assert network.input_shape == (None, 8, 8, 3)
    assert network.output_shape == (None, 4)
    assert network.get_layer("conv1").filters == 4
    assert not keras.ops.convert_to_numpy(network.get_layer("conv2_1_conv3").kernel).any()


def test_a_stage_that_another_follows_has_no_fewer_than_8_filters_where_it_is_trained():
    with pytest.raises(NetworkError, match=r"at least 8 filters, not \(4, 4, 8\)"):
        Architecture("resnet", "cifar10", (1, 1), (4, 4, 8))
    Architecture("resnet", "cifar10", (1, 1), (4, 8, 4))
    replace(SPEC, image_shape=(16, 16, 3), mean=None, stages=(1, 1), filters=(4, 4, 8)).build()


def test_it_builds_resnet_18():
    assert NetworkSpec("resnet18", (32, 32, 3), NAMES).build().name == "resnet18"


def test_images_are_centred_by_its_own_mean():
    images = np.full((2, 8, 8, 3), 200, dtype=np.uint8)
    np.testing.assert_array_equal(SPEC.preprocessor.preprocess(images), [200 - MEAN] * 2)


def test_images_are_scaled_where_it_has_no_mean():
    images = np.full((2, 8, 8, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(replace(SPEC, mean=None).preprocessor.preprocess(images), 1.0)


def test_what_of_a_picture_it_is_shown_goes_through_text_where_it_is_not_all():
    spec = replace(SPEC, centre=0.875)
    assert NetworkSpec.from_json(spec.to_json(), MEAN).centre == 0.875
    assert spec.centre_crop.share == 0.875
    assert "centre" not in SPEC.to_json()  # so that earlier versions can read it


def test_all_but_the_mean_goes_through_text_and_comes_back():
    again = NetworkSpec.from_json(SPEC.to_json(), MEAN)
    assert vars(again) == vars(SPEC)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("family", "vgg", "no network 'vgg'"),
        ("label_names", (), "label_names"),
        ("label_names", (1, 2), "label_names"),
        ("image_shape", (8, 8), "height, width, channels"),
        ("image_shape", (8, 8, 0), "from 1 to"),
        ("image_shape", (2**20, 8, 3), "from 1 to"),
        ("stages", (True,), "from 1 to"),
        ("stages", (10**9,), "from 1 to"),
        ("filters", (4, 8.0), "from 1 to"),
        ("filters", (4, 10**9), "from 1 to"),
        ("mean", np.zeros((4, 4, 3), np.float32), r"mean of shape \(4, 4, 3\)"),
        ("mean", np.full(3, np.nan, np.float32), "finite"),
        ("centre", 0.0, "fraction"),
        ("centre", 1.1, "fraction"),
        ("centre", float("nan"), "fraction"),
        ("centre", "1", "fraction"),
    ],
)
def test_what_no_network_has_is_refused(part, value, message):
    with pytest.raises(NetworkError, match=message):
        replace(SPEC, **{part: value})


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"family": "resnet"}', '{"of": 1}', "[" * 100_000, b"\xff\xfe"]
)
def test_a_text_that_is_none_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        NetworkSpec.from_json(text, None)
