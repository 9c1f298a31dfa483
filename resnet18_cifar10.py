"""Train ResNet-18 on CIFAR-10: the one written here, or a library's to compare it with.

  python resnet18_cifar10.py --model scratch
  python resnet18_cifar10.py --model keras_hub
  python resnet18_cifar10.py --compare

SGD without momentum, no augmentation, pixels in 0..1. After 20 epochs the original had reached 98%
on the training images and 73.24% on the test images; --recipe augmented has the augmentation and
the falling learning rate that it named as the cure.
"""

import importlib.util
import os
from pathlib import Path

from config import resnet18_config as config
from pipeline.command_line import script
from pipeline.command_line.options import training_parser
from pipeline.command_line.training import parse_and_train
from pipeline.errors import UserError, one_line
from pipeline.files.resultfiles import ResultFiles


def main() -> None:
    # options
    first = next(iter(config.EXPERIMENTS))
    parser = training_parser(__doc__, config.EXPERIMENTS[first])
    add = parser.add_argument
    models = tuple(config.EXPERIMENTS)
    whose = "whose ResNet-18 to train (default: %(default)s)"
    add("-m", "--model", dest="family", choices=models, default=first, help=whose)
    add("--compare", action="store_true", help="compare the runs in OUTPUT instead of training")
    args = parser.parse_args()

    if args.compare:
        names = {model: experiment.name for model, experiment in config.EXPERIMENTS.items()}
        compare(Path(args.output), names)
        return
    require_packages(args.family)
    if args.family == "torchvision":
        choose_torch()
    parse_and_train(parser, config.EXPERIMENTS[args.family])


def require_packages(model: str) -> None:
    """Looks for the packages that a library's network needs.

    Raises:
        UserError: one is not installed.
    """
    packages, command = config.EXTRAS.get(model, ((), ""))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--model {model} needs {' and '.join(missing)}: {command}")


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


def compare(output: Path, names: dict[str, str]) -> None:
    """Prints a table of the models' runs in a folder, and writes it there beside a figure.

    Args:
        output: the folder.
        names: of each model's results.

    Raises:
        UserError: fewer than two of the runs are there, or one is damaged.
    """
    from pipeline.evaluation.finishedrun import FinishedRun
    from pipeline.figures.comparison import ComparedRun, plot, table
    from pipeline.files.atomic import write_atomically

    trained = [model for model, name in names.items() if ResultFiles(output, name).history.exists()]
    if len(trained) < 2:
        raise UserError(
            f"a comparison takes two models' runs, and {output} holds "
            f"{' and '.join(trained) or 'none'}: train with --model {' or '.join(names)} first"
        )
    runs = [ComparedRun.of(FinishedRun.read(output, names[model]), model) for model in trained]
    text = table(runs)
    print(text, end="")
    path = output / "resnet18_cifar10_comparison"
    write_atomically(path.with_suffix(".txt"), text)
    write_atomically(path.with_suffix(".png"), plot(runs))
    print(one_line(f"figure and table: {path}.*"))


if __name__ == "__main__":
    script.run(main)
