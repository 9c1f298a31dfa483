"""Every path and hyper-parameter of the ResNet-18 runs, as the original had them."""

from config import cifar10_config

DATASETS = cifar10_config.DATASETS
AUGMENTATION = cifar10_config.AUGMENTATION  # with --augment; the original had none

# Whose ResNet-18, and its family in a `NetworkSpec`: the one written here first. A library's needs
# packages of its own.
FAMILIES = {"scratch": "resnet18", "keras_hub": "keras_hub", "torchvision": "torchvision"}
MODELS = tuple(FAMILIES)
EXTRAS = {
    "keras_hub": (("keras_hub",), "pip install -r requirements-keras-hub.txt"),
    "torchvision": (("torch", "torchvision"), "pip install torch torchvision"),
}

# SGD without momentum, as the options' defaults.
SCHEDULES = ("constant", "linear")
TRAINING = {
    "epochs": 20,
    "batch_size": 64,
    "learning_rate": 0.01,
    "model": MODELS[0],
    "schedule": SCHEDULES[0],
    "augment": False,
}

# Paths, from the folder the script is started in.
OUTPUT = "output"
CHECKPOINTS = "checkpoints_resnet18_{model}"  # below the output folder
