"""Every path and hyper-parameter of the ImageNet runs (ILSVRC 2012, 1,000 classes)."""

from dataclasses import replace

from config.images_config import NETWORKS
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe

# The data set as it is distributed, from the folder the script is started in.
DATASET = "../datasets/imagenet"
HDF5 = "hdf5"  # below DATASET: what build_imagenet.py makes of it
DATA = f"{DATASET}/{HDF5}"

IMAGE_SIZE = 224  # pixels, both ways
CENTRE = 224 / 256  # share of a picture's shorter side that is evaluated on, in its middle

# What --recipe chooses from. The classical one is that of arXiv:1706.02677, with the standard
# momentum that it finds as good as Nesterov's, but for a learning rate that falls along a cosine;
# L2 of 5e-5 is a weight decay of 1e-4.
CLASSICAL = Recipe(
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    reg=5e-5,
    module_reg=5e-5,
    momentum=0.9,
    schedule="cosine",
    warmup_epochs=5,
    zero_init=True,
    crop_scale=0.08,
    flip="random",
)
# After ffcv's of 16 epochs (arXiv:2306.12517): on 160 pixels, in the end on 192; evaluated on 224.
# Its learning rate is 1.7 for a batch of 8 x 512 images.
FAST = replace(
    CLASSICAL,
    epochs=16,
    learning_rate=0.106,
    label_smoothing=0.1,
    growth={"first": 160 / 224, "last": 192 / 224, "since": 0.65, "until": 0.8},
)

EXPERIMENT = Experiment(
    name="resnet_imagenet",
    datasets={"imagenet": "pipeline.io.photographfolder:read_photograph_folder"},
    architecture=NETWORKS["resnet50"],
    networks=NETWORKS,
    recipes={"classical": CLASSICAL, "fast": FAST},
    data=DATA,
    builder="build_imagenet.py",
    size=IMAGE_SIZE,
    centre=CENTRE,
    holdout=0.04,
    checkpoints="checkpoints_imagenet",
    model="resnet_imagenet.hdf5",
)
