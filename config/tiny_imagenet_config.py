"""Every path and hyper-parameter of the Tiny ImageNet runs.

Experiments of the original: 1 is WATCHED over 70 epochs, 2 is DECAY over 75.
"""

from dataclasses import replace

from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
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
DATA = f"{DATASET}/{HDF5}"

NUM_CLASSES = 200  # as published; a data set of others in the same layout is built as well
IMAGE_SIZE = 64  # pixels, both ways

# The published test set has no labels: the test images are held out of the training images.
TEST_IMAGES_PER_CLASS = 50
SPLIT_SEED = 42

# 2,265,748 parameters.
NETWORK = Architecture("resnet", "tiny_imagenet", stages=(3, 4, 6), filters=(64, 128, 256, 512))

# What --recipe chooses from: the original's, and what has been found out since. A recipe without
# one of its parts is a copy that differs in that field: replace(MODERN, erasing=0).
FAITHFUL = Recipe(
    epochs=75,
    batch_size=64,
    learning_rate=0.1,
    reg=5e-4,
    module_reg=1e-4,  # as in the published runs
    momentum=0.9,
    nesterov=True,
    # Rotation and shear in degrees, zoom and shift as fractions of the image's size. The original
    # trained with Keras 2.1, which takes its 0.15 for radians, and the nearest pixels. (A run of an
    # earlier version goes on with a shear of 0.15 and without `nearest`.)
    affine={
        "rotation": 18,
        "zoom": 0.15,
        "shift": 0.2,
        "shear": 8.594,
        "flip": True,
        "nearest": True,
    },
)
MODERN = Recipe(
    epochs=100,
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
    ema=0.9995,
    crop_scale=0.35,
    flip="random",
    trivial_augment=0.5,
    erasing=0.1,
    plain_epochs=10,
)
# For few epochs: on 32 pixels at first, in the end on 56, evaluated on 64, as objects look larger
# in crops (arXiv:1906.06423).
FAST = replace(
    MODERN,
    epochs=42,
    batch_size=128,
    learning_rate=0.1,
    warmup_epochs=2,
    ema=0.998,
    growth={"first": 32 / 64, "last": 56 / 64, "since": 0.45, "until": 0.85, "step": 8},
    plain_epochs=4,
)
RECIPES = {
    "faithful": FAITHFUL,
    "modern": MODERN,
    "fast": FAST,
    "modern_cutmix": replace(MODERN, epochs=150, cutmix=0.3),
}

WATCHED = Experiment(
    name="resnet_tinyimagenet",
    datasets={"tiny_imagenet": "pipeline.io.hdf5datasetgenerator:read_hdf5_dataset"},
    architecture=NETWORK,
    recipes={"faithful": replace(FAITHFUL, epochs=70, schedule="constant")},
    watched=True,
    data=DATA,
    builder="build_tiny_imagenet.py",
    checkpoints="checkpoints_tinyimagenet",
    model="resnet_tinyimagenet.hdf5",
)
DECAY = replace(
    WATCHED,
    name="resnet_tinyimagenet_decay",
    recipes=RECIPES,
    watched=False,
    checkpoints="checkpoints_tinyimagenet_decay",
    model="resnet_tinyimagenet_decay.hdf5",
)
