"""The augmentation of a recipe."""

from typing import Any

from pipeline.preprocessing.affineaugmenter import AffineAugmenter
from pipeline.preprocessing.alternatingflip import AlternatingFlip
from pipeline.preprocessing.cutmix import CutMix
from pipeline.preprocessing.cutout import Cutout
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
from pipeline.preprocessing.randomcrop import RandomCrop
from pipeline.preprocessing.randomerasing import RandomErasing
from pipeline.preprocessing.randomflip import RandomFlip
from pipeline.preprocessing.randomresizedcrop import RandomResizedCrop
from pipeline.preprocessing.trivialaugment import TrivialAugment
from pipeline.training.recipe import Recipe


def augmentation(
    recipe: Recipe, mean: MeanPreprocessor, count: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Returns what `TrainingBatches` does to the images by a recipe, as its arguments.

    Args:
        recipe: which parts there are.
        mean: centres the images.
        count: number of training images.
        epochs: length of the run.
        seed: of the run.
    """
    plain = epochs - recipe.plain_epochs
    steps = []
    if recipe.crop_padding:
        steps.append(RandomCrop(recipe.crop_padding))
    if recipe.crop_scale < 1:
        steps.append(RandomResizedCrop(recipe.crop_scale))
    if recipe.flip:
        alternating = recipe.flip == "alternating"
        steps.append(AlternatingFlip(count, seed) if alternating else RandomFlip())
    if recipe.trivial_augment:
        steps.append(TrivialAugment(recipe.trivial_augment, until=plain))
    steps.append(mean)
    if recipe.affine:
        steps.append(AffineAugmenter(**recipe.affine))
    if recipe.cutout:
        steps.append(Cutout(recipe.cutout))
    if recipe.erasing:
        steps.append(RandomErasing(recipe.erasing, until=plain))
    mixer = CutMix(recipe.cutmix, recipe.cutmix_alpha, until=plain) if recipe.cutmix else None
    return {"preprocessors": steps, "mixer": mixer}
