"""Export a trained network to SavedModel, ONNX or LiteRT.

  python export.py --model output/resnet_cifar10.hdf5 --format onnx --output output/onnx
  python output/onnx/classify.py photo.jpg

The folder that comes out has the network, which takes raw RGB pixels and gives probabilities; a
description with the labels, preprocess.json; and two short scripts that use it in its own runtime,
without Keras and without this project. In that runtime it is compared with Keras on photographs,
and not kept if it differs, unless --int8 asks for rounding.
"""

import dataclasses
import hashlib
import os
import shlex
from pathlib import Path

from pipeline.command_line import script
from pipeline.command_line.options import Parser, existing_file
from pipeline.errors import one_line
from pipeline.export.formats import CLASSIFY, FORMATS, check_output

CALIBRATION_PICTURES, SEED = 200, 42


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "-m",
        "--model",
        type=existing_file,
        required=True,
        metavar="FILE",
        help="model file or checkpoint",
    )
    add("-f", "--format", required=True, choices=tuple(FORMATS))
    add("-o", "--output", required=True, metavar="FOLDER", help="new folder")
    add("--overwrite", action="store_true", help="replace an earlier export")
    add("--pictures", metavar="FOLDER", help="compare, and count what is right, on these as well")
    add("--int8", metavar="FOLDER", help="LiteRT in int8, calibrated on pictures of this folder")
    args = parser.parse_args()
    if args.int8 and args.format != "litert":
        parser.error("--int8 is for --format litert")
    target, output = FORMATS[args.format], Path(args.output)
    check_output(output, args.overwrite)
    target.require_packages()

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.export.pictures import (
        find_pictures,
        labels_by_folder,
        read_pictures,
        sample_photographs,
    )

    pictures = find_pictures(Path(args.pictures)) if args.pictures else []
    to_calibrate = find_pictures(Path(args.int8)) if args.int8 else []

    from pipeline import backend

    asked = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if asked != "tensorflow":
        print(f"exporting on TensorFlow, whatever trained the model, not on {asked}")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    backend.start()
    import numpy as np

    from pipeline.export.comparison import compare
    from pipeline.export.exporting import describe, write
    from pipeline.files.modelfile import load_model
    from pipeline.files.wholefolder import whole_folder

    # model
    network, spec = load_model(args.model)

    # pictures
    calibration = None
    if to_calibrate:
        files = np.random.default_rng(SEED).permutation(to_calibrate)
        blocks = read_pictures(files[:CALIBRATION_PICTURES].tolist(), spec)
        calibration = np.concatenate(list(blocks))

    # export
    with whole_folder(output) as folder:
        exported = write(folder, network, spec, target, calibration)
        sample = [sample_photographs(spec)]
        comparisons = {"sample photographs": compare(exported, network, spec, sample)}
        if pictures:
            labels = labels_by_folder(Path(args.pictures), pictures, spec.label_names)
            blocks = read_pictures(pictures, spec)
            comparisons[args.pictures] = compare(exported, network, spec, blocks, labels)
        for name, comparison in comparisons.items():
            print(one_line(f"{name}: {comparison}"), flush=True)
            if not args.int8:
                comparison.require_equality()
        more = {
            "computed in": "int8" if args.int8 else "float32",
            "exported from": {
                "file": Path(args.model).name,
                "sha256": hashlib.sha256(Path(args.model).read_bytes()).hexdigest(),
            },
            "compared with Keras": {n: dataclasses.asdict(c) for n, c in comparisons.items()},
        }
        describe(folder, spec, target, more)

    # report
    to_use = f"python {shlex.quote(str(output / CLASSIFY))} PICTURE..."
    print(one_line(f"written: {output}; to use it: {to_use}"))


if __name__ == "__main__":
    script.run(main)
