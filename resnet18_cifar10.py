"""Train ResNet-18 on CIFAR-10: the one written here, or a library's to hold it against.

  python resnet18_cifar10.py --model scratch
  python resnet18_cifar10.py --model keras_hub
  python resnet18_cifar10.py --compare

SGD without momentum, no augmentation, pixels in 0..1. After 20 epochs the original had reached 98%
on the training images and 73.24% on the test images; --augment and --schedule linear are the cure
that it named.
"""

import importlib.util
import os
from pathlib import Path

from config import resnet18_config as config
from pipeline.command_line import script
from pipeline.command_line.options import parse_training, training_parser
from pipeline.errors import UserError


def main() -> None:
    # options
    parser = training_parser(
        __doc__, config.DATASETS, config.TRAINING, config.OUTPUT, config.CHECKPOINTS
    )
    add = parser.add_argument
    add("-m", "--model", choices=config.MODELS, help="whose ResNet-18 (default: %(default)s)")
    add("--schedule", choices=config.SCHEDULES, help="learning rate (default: %(default)s)")
    add("--augment", action="store_true", help="shift the images at random, and flip them")
    add("--compare", action="store_true", help="compare the runs in OUTPUT instead of training")
    args, checkpoint = parse_training(parser)
    names = {model: f"{Path(parser.prog).stem}_{model}" for model in config.MODELS}
    if args.compare:
        compare(Path(args.output), names)
        return
    require_packages(args.model)
    if args.model == "torchvision":
        choose_torch()

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start(args.precision, args.seed)
    import keras

    from pipeline.batches import EvaluationBatches, TrainingBatches
    from pipeline.io.datasets import read_dataset
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.affineaugmenter import AffineAugmenter
    from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor
    from pipeline.training import loop
    from pipeline.training.classifier import Classifier
    from pipeline.training.run import Run
    from pipeline.training.schedule import constant, polynomial_decay

    run = Run(parser.prog, args, checkpoint, name=names[args.model])

    # data
    data = read_dataset(args.dataset, args.data)
    scale = ScalePreprocessor()
    augmenters = [AffineAugmenter(**config.AUGMENTATION[args.dataset])] if args.augment else []
    train_batches = TrainingBatches(
        data.train_images,
        data.train_labels,
        args.batch_size,
        [scale, *augmenters],
        seed=args.seed,
        start_epoch=run.start_epoch,
        workers=args.workers,
    )
    test_batches = EvaluationBatches(
        data.test_images, data.test_labels, args.batch_size, [scale], args.workers
    )

    # model
    spec = NetworkSpec(config.FAMILIES[args.model], data.train_images.shape[1:], data.label_names)
    classifier = Classifier(spec.build(), keras.optimizers.SGD(args.learning_rate), spec=spec)

    # train
    linear = polynomial_decay(args.learning_rate, args.epochs)
    schedule = {"constant": constant, "linear": linear}[args.schedule]
    loop.train(classifier, train_batches, test_batches, run, schedule, watched=False)

    # report
    loop.report(classifier, test_batches, data.label_names, run)


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
    from pipeline.figures.comparison import ComparedRun, plot, table
    from pipeline.files.atomic import write_atomically

    trained = [model for model, name in names.items() if (output / f"{name}.json").exists()]
    if len(trained) < 2:
        raise UserError(
            f"a comparison takes two models' runs, and {output} holds "
            f"{' and '.join(trained) or 'none'}: train with --model {' or '.join(names)} first"
        )
    runs = [ComparedRun.read(output, names[model], model) for model in trained]
    text = table(runs)
    print(text, end="")
    path = output / "resnet18_cifar10_comparison"
    write_atomically(path.with_suffix(".txt"), text)
    write_atomically(path.with_suffix(".png"), plot(runs))
    print(f"figure and table: {path}.*")


if __name__ == "__main__":
    script.run(main)
