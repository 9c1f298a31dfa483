from dataclasses import replace

import numpy as np
import pytest

from config import cifar10_config, tiny_imagenet_config
from pipeline.augmentation.geometry import AffineAugmenter
from pipeline.backend.devices import Devices
from pipeline.batches import TrainingBatches
from pipeline.io.dataset import Dataset
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
from pipeline.training.assembly import make_training

COUNT, EPOCHS = 24, 30
RECIPES = {
    "cifar10": cifar10_config.MODERN,
    "tiny_imagenet": tiny_imagenet_config.RECIPES["modern_cutmix"],
}
ORIGINAL = tiny_imagenet_config.FAITHFUL


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def devices(process, processes):
    return Devices(("CPU",) * processes, processes, process)


def batches(photos, recipe, workers=1, start_epoch=0, seed=5, devices=None):
    labels = np.arange(COUNT) % 4
    data = Dataset(photos, labels, photos, labels, ("ant", "bee", "cat", "dog"))
    preprocess = MeanPreprocessor(data.mean).preprocess
    recipe = replace(recipe, batch_size=8, epochs=EPOCHS)
    return make_training(recipe, data, preprocess, seed, start_epoch, workers, devices)


def assert_same(batch, other):
    for ours, theirs in zip(batch, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def epoch(batches, number):
    """The images of an epoch, in the data set's order."""
    order = batches._order(number)
    images = np.concatenate([batches.batch(number, index)[0] for index in range(3)])
    return images[np.argsort(order)]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_batch_depends_on_nothing_but_seed_epoch_and_index(recipe, workers, photos):
    before = photos.copy()
    ahead = batches(photos, recipe, workers, start_epoch=1)
    expected = batches(photos, recipe)
    for number in [*range(6), 2, 50, 0]:
        assert_same(ahead[number], expected.batch(1 + number // 3, number % 3))
    np.testing.assert_array_equal(photos, before)
    assert not np.array_equal(expected.batch(0, 0)[0], batches(photos, recipe, seed=6)[0][0])


@pytest.mark.parametrize("recipe", [*RECIPES.values(), ORIGINAL], ids=[*RECIPES, "original"])
@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_that_processes_make_of_a_batch_are_the_batch(recipe, parts, photos):
    recipe = replace(recipe, trivial_augment=recipe.trivial_augment and 1.0)
    whole = batches(photos, recipe)
    shares = [batches(photos, recipe, devices=devices(part, parts)) for part in range(parts)]
    for place in [(0, 0), (0, 1), (1, 2), (2, 0), (EPOCHS - 1, 1)]:
        joined = zip(*(share.batch(*place) for share in shares), strict=True)
        assert_same(map(np.concatenate, joined), whole.batch(*place))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_how_the_images_lie_in_memory_changes_nothing(recipe, photos):
    recipe = replace(recipe, crop_padding=0, crop_scale=1.0)  # which would put them in order
    channels_first = np.ascontiguousarray(photos.transpose(0, 3, 1, 2))
    for number in range(6):
        ours = batches(channels_first.transpose(0, 2, 3, 1), recipe).batch(number, 0)
        assert_same(ours, batches(photos, recipe).batch(number, 0))


def test_the_faithful_order_is_the_mean_then_the_affine_transform(photos):
    recipe = cifar10_config.FAITHFUL
    mean = MeanPreprocessor.of_images(photos)
    steps = [lambda images, rng: mean.preprocess(images), AffineAugmenter(shift=0.1, flip=True)]
    expected = TrainingBatches(photos, np.arange(COUNT) % 4, 8, steps, seed=5)
    for place in [(0, 0), (3, 2)]:
        assert_same(batches(photos, recipe).batch(*place), expected.batch(*place))


def test_without_any_part_images_are_only_centred(photos):
    plain = replace(cifar10_config.FAITHFUL, affine={})
    images = epoch(batches(photos, plain), 0)
    np.testing.assert_array_equal(images, MeanPreprocessor.of_images(photos).preprocess(photos))


def test_trivial_augment_works_on_pixels_and_cutout_on_centred_images(photos):
    recipe = replace(cifar10_config.MODERN, crop_padding=0, flip="")
    mean = MeanPreprocessor.of_images(photos).mean
    images = epoch(batches(photos, recipe), 0)
    cut = (images == 0).all(axis=3)
    assert cut.sum(axis=(1, 2)).min() >= 36
    pixels = images + mean
    np.testing.assert_allclose(pixels[~cut], np.rint(pixels[~cut]), atol=1e-3)


def unlike(images, photos):
    """How many images are neither the photo nor its mirror image, but for what was cut out."""
    images = images + MeanPreprocessor.of_images(photos).mean
    same = [
        (np.isclose(images, other, atol=0.01).mean(axis=(1, 2, 3)) > 0.8)
        for other in (photos, photos[:, :, ::-1])
    ]
    return COUNT - (same[0] | same[1]).sum()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_last_epochs_are_plain(recipe, photos):
    recipe = replace(recipe, crop_padding=0, crop_scale=1.0, cutmix=recipe.cutmix and 1.0)
    ours = batches(photos, recipe)
    last_wild = EPOCHS - recipe.plain_epochs - 1
    assert unlike(epoch(ours, last_wild), photos) > 3
    for number in (last_wild + 1, EPOCHS - 1):
        assert unlike(epoch(ours, number), photos) == 0
        assert set(np.unique(ours.batch(number, 0)[1])) == {0, 1}
    # CIFAR-10 keeps its cutout to the end, random erasing rests.
    cut = (epoch(ours, EPOCHS - 1) == 0).all(axis=3).sum(axis=(1, 2)) > 4
    assert cut.all() == (recipe.cutout > 0)
    assert cut.any() == (recipe.cutout > 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_padding", 4),
        ("crop_scale", 0.35),
        ("flip", "random"),
        ("flip", "alternating"),
        ("trivial_augment", 0.5),
        ("cutout", 12),
        ("erasing", 0.9),
        ("cutmix", 1.0),
        ("affine", {"rotation": 9}),
    ],
)
def test_each_part_is_one_field(field, value, photos):
    plain = replace(cifar10_config.FAITHFUL, affine={})
    changed = epoch(batches(photos, replace(plain, **{field: value})), 0)
    assert not np.array_equal(changed, epoch(batches(photos, plain), 0))
