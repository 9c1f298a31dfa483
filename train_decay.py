"""Train a ResNet on Tiny ImageNet unattended, with a learning rate that falls to zero.

  python train_decay.py --model output/resnet_tinyimagenet_decay.hdf5

SGD with Nesterov momentum 0.9 and linear decay. The original reached 57.93% rank-1 after 75 epochs.
--recipe modern and modern_cutmix train the same network with what has been found out since.
"""

from pathlib import Path

from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import parse_training, training_parser
from pipeline.errors import UserError


def main() -> None:
    # options
    parser = training_parser(
        __doc__, (), config.DECAY, config.OUTPUT, config.DECAY_CHECKPOINTS, config.RECIPES
    )
    parser.add_argument("-m", "--model", metavar="FILE", help="where the final model goes")
    parser.add_argument("--hdf5", metavar="FOLDER", help="the built files (default: %(default)s)")
    args, checkpoint = parse_training(parser)
    recipe = config.RECIPES[args.recipe]
    if recipe.holdout:
        raise UserError(
            f"--recipe {args.recipe} holds out {recipe.holdout} training images, and Tiny ImageNet "
            "has images to validate on: set its holdout to 0"
        )

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start(args.precision, args.seed)

    from pipeline.files.modelfile import save_model
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.augmentation import augmentation
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training import loop
    from pipeline.training.run import Run

    model_path = Path(args.model or Path(args.output) / config.DECAY_MODEL)
    run = Run(parser.prog, args, checkpoint, model_path, "resnet_tinyimagenet_decay", recipe)

    # data
    hdf5 = Path(args.hdf5)
    train = HDF5DatasetGenerator(hdf5 / config.TRAIN_HDF5, config.NUM_CLASSES, config.IMAGE_SIZE)
    val = HDF5DatasetGenerator(hdf5 / config.VAL_HDF5, config.NUM_CLASSES, config.IMAGE_SIZE)
    mean = MeanPreprocessor.from_json(hdf5 / config.DATASET_MEAN)
    spec = NetworkSpec(
        **config.SPEC,
        label_names=train.class_names,
        mean=mean.mean,
        stages=args.stages,
        filters=args.filters,
    )
    one_hot = config.NUM_CLASSES if recipe.one_hot else None
    train_batches = train.training_batches(
        args.batch_size,
        **augmentation(recipe, mean, len(train.images), args.epochs, args.seed),
        seed=args.seed,
        start_epoch=run.start_epoch,
        workers=args.workers,
        one_hot=one_hot,
    )
    val_batches = val.evaluation_batches(args.batch_size, [mean], args.workers, one_hot)

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
    loop.train(classifier, train_batches, val_batches, run, decay, watched=False)

    # report
    loop.report(classifier, val_batches, val.class_names, run)
    save_model(model_path, network, spec)
    print(f"model: {model_path}")


if __name__ == "__main__":
    script.run(main)
