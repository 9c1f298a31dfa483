"""The operations are checked against their definitions in PIL, worked out by hand."""

import cv2
import numpy as np
import pytest

from benchmarks import pillow
from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.trivialaugment import OPERATIONS, TrivialAugment


@pytest.fixture(scope="module")
def photos(cifar10_sample):
    paths = sorted(cifar10_sample.glob("test/*/*.png"))[::100]
    return np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])


def apply(name, image, magnitude):
    images = np.asarray(image, dtype=np.uint8)[None]
    return OPERATIONS[name].apply(images, np.array([float(magnitude)]))[0]


def gray(values):
    """An image whose pixels are as gray as the rows of numbers say."""
    return np.repeat(np.array(values, dtype=np.uint8)[..., None], 3, axis=2)


def numbered(height=4, width=6):
    return gray(np.arange(1, height * width + 1).reshape(height, width))


@pytest.mark.parametrize("name", OPERATIONS)
def test_photographs_come_out_as_from_pillow(name, photos):
    operation = OPERATIONS[name]
    strengths = np.linspace(0.1, 1, len(photos)) * operation.largest
    for magnitudes in (strengths, -strengths) if operation.signed else (strengths,):
        ours = operation.apply(photos.copy(), magnitudes).astype(int)
        theirs = pillow.apply(name, photos, magnitudes)
        if name == "rotate":  # a pixel that lies between two may come from either
            assert np.mean(ours != theirs) < 0.01
        else:
            largest = 1 if name in ("color", "autocontrast") else 0  # by rounding
            assert np.abs(ours - theirs).max() <= largest


def test_there_are_the_fourteen_of_the_paper_with_its_wide_ranges():
    ranges = {name: (op.largest, op.signed) for name, op in OPERATIONS.items()}
    assert ranges == {
        "identity": (0, False),
        "shear_x": (0.99, True),
        "shear_y": (0.99, True),
        "translate_x": (32, True),
        "translate_y": (32, True),
        "rotate": (135, True),
        "brightness": (0.99, True),
        "color": (0.99, True),
        "contrast": (0.99, True),
        "sharpness": (0.99, True),
        "posterize": (6, False),
        "solarize": (255, False),
        "autocontrast": (0, False),
        "equalize": (0, False),
    }


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("autocontrast", "equalize")])
def test_without_magnitude_nothing_changes(name, photos):
    images = np.minimum(photos, 254)  # solarization inverts 255 at any strength
    result = OPERATIONS[name].apply(images.copy(), np.zeros(len(images)))
    np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n != "identity"])
def test_each_operation_treats_the_images_of_a_batch_by_themselves(name, photos):
    operation = OPERATIONS[name]
    magnitudes = np.linspace(0.1, 1, len(photos)) * operation.largest
    together = operation.apply(photos, magnitudes)
    assert (together.dtype, together.shape) == (np.uint8, photos.shape)
    assert (together != photos).any()
    for image, magnitude, result in zip(photos, magnitudes, together, strict=True):
        np.testing.assert_array_equal(apply(name, image, magnitude), result)


def test_translation_moves_by_whole_pixels_and_leaves_black():
    image = numbered()
    expected = np.zeros_like(image)
    expected[:, :-2] = image[:, 2:]
    np.testing.assert_array_equal(apply("translate_x", image, 2.9), expected)
    expected = np.zeros_like(image)
    expected[2:] = image[:-2]
    np.testing.assert_array_equal(apply("translate_y", image, -2.9), expected)
    assert not apply("translate_x", image, 32).any()


def test_shear_moves_the_rows_by_what_they_are_below_the_corner():
    image = numbered(4, 8)
    # Pixel (x, y) comes from x + 0.4 * (y + 1/2): 0.2, 0.6, 1.0 and 1.4 further right.
    expected = np.zeros_like(image)
    for row, shift in enumerate([0, 1, 1, 1]):
        expected[row, : 8 - shift] = image[row, shift:]
    np.testing.assert_array_equal(apply("shear_x", image, 0.4), expected)
    transposed = apply("shear_y", image.swapaxes(0, 1), 0.4).swapaxes(0, 1)
    np.testing.assert_array_equal(transposed, expected)


def test_rotation_is_counterclockwise_about_the_centre():
    image = numbered(5, 5)
    np.testing.assert_array_equal(apply("rotate", image, 90), np.rot90(image))
    np.testing.assert_array_equal(apply("rotate", image, -90), np.rot90(image, -1))


def test_brightness_scales_and_clips():
    image = gray([[0, 100, 200]])
    np.testing.assert_array_equal(apply("brightness", image, 0.5), gray([[0, 150, 255]]))
    np.testing.assert_array_equal(apply("brightness", image, -0.5), gray([[0, 50, 100]]))


def test_color_goes_from_gray_to_more_than_the_colour():
    image = [[[200, 100, 50]]]  # of luma 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    assert apply("color", image, -1).tolist() == [[[124, 124, 124]]]
    assert apply("color", image, -0.5).tolist() == [[[162, 112, 87]]]
    assert apply("color", image, 0.5).tolist() == [[[238, 88, 13]]]


def test_contrast_goes_from_the_mean_gray_to_more_than_the_contrast():
    image = gray([[10, 60], [100, 231]])  # of mean 100.25
    np.testing.assert_array_equal(apply("contrast", image, -1), gray([[100, 100], [100, 100]]))
    np.testing.assert_array_equal(apply("contrast", image, 0.5), gray([[0, 40], [100, 255]]))


def test_sharpness_goes_from_smooth_to_sharp_and_leaves_the_edge():
    image = gray([[13, 13, 13], [13, 130, 13], [13, 13, 13]])
    middle = {magnitude: apply("sharpness", image, magnitude) for magnitude in (-1, -0.5, 0.5)}
    # Smoothed: (8 * 13 + 5 * 130) / 13 = 58.
    assert [result[1, 1, 0] for result in middle.values()] == [58, 94, 166]
    for result in middle.values():
        result[1, 1] = 130
        np.testing.assert_array_equal(result, image)


def test_posterization_keeps_the_upper_bits():
    image = gray([[0b10111111, 0b01000001]])
    np.testing.assert_array_equal(apply("posterize", image, 6), gray([[0b10000000, 0b01000000]]))
    np.testing.assert_array_equal(apply("posterize", image, 1.2), gray([[0b10111110, 0b01000000]]))


def test_solarization_inverts_what_is_bright():
    image = gray([[0, 99, 100, 255]])
    np.testing.assert_array_equal(apply("solarize", image, 155), gray([[0, 99, 155, 0]]))
    np.testing.assert_array_equal(apply("solarize", image, 255), 255 - image)


def test_autocontrast_stretches_each_channel_by_itself():
    image = [[[50, 0, 9], [100, 128, 9], [150, 255, 9]]]
    assert apply("autocontrast", image, 0).tolist() == [[[0, 0, 9], [127, 128, 9], [255, 255, 9]]]


def test_equalization_is_pils():
    # 16 pixels at each of the values 0, 10, .. 590: 960 in all, 944 of them below the brightest,
    # so that a step is 944 // 255 = 3 pixels and value number i becomes (16 * i + 1) // 3.
    values = np.repeat(np.arange(0, 240, 4), 16).reshape(30, 32)
    expected = np.minimum((16 * (values // 4) + 1) // 3, 255)
    np.testing.assert_array_equal(apply("equalize", gray(values), 0), gray(expected))
    flat = gray(np.full((4, 4), 77))
    np.testing.assert_array_equal(apply("equalize", flat, 0), flat)
    # Fewer than 255 pixels below the brightest: PIL leaves them.
    few = gray(np.arange(200).reshape(10, 20))
    np.testing.assert_array_equal(apply("equalize", few, 0), few)


# what is drawn


def augmented(images, epoch=0, **settings):
    rng = BatchRng(0, epoch, 0, np.arange(len(images)))
    return TrivialAugment(**settings)(images.copy(), rng)


def test_as_many_images_as_told_are_chosen_and_every_operation_is_as_likely(photos, monkeypatch):
    seen = {}

    def spy(name):
        def apply(images, magnitudes):
            seen[name] = magnitudes
            return images

        return apply

    spies = {name: op._replace(apply=spy(name)) for name, op in OPERATIONS.items()}
    monkeypatch.setattr("pipeline.augmentation.trivialaugment.OPERATIONS", spies)
    augmented(np.repeat(photos[:1], 14_000, axis=0), probability=0.5)
    counts = np.array([len(seen[name]) for name in OPERATIONS])
    assert counts == pytest.approx(np.full(14, 500), abs=90)
    assert counts.sum() == pytest.approx(7_000, abs=200)
    for name, operation in OPERATIONS.items():
        levels = seen[name] / (operation.largest or 1) * 30
        expected = range(-30 if operation.signed else 0, 31) if operation.largest else [0]
        assert sorted(set(np.rint(levels).astype(int).tolist())) == list(expected)
        assert levels == pytest.approx(np.rint(levels))


def test_the_others_are_left(photos):
    images = np.repeat(photos, 20, axis=0)
    same = (augmented(images, probability=0.5) == images).all(axis=(1, 2, 3))
    # Half are not chosen, and few operations leave a photo as it is.
    assert 0.5 < same.mean() < 0.65
    np.testing.assert_array_equal(augmented(images, probability=0.0), images)


@pytest.mark.parametrize(("epoch", "happens"), [(4, True), (5, False), (6, False)])
def test_it_rests_at_the_end(epoch, happens, photos):
    assert (augmented(photos, epoch, until=5) != photos).any() == happens
