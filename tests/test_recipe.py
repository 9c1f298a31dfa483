from dataclasses import fields, replace

import pytest

from config import cifar10_config, tiny_imagenet_config
from pipeline.training.recipe import Recipe

CONFIGS = [cifar10_config, tiny_imagenet_config]
PLAIN = Recipe(1, 8, 0.1, reg=0, module_reg=0, momentum=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_faithful_recipe_is_the_originals(config):
    faithful = config.RECIPES["faithful"]
    parts = {f.name for f in fields(Recipe) if getattr(faithful, f.name) != getattr(PLAIN, f.name)}
    assert parts <= {
        *("epochs", "batch_size", "learning_rate", "reg", "module_reg", "momentum", "nesterov"),
        "affine",
    }
    assert (faithful.reg, faithful.module_reg, faithful.momentum) == (5e-4, 1e-4, 0.9)


def test_labels_become_one_hot_where_they_are_no_longer_one_class():
    assert not PLAIN.one_hot
    assert replace(PLAIN, label_smoothing=0.1).one_hot
    assert replace(PLAIN, cutmix=0.3).one_hot


def test_a_recipe_can_be_freed_of_mirror_images():
    assert cifar10_config.MODERN.unmirrored() == replace(cifar10_config.MODERN, flip="")
    faithful = cifar10_config.FAITHFUL.unmirrored()
    assert faithful.affine == {"shift": 0.1, "flip": False}


def test_a_part_that_does_not_exist_is_refused():
    with pytest.raises(TypeError):
        replace(PLAIN, cutuot=12)
    with pytest.raises(ValueError, match="not 'alternate'"):
        replace(PLAIN, flip="alternate")
    with pytest.raises(ValueError, match=r"growth .* needs a crop_scale below 1"):
        replace(PLAIN, growth={"first": 0.5, "last": 1, "since": 0, "until": 1})
    with pytest.raises(ValueError, match="not 'exponential'"):
        replace(PLAIN, schedule="exponential")


def test_only_a_cosine_has_a_warm_up():
    with pytest.raises(ValueError, match="warmup_epochs 5 needs the schedule 'cosine'"):
        replace(PLAIN, warmup_epochs=5)
    replace(PLAIN, warmup_epochs=5, schedule="cosine")


def test_images_are_not_mirrored_twice():
    affine = {"shift": 0.1, "flip": True}
    with pytest.raises(ValueError, match="'flip': True} and flip 'random' would both mirror"):
        replace(PLAIN, affine=affine, flip="random")
    replace(PLAIN, affine={**affine, "flip": False}, flip="random")
    replace(PLAIN, affine=affine)
