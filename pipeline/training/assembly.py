"""What a recipe comes to: batches, optimizer, loss and learning rate."""

import keras
import numpy as np

from pipeline.augmentation.erasing import Cutout, RandomErasing
from pipeline.augmentation.geometry import (
    AffineAugmenter,
    AlternatingFlip,
    PhotographCrop,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Size,
)
from pipeline.augmentation.mixing import CutMix
from pipeline.augmentation.trivialaugment import TrivialAugment
from pipeline.backend.devices import Devices
from pipeline.batches import Augment, EvaluationBatches, Preprocess, TrainingBatches
from pipeline.io.dataset import Dataset, Images
from pipeline.io.photographs import Photographs
from pipeline.nn.spec import NetworkSpec
from pipeline.training.averaging import average_by_step
from pipeline.training.classifier import Classifier
from pipeline.training.recipe import Recipe
from pipeline.training.schedule import (
    Schedule,
    constant,
    growing_size,
    polynomial_decay,
    warmup_cosine,
)


def augmentation(recipe: Recipe, preprocess: Preprocess, count: int, seed: int) -> list[Augment]:
    """Returns the steps from a recipe's images, uint8, to what the network is trained on.

    Args:
        recipe: which steps there are, and how many epochs the run has; its `crop_scale` is not one
            of them.
        preprocess: what is done to images in evaluation as well.
        count: number of training images.
        seed: of the run.
    """
    plain = recipe.first_plain_epoch
    steps: list[Augment] = []
    if recipe.crop_padding:
        steps.append(RandomCrop(recipe.crop_padding))
    if recipe.flip:
        alternating = recipe.flip == "alternating"
        steps.append(AlternatingFlip(count, seed) if alternating else RandomFlip())
    if recipe.trivial_augment:
        steps.append(TrivialAugment(recipe.trivial_augment, until=plain))
    steps.append(lambda images, rng: preprocess(images))
    if recipe.affine:
        steps.append(AffineAugmenter(**recipe.affine))
    if recipe.cutout:
        steps.append(Cutout(recipe.cutout))
    if recipe.erasing:
        steps.append(RandomErasing(recipe.erasing, until=plain))
    return steps


def _random_resized_crop(recipe: Recipe, data: Dataset) -> tuple[Images, list[Augment]]:
    """Returns the images to train on, and the step that crops them by the recipe's `crop_scale`."""
    images = data.train_images
    if recipe.crop_scale == 1:
        return images, []
    height, width = images.shape[1:3]
    size: Size | None = None
    if recipe.growth:
        if height != width or data.mean.ndim > 1:
            raise ValueError(
                "only square images with a mean colour can grow, not "
                f"{height}x{width} with a mean of shape {data.mean.shape}"
            )
        size = growing_size(height, recipe.epochs, **recipe.growth)
    if isinstance(images, Photographs):
        # Cropped as they are decoded: no pixel is lost before, nor decoded in vain.
        return images.files, [PhotographCrop(size or height, recipe.crop_scale)]
    return images, [RandomResizedCrop(recipe.crop_scale, size=size)]


def make_training(
    recipe: Recipe,
    data: Dataset,
    preprocess: Preprocess,
    seed: int = 0,
    start_epoch: int = 0,
    workers: int = 1,
    devices: Devices | None = None,
    start_batch: int = 0,
) -> TrainingBatches:
    """Makes the batches to train a run on.

    Args:
        recipe: their size, the augmentation, and what labels look like.
        data: the images.
        preprocess: turns images into what the network takes.
        seed: of the run.
        start_epoch: epochs already trained.
        workers: threads that make batches ahead.
        devices: that divide every batch among them.
        start_batch: batches already trained of the epoch after `start_epoch`.

    Raises:
        ValueError: the recipe has images grow that are not square, or have a mean image.
    """
    devices = devices or Devices()
    classes = len(data.label_names) if recipe.one_hot else None
    plain = recipe.first_plain_epoch
    images, crop = _random_resized_crop(recipe, data)
    return TrainingBatches(
        images,
        data.train_labels,
        recipe.batch_size,
        [*crop, *augmentation(recipe, preprocess, len(images), seed)],
        seed=seed,
        start_epoch=start_epoch,
        workers=workers,
        classes=classes,
        mixer=CutMix(recipe.cutmix, recipe.cutmix_alpha, until=plain) if recipe.cutmix else None,
        share=devices.share,
        start_batch=start_batch,
    )


def make_evaluation(
    recipe: Recipe,
    data: Dataset,
    part: tuple[Images, np.ndarray],
    preprocess: Preprocess,
    workers: int = 1,
    devices: Devices | None = None,
) -> EvaluationBatches:
    """Makes the batches to evaluate a run on.

    Args:
        recipe: their size, and what labels look like.
        data: what the images are of.
        part: images and labels.
        preprocess, workers, devices: as for `make_training`.
    """
    devices = devices or Devices()
    return EvaluationBatches(
        *part,
        recipe.batch_size,
        preprocess,
        workers,
        len(data.label_names) if recipe.one_hot else None,
        padded=devices.count > 1,
        share=devices.share,
    )


def make_classifier(
    recipe: Recipe, spec: NetworkSpec, steps_per_epoch: int
) -> tuple[Classifier, Schedule | None]:
    """Builds a network with new weights, ready to be trained by a recipe.

    Args:
        recipe: regularization, optimizer, loss and learning rate.
        spec: the network.
        steps_per_epoch: training batches an epoch.

    Returns:
        The classifier, and its learning rate by epoch, None where the optimizer has one by step.
    """
    schedule: Schedule | None = None
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "constant":
        schedule = constant
    elif recipe.schedule == "polynomial":
        schedule = polynomial_decay(recipe.learning_rate, recipe.epochs, recipe.power)
    else:
        warmup_steps = (recipe.warmup_epochs or 0) * steps_per_epoch
        rate = warmup_cosine(recipe.learning_rate, recipe.epochs * steps_per_epoch, warmup_steps)
    optimizer = keras.optimizers.SGD(
        rate,
        momentum=float(recipe.momentum),
        nesterov=recipe.nesterov,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema,
    )
    if recipe.ema:
        average_by_step(optimizer)
    network = spec.build(**_network_settings(recipe, spec))
    classifier = Classifier(
        network,
        optimizer,
        recipe.one_hot,
        recipe.label_smoothing,
        spec,
        sizes_vary=bool(recipe.growth),
    )
    return classifier, schedule


def _network_settings(recipe: Recipe, spec: NetworkSpec) -> dict:
    if spec.family != "resnet":  # the original's ResNet-18 has no regularization
        return {}
    return {"reg": recipe.reg, "module_reg": recipe.module_reg, "zero_init": recipe.zero_init}
