"""Train ResNet-18 on CIFAR-10: the one written here, or a library's to compare it with.

  python resnet18_cifar10.py --model scratch
  python resnet18_cifar10.py --model keras_hub

SGD without momentum, no augmentation, pixels in 0..1. After 20 epochs the original had reached 98%
on the training images and 73.24% on the test images; --recipe augmented has the augmentation and
the falling learning rate that it named as the cure.
"""

import os
from dataclasses import replace

from config import resnet18_config as config
from pipeline.command_line import script
from pipeline.command_line.options import training_parser
from pipeline.command_line.training import parse_and_train
from pipeline.errors import UserError, require_packages


def main() -> None:
    # options
    first = next(iter(config.EXPERIMENTS))
    any_model = replace(config.EXPERIMENTS[first], checkpoints="checkpoints_resnet18_MODEL")
    parser = training_parser(__doc__, any_model)
    models = tuple(config.EXPERIMENTS)
    whose = "whose ResNet-18 to train (default: %(default)s)"
    parser.add_argument("-m", "--model", dest="family", choices=models, default=first, help=whose)
    args = parser.parse_args()

    packages, command = config.EXTRAS.get(args.family, ((), ""))
    require_packages(f"--model {args.family}", packages, command)
    if args.family == "torchvision":
        choose_torch()
    parse_and_train(parser, config.EXPERIMENTS[args.family])


def choose_torch() -> None:
    """Sets the one backend that torchvision's layers run on.

    Raises:
        UserError: the user has asked for another.
    """
    asked = os.environ.get("KERAS_BACKEND") or "torch"
    if asked != "torch":
        raise UserError(
            f"--model torchvision runs on PyTorch, and KERAS_BACKEND is {asked}: leave it out, or "
            "set it to torch"
        )
    os.environ["KERAS_BACKEND"] = asked


if __name__ == "__main__":
    script.run(main)
