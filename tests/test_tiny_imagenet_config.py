import inspect

from config import tiny_imagenet_config as config
from pipeline.nn.conv import ResNet
from pipeline.preprocessing.affineaugmenter import AffineAugmenter


def test_the_network_is_the_originals():
    model = ResNet.build(
        config.IMAGE_SIZE,
        config.IMAGE_SIZE,
        3,
        config.NUM_CLASSES,
        config.STAGES,
        config.FILTERS,
        dataset="tiny_imagenet",
    )
    assert model.count_params() == 2_265_748


def test_the_split_is_the_originals():
    assert config.NUM_TEST_IMAGES == 10_000
    assert config.SPLIT_SEED == 42


def test_the_augmentation_fits_the_augmenter():
    assert set(config.AUGMENTATION) == set(inspect.signature(AffineAugmenter).parameters)
    AffineAugmenter(**config.AUGMENTATION)
