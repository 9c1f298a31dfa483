import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.augmentation.geometry import PhotographCrop
from pipeline.backend.devices import Devices
from pipeline.batches import TrainingBatches
from pipeline.errors import UserError
from pipeline.io.dataset import Dataset
from pipeline.io.imagefiles import read_images
from pipeline.io.inspection import inspect
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographs import Photograph, Photographs
from pipeline.nn.spec import Architecture
from pipeline.preprocessing.centrecrop import CentreCrop
from pipeline.training.assembly import make_evaluation, make_training
from pipeline.training.recipe import Recipe

SIZE = 32
NAMES = ("flower", "temple")
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1, crop_scale=0.35, flip="random")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 10)
    return sorted(str(path) for path in folder.glob("*/*.jpg"))


@pytest.fixture(scope="module")
def photographs(files):
    infos = inspect(files)
    return Photographs([Photograph(f, infos[f].width, infos[f].height) for f in files], SIZE)


@pytest.fixture(scope="module")
def data(photographs):
    labels = np.repeat(np.arange(2, dtype=np.int32), 10)
    mean = np.float32([120, 110, 100])
    return Dataset(photographs, labels, photographs, labels, NAMES, mean)


@pytest.fixture
def gradient(tmp_path):
    """A JPEG of 640x480 pixels whose red is a quarter of the column and green half of the row."""
    rows, columns = np.mgrid[:480, :640]
    image = np.stack([0 * rows, rows // 2, columns // 4], axis=-1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "gradient.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return Photograph(str(tmp_path / "gradient.jpg"), 640, 480)


def batch(*photographs):
    array = np.empty(len(photographs), object)
    array[:] = photographs
    return array


def test_photographs_are_the_images_that_are_classified_in_use(files, photographs):
    ((expected, problems),) = read_images(files, (SIZE, SIZE), CentreCrop(SIZE, SIZE).preprocess)
    assert problems == {}
    assert (len(photographs), photographs.shape) == (20, (20, SIZE, SIZE, 3))
    some = np.array([7, 0, 19])
    np.testing.assert_array_equal(photographs[some], expected[some])


def test_a_share_of_the_middle_may_be_what_is_evaluated_on(files, photographs):
    nearer = Photographs(list(photographs.files), SIZE, 0.5)
    crop = CentreCrop(SIZE, SIZE, 0.5).preprocess
    ((expected, _),) = read_images(files, (SIZE, SIZE), crop)
    everything = np.arange(20)
    np.testing.assert_array_equal(nearer[everything], expected)
    np.testing.assert_array_equal(nearer.subset(everything[:3])[everything[:3]], expected[:3])


def test_photographs_that_are_held_out_stay_photographs(data):
    held = data.with_held_out(4)
    assert (len(held.train_images.files), len(held.val_images.files)) == (16, 4)
    paths = {p.path for images in (held.train_images, held.val_images) for p in images.files}
    assert paths == {photograph.path for photograph in data.train_images.files}


@pytest.mark.parametrize("size", [64, 30, 100, 200])
def test_a_crop_is_the_same_whether_a_jpeg_was_made_smaller_or_not(gradient, size, monkeypatch):
    reductions = []
    decode = Photograph.decode

    def noted(photograph, reduction):
        reductions.append(reduction)
        return decode(photograph, reduction)

    monkeypatch.setattr(Photograph, "decode", noted)
    crop = PhotographCrop(size, 0.35)
    images = crop(batch(*[gradient] * 8), np.random.default_rng(5))
    chosen = set(reductions)
    monkeypatch.setattr(Photograph, "decode", lambda photograph, reduction: decode(photograph))
    whole = crop(batch(*[gradient] * 8), np.random.default_rng(5))
    # The least crop has 0.35 of 640x480 pixels: its sides are from 280 on.
    assert min(chosen) >= {64: 4, 30: 8, 100: 2, 200: 1}[size]
    np.testing.assert_allclose(images.astype(int), whole, atol=4)


def test_crops_have_at_least_their_share_of_the_area_and_lie_all_over(gradient):
    images = PhotographCrop(64, 0.5)(batch(*[gradient] * 200), np.random.default_rng(0))
    columns = images[:, :, :, 0].astype(float) * 4
    rows = images[:, :, :, 1].astype(float) * 2
    width = (columns[:, 32, -1] - columns[:, 32, 0]) * 64 / 63
    height = (rows[:, -1, 32] - rows[:, 0, 32]) * 64 / 63
    share = width * height / (640 * 480)
    assert share.min() > 0.45
    assert share.max() > 0.9
    assert columns[:, 32, 0].min() < 20
    assert columns[:, 32, -1].max() > 610
    assert rows[:, -1, 32].max() > 460


def test_the_parts_that_processes_make_of_a_batch_are_the_batch(data):
    def batches(*share):
        devices = Devices(("CPU",) * share[1], share[1], share[0])
        recipe = replace(RECIPE, crop_scale=0.01)  # and many rectangles do not fit
        return make_training(recipe, data, lambda images: images, devices=devices)

    joined = zip(*(batches(part, 4).batch(1, 0) for part in range(4)), strict=True)
    for ours, whole in zip(map(np.concatenate, joined), batches(0, 1).batch(1, 0), strict=True):
        np.testing.assert_array_equal(ours, whole)


@pytest.mark.parametrize(("width", "height"), [(2000, 3), (3, 2000), (1, 1)])
def test_a_crop_of_an_extremely_long_picture_is_possible(tmp_path, width, height):
    path = str(tmp_path / "long.jpg")
    cv2.imwrite(path, np.full((height, width, 3), 200, np.uint8))
    long = batch(*[Photograph(path, width, height)] * 20)
    images = PhotographCrop(8, 0.35)(long, np.random.default_rng(0))
    np.testing.assert_allclose(images.astype(int), 200, atol=2)


def test_a_turned_photograph_is_cropped_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = str(tmp_path / "turned.jpg")
    halves = np.zeros((256, 512, 3), np.uint8)
    halves[:, :256] = 255  # the left, which is shown above
    Image.fromarray(halves).save(path, exif=exif)
    info = inspect([path])[path]
    assert (info.width, info.height) == (256, 512)
    crop = PhotographCrop(16, 0.9, ratio=(0.5, 0.5))
    images = crop(batch(*[Photograph(path, 256, 512)] * 8), np.random.default_rng(0))
    assert (images[:, 1] > 250).all()
    assert (images[:, -2] < 5).all()


def test_training_batches_are_crops_straight_from_the_files(data):
    def preprocess(images):
        return images / 255

    training = make_training(RECIPE, data, preprocess)
    assert isinstance(training, TrainingBatches)
    images, labels = training.batch(0, 0)
    assert images.shape == (8, SIZE, SIZE, 3)
    assert images.dtype == np.float32
    part = (data.val_images, data.val_labels)
    first, _ = make_evaluation(RECIPE, data, part, preprocess)[0]
    np.testing.assert_array_equal(first, np.float32(data.val_images[np.arange(8)] / 255))
    again, again_labels = make_training(RECIPE, data, preprocess).batch(0, 0)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, again_labels)
    assert not np.array_equal(images, training.batch(1, 0)[0])


def test_a_recipe_without_random_crops_trains_on_the_middle(data):
    recipe = Recipe(epochs=1, batch_size=20, learning_rate=0.1)
    images, labels = make_training(recipe, data, lambda images: images).batch(0, 0)
    order = np.lexsort(images.reshape(20, -1).T)
    expected = data.train_images[np.arange(20)]
    np.testing.assert_array_equal(images[order], expected[np.lexsort(expected.reshape(20, -1).T)])
    assert sorted(labels) == sorted(data.train_labels)


def test_a_network_is_for_images_of_the_size_with_the_mean_colour(data):
    network = Architecture("resnet", "imagenet", (1,), (4, 8))
    spec = network.spec(data.image_shape, data.label_names, data.mean)
    assert spec.image_shape == (SIZE, SIZE, 3)
    assert spec.build().output_shape == (None, 2)


def test_a_file_that_is_another_by_now_is_named(tmp_path):
    path = str(tmp_path / "a.jpg")
    cv2.imwrite(path, np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"a.jpg has changed .*: it was 32x24 pixels"):
        Photograph(path, 32, 24).decode()
    os.unlink(path)
    with pytest.raises(UserError, match=r"a.jpg cannot be read: No such file"):
        Photographs([Photograph(path, 64, 48)], 8)[np.array([0])]
