"""Every path and hyper-parameter of the ResNet-18 runs, as the original had them."""

from dataclasses import replace

from config import cifar10_config
from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe

# Whose ResNet-18, and its family in an `Architecture`: the one written here first.
FAMILIES = {"scratch": "resnet18", "keras_hub": "keras_hub", "torchvision": "torchvision"}
# What a library's network needs: the packages, and the command that installs them.
EXTRAS = {
    "keras_hub": (("keras_hub",), "pip install '.[keras-hub]'"),
    "torchvision": (("torch", "torchvision"), "pip install torch torchvision"),
}

FAITHFUL = Recipe(
    epochs=20,
    batch_size=64,
    learning_rate=0.01,
    reg=0.0,
    module_reg=0.0,
    momentum=0.0,
    schedule="constant",
)
# What --recipe chooses from: the original's, plain SGD, and with what the original named as the
# cure for its wide swings in validation.
RECIPES = {
    "faithful": FAITHFUL,
    "augmented": replace(FAITHFUL, schedule="polynomial", affine=cifar10_config.FAITHFUL.affine),
}

EXPERIMENTS = {
    model: Experiment(
        name=f"resnet18_cifar10_{model}",
        datasets=cifar10_config.DATASETS,
        architecture=Architecture(family),
        recipes=RECIPES,
        centred=False,
        checkpoints=f"checkpoints_resnet18_{model}",
    )
    for model, family in FAMILIES.items()
}
