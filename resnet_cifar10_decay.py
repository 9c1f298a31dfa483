"""Train ResNet-56 on CIFAR-10 unattended, with a learning rate that falls to zero.

  python resnet_cifar10_decay.py --model output/resnet_cifar10.hdf5 --output output

SGD with momentum 0.9 and linear decay. The original reached 93.79% after 150 epochs.
--recipe modern trains the same network with what has been found out since.
"""

from pathlib import Path

from config import cifar10_config as config
from pipeline.command_line import script
from pipeline.command_line.options import parse_training, training_parser


def main() -> None:
    # options
    parser = training_parser(
        __doc__,
        config.DATASETS,
        config.DECAY,
        config.OUTPUT,
        config.DECAY_CHECKPOINTS,
        config.RECIPES,
    )
    parser.add_argument("-m", "--model", metavar="FILE", help="where the final model goes")
    args, checkpoint = parse_training(parser)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start(args.precision, args.seed)

    from pipeline.batches import EvaluationBatches, TrainingBatches
    from pipeline.files.modelfile import save_model
    from pipeline.io.datasets import hold_out, read_dataset
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.augmentation import augmentation
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training import loop
    from pipeline.training.run import Run

    recipe = config.RECIPES[args.recipe]
    if not config.AUGMENTATION[args.dataset].get("flip"):
        recipe = recipe.unmirrored()
    model_path = Path(args.model or Path(args.output) / config.DECAY_MODEL)
    run = Run(parser.prog, args, checkpoint, model_path, recipe=recipe)

    # data
    data = read_dataset(args.dataset, args.data)
    if recipe.holdout:
        data = hold_out(data, recipe.holdout)
    mean = MeanPreprocessor.of_images(data.train_images)
    spec = NetworkSpec(
        **config.SPEC,
        image_shape=data.train_images.shape[1:],
        label_names=data.label_names,
        mean=mean.mean,
        stages=args.stages,
        filters=args.filters,
    )
    classes = len(data.label_names)
    one_hot = classes if recipe.one_hot else None
    train_batches = TrainingBatches(
        data.train_images,
        data.train_labels,
        args.batch_size,
        **augmentation(recipe, mean, len(data.train_images), args.epochs, args.seed),
        seed=args.seed,
        start_epoch=run.start_epoch,
        workers=args.workers,
        one_hot=one_hot,
    )
    test_batches = EvaluationBatches(
        data.test_images, data.test_labels, args.batch_size, [mean], args.workers, one_hot
    )

    # model
    network = spec.build(
        reg=recipe.reg,
        module_reg=recipe.module_reg,
        zero_init=recipe.zero_init,
    )
    classifier, decay = loop.classifier_by(
        recipe,
        network,
        args.learning_rate,
        args.epochs,
        train_batches.steps_per_epoch,
        config.POWER,
        spec,
    )

    # train
    loop.train(classifier, train_batches, test_batches, run, decay, watched=False)

    # report
    loop.report(classifier, test_batches, data.label_names, run)
    save_model(model_path, network, spec)
    print(f"model: {model_path}")


if __name__ == "__main__":
    script.run(main)
