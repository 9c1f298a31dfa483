"""Every path and hyper-parameter of the CIFAR-10 runs.

Experiments of the original: 1 is FILTERS (16, 16, 32, 64) and 2 is (64, 64, 128, 256), both CTRL_C;
3 and 4 are FAITHFUL over 120 and 150 epochs.
"""

from pipeline.training.recipe import Recipe

# Data sets, the default first; the digits come with scikit-learn and need no download.
DATASETS = ("cifar10", "digits")

# Network: ResNet-56 of the original, 886,102 parameters.
SPEC = {"family": "resnet", "stem": "cifar10"}
STAGES = (9, 9, 9)
FILTERS = (64, 64, 128, 256)
REG = 5e-4  # L2 of the stem and the classifier
MODULE_REG = 1e-4  # L2 of the residual modules, as in the published runs

# Optimizer
MOMENTUM = 0.9

# The two ways of training, as the options' defaults; epochs, batch size and learning rate of the
# second are its recipe's.
NETWORK = {"stages": STAGES, "filters": FILTERS}
CTRL_C = {"epochs": 85, "batch_size": 64, "learning_rate": 0.1, **NETWORK}
DECAY = {"recipe": "faithful", **NETWORK}
POWER = 1.0  # of the polynomial decay

# Augmentation, as a fraction of the image's size. A mirrored digit is no digit.
AUGMENTATION = {
    "cifar10": {"shift": 0.1, "flip": True},
    "digits": {"shift": 0.1},
}

# What --recipe chooses from: the original's, and what has been found out since. One that leaves a
# part out is a copy that differs in that field: replace(MODERN, cutout=0).
FAITHFUL = Recipe(
    epochs=150,
    batch_size=128,
    learning_rate=0.1,
    reg=REG,
    module_reg=MODULE_REG,
    momentum=MOMENTUM,
    affine=AUGMENTATION["cifar10"],
)
MODERN = Recipe(
    epochs=200,
    batch_size=256,
    learning_rate=0.2,
    reg=2.5e-4,
    module_reg=2.5e-4,
    momentum=MOMENTUM,
    nesterov=True,
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
RECIPES = {"faithful": FAITHFUL, "modern": MODERN}

# Paths, from the folder the script is started in.
OUTPUT = "output"
CHECKPOINTS = "checkpoints"  # below the output folder
DECAY_CHECKPOINTS = "checkpoints_decay"
DECAY_MODEL = "resnet_cifar10.hdf5"
