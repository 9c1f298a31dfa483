"""Train a ResNet on Tiny ImageNet and watch it: stop, change the learning rate, go on.

  python train.py --checkpoints output/checkpoints_tinyimagenet
  (Ctrl+C, then the command that it prints, with another --learning-rate)
  python train.py --checkpoints output/checkpoints_tinyimagenet \\
      --model output/checkpoints_tinyimagenet/epoch_25.hdf5 --start_epoch 25 --learning-rate 0.01

SGD with Nesterov momentum 0.9. The original reached 57.27% rank-1 after 70 epochs.
"""

from pathlib import Path

from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import add_checkpoint_options, parse_training, training_parser


def main() -> None:
    # options
    parser = training_parser(__doc__, (), config.CTRL_C, config.OUTPUT, config.CHECKPOINTS)
    add_checkpoint_options(parser)
    parser.add_argument("--hdf5", metavar="FOLDER", help="the built files (default: %(default)s)")
    args, checkpoint = parse_training(parser)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start(args.precision, args.seed)
    import keras

    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.affineaugmenter import AffineAugmenter
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training import loop
    from pipeline.training.classifier import Classifier
    from pipeline.training.run import Run
    from pipeline.training.schedule import constant

    run = Run(parser.prog, args, checkpoint, name="resnet_tinyimagenet")

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
    train_batches = train.training_batches(
        args.batch_size,
        [mean, AffineAugmenter(**config.AUGMENTATION)],
        seed=args.seed,
        start_epoch=run.start_epoch,
        workers=args.workers,
    )
    val_batches = val.evaluation_batches(args.batch_size, [mean], args.workers)

    # model
    network = spec.build(
        reg=config.REG,
        module_reg=config.MODULE_REG,
    )
    optimizer = keras.optimizers.SGD(
        args.learning_rate, momentum=config.MOMENTUM, nesterov=config.NESTEROV
    )
    classifier = Classifier(network, optimizer, spec=spec)

    # train
    loop.train(classifier, train_batches, val_batches, run, constant, watched=True)

    # report
    loop.report(classifier, val_batches, val.class_names, run)


if __name__ == "__main__":
    script.run(main)
