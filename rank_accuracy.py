"""Evaluate a trained network on images in files: rank-1 and rank-5 accuracy, and more.

  python rank_accuracy.py
  python rank_accuracy.py --split val \\
      --model output/checkpoints_tinyimagenet/epoch_70.hdf5
  python rank_accuracy.py --report output
  python rank_accuracy.py --images ../datasets/imagenet/hdf5 --split val \\
      --model output/resnet_imagenet.hdf5

By default it is Tiny ImageNet's test split, all 10,000 images in a minute or two on 2 CPU cores.
The original's best run reached 57.93% rank-1. --report writes precision and recall by class, the
confusion matrix, and the expected calibration error (arXiv:1706.04599) as text and as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import (
    Parser,
    add_network_options,
    add_skip_bad_option,
    chosen_network,
    existing_file,
    positive_int,
)
from pipeline.errors import UserError, one_line

if TYPE_CHECKING:  # slow to import
    import numpy as np

    from pipeline.evaluation.predictions import Predictions
    from pipeline.io.dataset import Images
    from pipeline.nn.spec import NetworkSpec

CONFUSIONS = 20  # the most frequent ones, which are in the text


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    model = f"{config.DECAY.output}/{config.DECAY.model}"
    named = "model file or checkpoint to evaluate (default: %(default)s)"
    add("-m", "--model", type=existing_file, default=model, metavar="FILE", help=named)
    images = "images to evaluate on (default: %(default)s)"
    add("--split", choices=("test", "val"), default="test", help=images)
    built = "where build_tiny_imagenet.py has put its files (default: %(default)s)"
    add("--hdf5", "--data", default=config.DATA, metavar="FOLDER", help=built)
    photographs = "pictures, in a folder or packed, instead of --hdf5"
    add("--images", metavar="FOLDER", help=photographs)
    add_skip_bad_option(parser)
    size = "images at a time (default: %(default)s)"
    add("--batch-size", type=positive_int, default=256, metavar="N", help=size)
    add("--save", metavar="FILE", help="keep predictions and labels in this file, as .npz")
    add("--report", metavar="FOLDER", help="write all measures there, as text and as JSON")
    add_network_options(parser)
    args = parser.parse_args()
    # For files of earlier versions, which do not say what network they hold.
    architecture = chosen_network(parser, config.NETWORK, args)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.io.hdf5datasetwriter import FILES

    path = Path(args.images) if args.images else Path(args.hdf5) / FILES[args.split]
    if not path.exists():
        missing = "folder" if args.images else "file; build_tiny_imagenet.py makes it"
        raise UserError(f"{path}: there is no such {missing}")

    from pipeline import backend

    backend.start()
    import numpy as np

    from pipeline.backend import processor
    from pipeline.batches import EvaluationBatches
    from pipeline.evaluation.predictions import predict
    from pipeline.files.atomic import write_atomically
    from pipeline.files.modelfile import load_model

    # data and model
    if args.images:
        network, spec = load_model(args.model)
        images, labels, names = photographs_of(args, spec)
    else:
        images, labels, names, mean = hdf5_images(path)
        network, spec = load_model(args.model, architecture.spec(images.shape[1:], names, mean))
    for name in ("stages", "filters"):
        saved, asked = getattr(spec, name), getattr(architecture, name)
        if getattr(args, name) and saved != asked:
            raise UserError(f"{args.model} has {name} {saved}, not {asked}")
    if (spec.image_shape, spec.label_names) != (images.shape[1:], names):
        raise UserError(f"{args.model} is not for the images and classes of {path}")
    preprocess, workers = spec.preprocessor.preprocess, processor.cores()
    batches = EvaluationBatches(images, labels, args.batch_size, preprocess, workers)
    backend.accelerate(network)

    # report
    if args.save:
        Path(args.save).parent.mkdir(parents=True, exist_ok=True)
    if args.report:
        Path(args.report).mkdir(parents=True, exist_ok=True)
    predictions = predict(network, batches, names)
    rank1, rank5 = predictions.ranks()
    head = (
        one_line(f"{args.model} on the {len(predictions.labels)} images of {path}") + "\n"
        f"rank-1: {rank1:.2%}\nrank-5: {rank5:.2%}\n"
    )
    print(head, end="")
    if args.save:
        content = io.BytesIO()
        np.savez_compressed(
            content, predictions=predictions.probabilities, labels=predictions.labels
        )
        write_atomically(args.save, content.getvalue())
    if args.report:
        report = Path(args.report) / f"{Path(args.model).stem}_{args.split}"
        content = {"model": args.model, "data": str(path), **predictions.measures()}
        write_atomically(f"{report}.txt", head + report_text(predictions))
        write_atomically(f"{report}.json", json.dumps(content, indent=2) + "\n")
        print(one_line(f"report: {report}.txt, {report}.json"))


def hdf5_images(path: Path) -> tuple[Images, np.ndarray, tuple[str, ...], np.ndarray]:
    """Returns images, labels, names of classes and mean colour of a file."""
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator, mean_beside

    data = HDF5DatasetGenerator(path)
    return data.images, data.labels, data.class_names, mean_beside(data)


def photographs_of(
    args: argparse.Namespace, spec: NetworkSpec
) -> tuple[Images, np.ndarray, tuple[str, ...]]:
    """Returns images, labels and names of classes of a split of photographs.

    Where there is no folder `val`, its place is taken by those that the network's run has held out.

    Raises:
        UserError: there are no such pictures, or it is not known which they are.
    """
    from pipeline.files.modelfile import read_held_out
    from pipeline.io.photographfolder import read_photograph_folder

    known = read_held_out(args.model)
    data = read_photograph_folder(
        args.images,
        spec.image_shape[0],
        **({"holdout": known.holdout} if known else {}),
        skip_bad=args.skip_bad or bool(known and known.skip_bad),
        centre=spec.centre,
    )
    if args.split == "val":
        if data.val_part and not (known and known.fingerprint == data.fingerprint):
            way_out = "" if known else "name a checkpoint of its run, which tells, or "
            raise UserError(
                f"{args.images} has no folder val, and which of its pictures {args.model} has not "
                f"been trained on is not known: {way_out}put them into {args.images}/val, and the "
                f"others into {args.images}/train"
            )
        return data.val_images, data.val_labels, data.label_names
    if data.test_images is None:
        raise UserError(f"{args.images} has no folder test: give --split val")
    return data.test_images, data.test_labels, data.label_names


def report_text(predictions: Predictions) -> str:
    """Returns calibration, measures by class and the most frequent confusions as text."""
    lines = [
        f"expected calibration error, 15 bins: {predictions.calibration_error():.2%}",
        "",
        predictions.report(),
        "images  confused",
    ]
    for row in predictions.confusions(CONFUSIONS):
        pair = f"{one_line(row['right'])}, taken for {one_line(row['said'])}"
        lines.append(f"{row['images']:6}  {pair}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    script.run(main)
