"""Every hyper-parameter of training on a folder of photographs."""

from dataclasses import replace

from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe

FILTERS = (64, 256, 512, 1024, 2048)
# What --network chooses from, the default first. ResNet-50's is that of the papers; for 1,000
# classes it has 25,595,060 parameters.
NETWORKS = {
    "resnet26": Architecture("resnet", "imagenet", stages=(2, 2, 2, 2), filters=FILTERS),
    "resnet50": Architecture("resnet", "imagenet", stages=(3, 4, 6, 3), filters=FILTERS),
    "resnet101": Architecture("resnet", "imagenet", stages=(3, 4, 23, 3), filters=FILTERS),
}

# What --recipe chooses from: what a few hundred or thousand pictures take, and with more
# augmentation and averages of the weights, for more pictures and more epochs.
PLAIN = Recipe(
    epochs=40,
    batch_size=32,
    learning_rate=0.05,
    reg=1e-4,
    module_reg=1e-4,
    momentum=0.9,
    nesterov=True,
    schedule="cosine",
    warmup_epochs=2,
    label_smoothing=0.1,
    zero_init=True,
    crop_scale=0.35,
    flip="random",
)
MODERN = replace(
    PLAIN,
    epochs=100,
    batch_size=64,
    learning_rate=0.1,
    warmup_epochs=5,
    ema=0.999,
    trivial_augment=0.5,
    erasing=0.1,
    plain_epochs=10,
)

FOLDER = Experiment(
    name="resnet_images",
    datasets={"images": "pipeline.io.photographfolder:read_photograph_folder"},
    architecture=NETWORKS["resnet26"],
    networks=NETWORKS,
    recipes={"plain": PLAIN, "modern": MODERN},
    size=128,
    holdout=0.2,
    checkpoints="checkpoints_images",
    model="resnet_images.hdf5",
)
# Without pictures: crops of two photographs, and a small network that learns them in a minute.
SAMPLE = replace(
    FOLDER,
    architecture=Architecture("resnet", "imagenet", stages=(1, 1), filters=(16, 32, 64)),
    recipes={
        "plain": replace(PLAIN, epochs=8, batch_size=16),
        "modern": replace(MODERN, epochs=16, batch_size=16),
    },
    size=64,
)
