import inspect
import sys
from dataclasses import replace

import pytest

import train_decay
from config import tiny_imagenet_config as config
from pipeline.errors import UserError
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


def test_a_recipe_that_holds_images_out_is_refused(monkeypatch, tmp_path):
    """Recorded, it would say that the run did without them."""
    monkeypatch.setitem(config.RECIPES, "modern", replace(config.MODERN, holdout=5000))
    monkeypatch.setattr(sys, "argv", ["train_decay.py", "--recipe", "modern", "-o", str(tmp_path)])
    with pytest.raises(UserError, match="--recipe modern holds out 5000 training images, and Tiny"):
        train_decay.main()
    assert not list(tmp_path.iterdir())
