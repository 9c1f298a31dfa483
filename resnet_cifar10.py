"""Train ResNet-56 on CIFAR-10 and watch it: stop, change the learning rate, go on.

  python resnet_cifar10.py --checkpoints output/checkpoints
  (Ctrl+C, then the command that it prints, with another --learning-rate)
  python resnet_cifar10.py --checkpoints output/checkpoints \\
      --model output/checkpoints/epoch_40.hdf5 --start_epoch 40 --learning-rate 0.01

SGD with momentum 0.9. The original reached 93.22% after 85 epochs, lowering the rate by hand.
"""

from config import cifar10_config as config
from pipeline.command_line import script
from pipeline.command_line.options import add_checkpoint_options, parse_training, training_parser


def main() -> None:
    # options
    parser = training_parser(
        __doc__, config.DATASETS, config.CTRL_C, config.OUTPUT, config.CHECKPOINTS
    )
    add_checkpoint_options(parser)
    args, checkpoint = parse_training(parser)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start(args.precision, args.seed)
    import keras

    from pipeline.batches import EvaluationBatches, TrainingBatches
    from pipeline.io.datasets import read_dataset
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.affineaugmenter import AffineAugmenter
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training import loop
    from pipeline.training.classifier import Classifier
    from pipeline.training.run import Run
    from pipeline.training.schedule import constant

    run = Run(parser.prog, args, checkpoint)

    # data
    data = read_dataset(args.dataset, args.data)
    mean = MeanPreprocessor.of_images(data.train_images)
    spec = NetworkSpec(
        **config.SPEC,
        image_shape=data.train_images.shape[1:],
        label_names=data.label_names,
        mean=mean.mean,
        stages=args.stages,
        filters=args.filters,
    )
    train_batches = TrainingBatches(
        data.train_images,
        data.train_labels,
        args.batch_size,
        [mean, AffineAugmenter(**config.AUGMENTATION[args.dataset])],
        seed=args.seed,
        start_epoch=run.start_epoch,
        workers=args.workers,
    )
    test_batches = EvaluationBatches(
        data.test_images, data.test_labels, args.batch_size, [mean], args.workers
    )

    # model
    network = spec.build(
        reg=config.REG,
        module_reg=config.MODULE_REG,
    )
    optimizer = keras.optimizers.SGD(args.learning_rate, momentum=config.MOMENTUM)
    classifier = Classifier(network, optimizer, spec=spec)

    # train
    loop.train(classifier, train_batches, test_batches, run, constant, watched=True)

    # report
    loop.report(classifier, test_batches, data.label_names, run)


if __name__ == "__main__":
    script.run(main)
