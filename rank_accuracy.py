"""Evaluate a trained network on Tiny ImageNet's test split: rank-1 and rank-5 accuracy.

  python rank_accuracy.py
  python rank_accuracy.py --model output/checkpoints_tinyimagenet/epoch_70.hdf5 --split val

All 10,000 images in a minute or two on 2 CPU cores. The original's best run reached 57.93% rank-1.
"""

import io
from pathlib import Path

from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_network_options, check_network, positive_int
from pipeline.errors import UserError


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", default=config.MODEL, metavar="FILE", help="default: %(default)s")
    add("--split", choices=("test", "val"), default="test", help="default: %(default)s")
    add("--hdf5", default=config.DATA["hdf5"], metavar="FOLDER", help="default: %(default)s")
    add("--batch-size", type=positive_int, default=256, metavar="N", help="default: %(default)s")
    add("--save", metavar="FILE", help="keep predictions and labels, as .npz")
    add_network_options(parser, {"stages": None, "filters": None})
    args = parser.parse_args()
    # Files of earlier versions do not say what network they hold.
    asked = {name: getattr(args, name) for name in config.NETWORK if getattr(args, name)}
    args.stages, args.filters = (config.NETWORK | asked).values()
    check_network(parser, args)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()
    import numpy as np

    from pipeline.batches import reading
    from pipeline.files.atomic import write_atomically
    from pipeline.files.modelfile import load_model
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.utils.ranked import rank5_accuracy

    # data
    hdf5 = Path(args.hdf5)
    path = hdf5 / {"test": config.TEST_HDF5, "val": config.VAL_HDF5}[args.split]
    images = HDF5DatasetGenerator(path, config.NUM_CLASSES, config.IMAGE_SIZE)
    mean = MeanPreprocessor.from_json(hdf5 / config.DATASET_MEAN)

    # model
    earlier = NetworkSpec(
        **config.SPEC,
        label_names=images.class_names,
        mean=mean.mean,
        stages=args.stages,
        filters=args.filters,
    )
    model, spec = load_model(args.model, earlier)
    for name, value in asked.items():
        if (saved := getattr(spec, name)) != tuple(value):
            raise UserError(f"{args.model} has {name} {saved}, not {tuple(value)}")
    if (spec.image_shape, spec.label_names) != (earlier.image_shape, earlier.label_names):
        raise UserError(f"{args.model} is not for the images and classes of {path}")
    batches = images.evaluation_batches(args.batch_size, [spec.preprocessor])
    backend.accelerate(model)

    # report
    if args.save:
        Path(args.save).parent.mkdir(parents=True, exist_ok=True)
    with reading(batches):
        predictions = model.predict(batches, verbose=0)
    rank1, rank5 = rank5_accuracy(predictions, images.labels)
    print(f"{args.model} on the {len(images.labels)} images of {path}")
    print(f"rank-1: {rank1:.2%}\nrank-5: {rank5:.2%}")
    if args.save:
        content = io.BytesIO()
        np.savez_compressed(content, predictions=predictions, labels=images.labels)
        write_atomically(args.save, content.getvalue())


if __name__ == "__main__":
    script.run(main)
