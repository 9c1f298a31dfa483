import numpy as np
import pytest
from scipy import ndimage

from pipeline.augmentation.geometry import AffineAugmenter

RANGES = {"rotation": 18, "zoom": 0.15, "shift": 0.2, "shear": 10}


class KnownDraws:
    """In place of a generator: hands out given numbers and keeps the limits asked for."""

    def __init__(self, *draws, mirrored=False):
        self.draws, self.mirrored, self.limits = list(draws), mirrored, []

    def uniform(self, low, high, count):
        assert low == -high
        self.limits.append(high)
        return np.full(count, self.draws.pop(0) if self.draws else 0.0)

    def random(self, count):
        return np.full(count, 0.0 if self.mirrored else 1.0)


def smooth_images(count, height, width, channels=3, seed=0):
    """Images whose values bilinear interpolation hardly depends on: noise, blurred."""
    noise = np.random.default_rng(seed).normal(0, 100, (count, height, width, channels))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).astype(np.float32)


def image_data_generator(image, theta, rows, columns, shear, zoom_rows, zoom_columns, mirrored):
    """What Keras's former ImageDataGenerator did, with SciPy: in (row, column) coordinates."""
    theta, shear = np.deg2rad(theta), np.deg2rad(shear)
    rotation = np.array(
        [[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]]
    )
    shift = np.array([[1, 0, rows], [0, 1, columns], [0, 0, 1]])
    shearing = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    zoom = np.diag([zoom_rows, zoom_columns, 1])
    height, width, channels = image.shape
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2] = (height - 1) / 2, (width - 1) / 2
    back[:2, 2] = -to_centre[:2, 2]
    matrix = to_centre @ rotation @ shift @ shearing @ zoom @ back
    planes = [
        ndimage.affine_transform(
            image[..., c], matrix[:2, :2], matrix[:2, 2], order=1, mode="nearest"
        )
        for c in range(channels)
    ]
    result = np.stack(planes, axis=-1)
    return result[:, ::-1] if mirrored else result


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (32, 48)], ids=["square", "wide"])
@pytest.mark.parametrize("only", [*RANGES, "everything"])
def test_a_transform_is_the_one_of_image_data_generator(only, size, mirrored):
    ranges = RANGES if only == "everything" else {only: RANGES[only]}
    augmenter = AffineAugmenter(**ranges, flip=True)
    (image,) = smooth_images(1, *size)
    # OpenCV before version 5 rounds the coordinates to 1/32 of a pixel.
    steepest = max(np.abs(np.diff(image, axis=axis)).max() for axis in (0, 1))
    limits = [augmenter.rotation, augmenter.shear, *2 * [augmenter.shift], *2 * [augmenter.zoom]]
    for fractions in np.random.default_rng(5).uniform(-1, 1, (5, 6)):
        draws = KnownDraws(*fractions * limits, mirrored=mirrored)
        ours = augmenter(image[None], draws)[0]
        assert draws.limits == limits

        angle, shear, rows, columns, zoom_rows, zoom_columns = fractions * limits
        pixels = rows * size[0], columns * size[1]
        zooms = 1 + zoom_rows, 1 + zoom_columns
        reference = image_data_generator(image, angle, *pixels, shear, *zooms, mirrored)
        np.testing.assert_allclose(ours, reference, atol=steepest / 16)


def test_a_positive_shift_takes_pixels_from_below_and_from_the_right():
    (image,) = smooth_images(1, 10, 20)
    augmenter = AffineAugmenter(shift=0.5)
    ours = augmenter(image[None], KnownDraws(0, 0, 0.2, 0.25))[0]
    np.testing.assert_allclose(ours[:8, :15], image[2:, 5:], atol=1e-4)


def test_outside_the_image_the_nearest_edge_pixel_is_repeated():
    (image,) = smooth_images(1, 10, 10)
    augmenter = AffineAugmenter(shift=0.5)
    ours = augmenter(image[None], KnownDraws(0, 0, 0.3, -0.3))[0]
    np.testing.assert_allclose(ours[7:, 3:], np.broadcast_to(image[-1:, :7], (3, 7, 3)), atol=1e-4)
    np.testing.assert_allclose(ours[:7, :3], np.broadcast_to(image[3:, :1], (7, 3, 3)), atol=1e-4)
    np.testing.assert_allclose(ours[7:, :3], np.broadcast_to(image[-1, 0], (3, 3, 3)), atol=1e-4)


@pytest.mark.parametrize("width", [32, 33])
def test_a_flip_is_the_exact_mirror_image_of_about_every_second_image(width):
    images = np.random.default_rng(0).normal(size=(200, 4, width, 3)).astype(np.float32)
    ours = AffineAugmenter(flip=True)(images, np.random.default_rng(1))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(ours, images, strict=True)]
    unchanged = [np.array_equal(a, b) for a, b in zip(ours, images, strict=True)]
    assert np.logical_xor(mirrored, unchanged).all()
    assert 70 < sum(mirrored) < 130


def test_without_ranges_nothing_changes():
    images = np.random.default_rng(0).normal(size=(5, 7, 9, 3)).astype(np.float32)
    ours = AffineAugmenter()(images, np.random.default_rng(1))
    np.testing.assert_array_equal(ours, images)


def test_draws_fill_their_ranges_and_stay_within():
    augmenter = AffineAugmenter(shift=0.2)
    matrices = augmenter.draw_matrices(2000, 10, 50, np.random.default_rng(0))
    x, y = matrices[:, 0, 2], matrices[:, 1, 2]
    assert 9.8 < x.max() < 10
    assert -10 < x.min() < -9.8
    assert 1.96 < y.max() < 2
    assert -2 < y.min() < -1.96
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_every_image_has_a_transform_of_its_own_and_the_generator_decides_it():
    images = np.repeat(smooth_images(1, 16, 16), 8, axis=0)
    augmenter = AffineAugmenter(**RANGES, flip=True)
    ours = augmenter(images, np.random.default_rng(7))
    assert len({image.tobytes() for image in ours}) == 8
    np.testing.assert_array_equal(ours, augmenter(images, np.random.default_rng(7)))
    assert not np.array_equal(ours, augmenter(images, np.random.default_rng(8)))


def in_c_order(images):
    return images


def as_float64(images):
    return images.astype(np.float64)


def one_channel(images):
    return images[..., :1]


def channels_stored_first(images):
    """A view, as reading CIFAR-10's own files gives it: their channels come first."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


def every_second_column(images):
    return np.repeat(images, 2, axis=2)[:, :, ::2]


@pytest.mark.parametrize(
    "form",
    [in_c_order, as_float64, one_channel, channels_stored_first, every_second_column],
)
def test_the_result_is_written_however_the_images_lie_in_memory(form):
    """OpenCV leaves an array it is to write to as it was where type or layout do not suit it."""
    images = form(smooth_images(4, 12, 12))
    before = images.copy()
    ours = AffineAugmenter(shift=0.25)(images, KnownDraws(0, 0, 0.25, 0.25))
    assert (ours.shape, ours.dtype) == (images.shape, images.dtype)
    np.testing.assert_allclose(ours[:, :9, :9], images[:, 3:, 3:], atol=1e-4)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"rotation": -1}, "rotation -1"),
        ({"zoom": -0.1}, "zoom -0.1"),
        ({"shift": -0.1}, "shift -0.1"),
        ({"shear": -1}, "shear -1"),
        ({"zoom": 1}, "zoom must be below 1: got .* zoom 1,"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        AffineAugmenter(**ranges)


def test_the_nearest_pixels_are_taken_if_asked_for():
    images = np.random.default_rng(0).normal(size=(20, 16, 16, 3)).astype(np.float32)
    ours = AffineAugmenter(**RANGES, nearest=True)(images, np.random.default_rng(1))
    for image, transformed in zip(images, ours, strict=True):
        pixels = {pixel.tobytes() for pixel in image.reshape(-1, 3)}
        assert {pixel.tobytes() for pixel in transformed.reshape(-1, 3)} <= pixels
    assert not np.array_equal(ours, images)
