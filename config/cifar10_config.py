"""Every path and hyper-parameter of the CIFAR-10 runs.

Experiments of the original: 1 and 2 are WATCHED with the filters 16-16-32-64 and 64-64-128-256; 3
and 4 are DECAY over 120 and 150 epochs.
"""

from dataclasses import replace

from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe

# Data sets, the default first; the digits come with scikit-learn and need no download.
DATASETS = {
    "cifar10": "pipeline.io.cifar10:read_cifar10",
    "digits": "pipeline.io.digits:read_digits",
}

# ResNet-56 of the original, 886,102 parameters.
NETWORK = Architecture("resnet", "cifar10", stages=(9, 9, 9), filters=(64, 64, 128, 256))

# What --recipe chooses from: the original's, and what has been found out since. A recipe without
# one of its parts is a copy that differs in that field: replace(MODERN, cutout=0).
FAITHFUL = Recipe(
    epochs=150,
    batch_size=128,
    learning_rate=0.1,
    reg=5e-4,
    module_reg=1e-4,  # as in the published runs
    momentum=0.9,
    affine={"shift": 0.1, "flip": True},  # shift is a fraction of the image's size
)
MODERN = Recipe(
    epochs=200,
    batch_size=256,
    learning_rate=0.2,
    reg=2.5e-4,
    module_reg=2.5e-4,
    momentum=0.9,
    nesterov=True,
    schedule="cosine",
    warmup_epochs=5,
    label_smoothing=0.1,
    zero_init=True,
    ema=0.999,
    crop_padding=4,
    flip="alternating",
    trivial_augment=0.5,
    cutout=12,
    plain_epochs=15,
)
# For few epochs.
FAST = replace(
    MODERN,
    epochs=56,
    warmup_epochs=2,
    ema=0.99,
    trivial_augment=0.0,
    cutout=8,
    plain_epochs=0,
)
RECIPES = {"faithful": FAITHFUL, "modern": MODERN, "fast": FAST}

WATCHED = Experiment(
    name="resnet_cifar10",
    datasets=DATASETS,
    architecture=NETWORK,
    recipes={"faithful": replace(FAITHFUL, epochs=85, batch_size=64, schedule="constant")},
    watched=True,
    model="resnet_cifar10_watched.hdf5",
)
DECAY = Experiment(
    name="resnet_cifar10_decay",
    datasets=DATASETS,
    architecture=NETWORK,
    recipes=RECIPES,
    checkpoints="checkpoints_decay",
    model="resnet_cifar10.hdf5",
)
