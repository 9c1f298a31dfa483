"""A toy data set of 8x8 images and an experiment that trains on it in a second."""

from dataclasses import replace

import numpy as np

from pipeline.io.dataset import Dataset
from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe

NAMES = ("ant", "bee", "cat", "dog")
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=0.1, schedule="constant")
NETWORK = Architecture("resnet", "cifar10", stages=(1,), filters=(4, 8))


def read(path: str | None = None) -> Dataset:
    """Makes 24 images, the brighter the higher their label, to train on and to evaluate on."""
    labels = np.arange(24, dtype=np.int32) % 4
    noise = np.random.default_rng(3).integers(0, 64, (24, 8, 8, 3), dtype=np.uint8)
    images = (noise + 48 * labels[:, None, None, None]).astype(np.uint8)
    return Dataset(images, labels, images, labels, NAMES, val_part="test set")


def experiment(recipe: Recipe = RECIPE, reader=read, **settings) -> Experiment:
    """An experiment on the toy data set; fields of the recipe or the experiment can be given."""
    of_recipe = {name: settings.pop(name) for name in list(settings) if hasattr(recipe, name)}
    recipes = {"plain": replace(recipe, **of_recipe)}
    settings = {"watched": True, **settings}
    return Experiment("toy", {"toy": reader}, NETWORK, recipes, **settings)
