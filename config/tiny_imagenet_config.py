"""Every path and hyper-parameter of the Tiny ImageNet runs.

Experiments of the original: 1 is CTRL_C over 70 epochs, 2 is FAITHFUL over 75.
"""

from dataclasses import replace

from pipeline.training.recipe import Recipe

# The data set as it is distributed, from the folder the script is started in.
DATASET = "../datasets/tiny-imagenet-200"
TRAIN_IMAGES = "train"  # below DATASET, like the next four
VAL_IMAGES = "val/images"
VAL_MAPPINGS = "val/val_annotations.txt"
WORDNET_IDS = "wnids.txt"
WORD_LABELS = "words.txt"

# What build_tiny_imagenet.py makes of it.
HDF5 = "hdf5"  # below DATASET
TRAIN_HDF5 = "train.hdf5"  # below HDF5, like the next three
VAL_HDF5 = "val.hdf5"
TEST_HDF5 = "test.hdf5"
DATASET_MEAN = "mean.json"

NUM_CLASSES = 200
IMAGE_SIZE = 64  # pixels, both ways

# The published test set has no labels: the test images are held out of the training images.
TEST_IMAGES_PER_CLASS = 50
NUM_TEST_IMAGES = TEST_IMAGES_PER_CLASS * NUM_CLASSES
SPLIT_SEED = 42

# Network: 2,265,748 parameters.
SPEC = {
    "family": "resnet",
    "stem": "tiny_imagenet",
    "image_shape": (IMAGE_SIZE, IMAGE_SIZE, 3),
}
STAGES = (3, 4, 6)
FILTERS = (64, 128, 256, 512)
REG = 5e-4  # L2 of the stem and the classifier
MODULE_REG = 1e-4  # L2 of the residual modules, as in the published runs

# Optimizer
MOMENTUM = 0.9
NESTEROV = True

# The two ways of training, as the options' defaults; epochs, batch size and learning rate of the
# second are its recipe's.
NETWORK = {"stages": STAGES, "filters": FILTERS}
DATA = {"hdf5": f"{DATASET}/{HDF5}"}
CTRL_C = {"epochs": 70, "batch_size": 64, "learning_rate": 0.1, **NETWORK, **DATA}
DECAY = {"recipe": "faithful", **NETWORK, **DATA}
POWER = 1.0  # of the polynomial decay

# Augmentation: rotation and shear in degrees, zoom and shift as fractions of the image's size.
AUGMENTATION = {"rotation": 18, "zoom": 0.15, "shift": 0.2, "shear": 0.15, "flip": True}

# What --recipe chooses from: the original's, and what has been found out since. One that leaves a
# part out is a copy that differs in that field: replace(MODERN, erasing=0).
FAITHFUL = Recipe(
    epochs=75,
    batch_size=64,
    learning_rate=0.1,
    reg=REG,
    module_reg=MODULE_REG,
    momentum=MOMENTUM,
    nesterov=NESTEROV,
    affine=AUGMENTATION,
)
MODERN = Recipe(
    epochs=100,
    batch_size=256,
    learning_rate=0.2,
    reg=2.5e-4,
    module_reg=2.5e-4,
    momentum=MOMENTUM,
    nesterov=True,
    warmup_epochs=5,
    label_smoothing=0.1,
    zero_init=True,
    ema=0.9995,
    crop_scale=0.35,
    flip="random",
    trivial_augment=0.5,
    erasing=0.1,
    plain_epochs=10,
)
RECIPES = {
    "faithful": FAITHFUL,
    "modern": MODERN,
    "modern_cutmix": replace(MODERN, epochs=150, cutmix=0.3),
}

# Paths, from the folder the script is started in.
OUTPUT = "output"
CHECKPOINTS = "checkpoints_tinyimagenet"  # below the output folder
DECAY_CHECKPOINTS = "checkpoints_tinyimagenet_decay"
DECAY_MODEL = "resnet_tinyimagenet_decay.hdf5"
MODEL = f"{OUTPUT}/{DECAY_MODEL}"  # the model that rank_accuracy.py evaluates
