import inspect

from config import tiny_imagenet_config as config
from pipeline.augmentation.geometry import AffineAugmenter


def test_the_network_is_the_originals():
    names = tuple(map(str, range(config.NUM_CLASSES)))
    spec = config.NETWORK.spec((config.IMAGE_SIZE, config.IMAGE_SIZE, 3), names, mean=None)
    assert spec.build().count_params() == 2_265_748


def test_the_split_is_the_originals():
    assert config.TEST_IMAGES_PER_CLASS * config.NUM_CLASSES == 10_000
    assert config.SPLIT_SEED == 42


def test_the_augmentation_fits_the_augmenter():
    assert set(config.FAITHFUL.affine) == set(inspect.signature(AffineAugmenter).parameters)
    AffineAugmenter(**config.FAITHFUL.affine)
