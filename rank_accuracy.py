"""Evaluate a trained network on images in HDF5 files: rank-1 and rank-5 accuracy, and more.

  python rank_accuracy.py
  python rank_accuracy.py --split val \\
      --model output/checkpoints_tinyimagenet/epoch_70.hdf5
  python rank_accuracy.py --report output

By default it is Tiny ImageNet's test split, all 10,000 images in a minute or two on 2 CPU cores.
The original's best run reached 57.93% rank-1. --report writes precision and recall by class, the
confusion matrix, and the expected calibration error (arXiv:1706.04599) as text and as JSON.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import (
    Parser,
    add_network_options,
    chosen_network,
    existing_file,
    positive_int,
)
from pipeline.errors import UserError, one_line

if TYPE_CHECKING:  # slow to import
    from pipeline.evaluation.predictions import Predictions

CONFUSIONS = 20  # the most frequent ones, which are in the text


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    model = f"{config.DECAY.output}/{config.DECAY.model}"
    named = "what to evaluate, a model or a checkpoint (default: %(default)s)"
    add("-m", "--model", type=existing_file, default=model, metavar="FILE", help=named)
    images = "on which images (default: %(default)s)"
    add("--split", choices=("test", "val"), default="test", help=images)
    built = "where build_tiny_imagenet.py has put its files (default: %(default)s)"
    add("--hdf5", "--data", default=config.DATA, metavar="FOLDER", help=built)
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

    path = Path(args.hdf5) / FILES[args.split]
    if not path.exists():
        raise UserError(f"{path}: there is no such file; build_tiny_imagenet.py makes it")

    from pipeline import backend

    backend.start()
    import numpy as np

    from pipeline.batches import EvaluationBatches
    from pipeline.evaluation.predictions import predict
    from pipeline.files.atomic import write_atomically
    from pipeline.files.modelfile import load_model
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator, mean_beside

    # data
    images = HDF5DatasetGenerator(path)

    # model
    earlier = architecture.spec(images.images.shape[1:], images.class_names, mean_beside(images))
    network, spec = load_model(args.model, earlier)
    for name in ("stages", "filters"):
        saved, asked = getattr(spec, name), getattr(architecture, name)
        if getattr(args, name) and saved != asked:
            raise UserError(f"{args.model} has {name} {saved}, not {asked}")
    if (spec.image_shape, spec.label_names) != (earlier.image_shape, earlier.label_names):
        raise UserError(f"{args.model} is not for the images and classes of {path}")
    preprocess = spec.preprocessor.preprocess
    batches = EvaluationBatches(images.images, images.labels, args.batch_size, preprocess)
    backend.accelerate(network)

    # report
    if args.save:
        Path(args.save).parent.mkdir(parents=True, exist_ok=True)
    if args.report:
        Path(args.report).mkdir(parents=True, exist_ok=True)
    predictions = predict(network, batches, images.class_names)
    rank1, rank5 = predictions.ranks()
    head = (
        f"{args.model} on the {len(predictions.labels)} images of {path}\n"
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
        print(f"report: {report}.txt, {report}.json")


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
