"""Classify pictures with a trained network.

  python predict.py photo.jpg folder
  python predict.py --model output/resnet_cifar10.hdf5 folder --csv > table.csv
  python predict.py photo.jpg --explain output/why

Pictures of any size: the largest part in the middle that has the network's proportions is resized
to its size. A picture that cannot be read is named, the others are classified, and the exit status
is 1.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import script
from pipeline.command_line.options import Parser, existing_file, positive_int
from pipeline.errors import UserError, one_line

if TYPE_CHECKING:
    import argparse

    import keras
    import numpy as np

    from pipeline.nn.spec import NetworkSpec

MODEL = "output/resnet_cifar10.hdf5"
STDIN = "-"
STDIN_BYTES_LIMIT = 2**28
MANY = 200  # pictures, from which on there is a progress bar
LONGEST_STEM = 200  # bytes of a picture's name; a file's name may have 255


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="file, folder, or - for one on stdin")
    model = "model file or checkpoint (default: %(default)s)"
    add("-m", "--model", type=existing_file, default=MODEL, metavar="FILE", help=model)
    add("--top", type=positive_int, default=5, metavar="N", help="classes to show (%(default)s)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="print picture,rank,label,probability")
    output.add_argument("--json", action="store_true", help="print JSON")
    add("--explain", metavar="FOLDER", help="new folder: what in each picture decided (Grad-CAM)")
    args = parser.parse_args()
    folder = Path(args.explain) if args.explain else None
    if folder and folder.exists():
        raise UserError(f"--explain {folder} exists already: name a new folder")

    with tempfile.TemporaryDirectory() as temporary:
        pictures, problems = find(args.pictures, Path(temporary) / "stdin")
        results = classify(pictures, args.model, args.top, folder, problems) if pictures else []

    # report
    print_results(results, args)
    for problem in problems:
        print(one_line(f"warning: {problem}"), file=sys.stderr)
    if not results:
        raise UserError("none of the pictures could be classified")
    sys.exit(1 if problems else 0)


def find(arguments: list[str], stdin: Path) -> tuple[dict[str, str], list[str]]:
    """Finds the pictures that the arguments name.

    Args:
        arguments: files, folders, and - for standard input.
        stdin: where a picture from standard input is put.

    Returns:
        The files by what to call them, and what is wrong with other arguments.
    """
    pictures, problems = {}, []
    for argument in arguments:
        if argument == STDIN:
            picture = sys.stdin.buffer.read(STDIN_BYTES_LIMIT + 1)
            if len(picture) > STDIN_BYTES_LIMIT:
                problems.append(f"{STDIN} has more than {STDIN_BYTES_LIMIT:,} bytes")
                continue
            stdin.write_bytes(picture)
            pictures[STDIN] = str(stdin)
        elif os.path.isdir(argument):  # unlike Path's, False where one may not look
            from pipeline.io.imagefiles import list_images

            found = sorted(list_images(Path(argument)))
            pictures |= {file: file for file in found}
            if not found:
                problems.append(f"{argument} has no pictures in it")
        elif os.path.exists(argument):
            pictures[argument] = argument
        else:
            problems.append(f"{argument}: there is no such file or folder")
    return pictures, problems


def classify(
    pictures: dict[str, str], model: str, top: int, folder: Path | None, problems: list[str]
) -> list[dict]:
    """Returns the `top` classes of each picture.

    Drawings of why go to `folder`, if there is one; what is wrong with pictures that cannot be read
    is added to `problems`.
    """
    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    with redirect_stdout(sys.stderr):  # on stdout there are predictions and nothing else
        backend.start()
    from pipeline.files.modelfile import load_model

    network, spec = load_model(model)
    backend.accelerate(network)
    results = []
    for names, images in read(pictures, spec, problems):
        inputs = spec.preprocessor.preprocess(images)
        probabilities = network.predict(inputs, batch_size=256, verbose=0)
        ranked = (-probabilities).argsort(axis=1, kind="stable")[:, :top]
        if folder:
            explain(network, inputs, images, ranked[:, 0], names, folder, len(results))
        for name, labels, of_picture in zip(names, ranked, probabilities, strict=True):
            predictions = [
                {"label": spec.label_names[label], "probability": float(of_picture[label])}
                for label in labels
            ]
            results.append({"picture": name, "predictions": predictions})
    return results


def read(
    pictures: dict[str, str], spec: NetworkSpec, problems: list[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Reads pictures at a network's size, a block at a time.

    Args:
        pictures: files by what to call them.
        spec: of the network.
        problems: to which is added what is wrong with a picture that is left out.

    Yields:
        What the pictures of a block are called, and the pictures, uint8 (n, height, width, 3).
    """
    from tqdm import tqdm

    from pipeline.io.imagefiles import read_images

    shape, crop = spec.image_shape[:2], spec.centre_crop
    names = iter(pictures)
    disable = None if len(pictures) >= MANY else True  # None: where stderr is no terminal
    progress = tqdm(total=len(pictures), unit=" pictures", disable=disable)
    for images, bad in read_images(list(pictures.values()), shape, crop.preprocess):
        block = list(islice(names, len(images)))
        for index, problem in bad.items():
            problems.append(str(problem).replace(pictures[block[index]], block[index]))
        good = [index for index in range(len(block)) if index not in bad]
        if good:
            yield [block[index] for index in good], images[good]
        progress.update(len(images))
    progress.close()


def explain(
    network: keras.Model,
    inputs: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    folder: Path,
    count: int,
) -> None:
    """Writes what each picture's label was decided by, numbered on from `count` + 1."""
    import cv2

    from pipeline.figures.explanation import class_maps, draw
    from pipeline.files.atomic import write_atomically

    maps = class_maps(network, inputs, labels)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, image, of_image) in enumerate(
        zip(names, images, maps, strict=True), count + 1
    ):
        drawn = cv2.cvtColor(draw(image, of_image), cv2.COLOR_RGB2BGR)
        stem = os.fsencode(Path(name).stem)[:LONGEST_STEM].decode(errors="ignore")
        path = folder / f"{number:04}_{stem}.png"
        write_atomically(path, cv2.imencode(".png", drawn)[1].tobytes())


def print_results(results: list[dict], args: argparse.Namespace) -> None:
    """Prints the predictions in the format that the options ask for."""
    if args.json:
        print(json.dumps(results, indent=2))
        return
    if args.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("picture", "rank", "label", "probability"))
        for result in results:
            for rank, prediction in enumerate(result["predictions"], 1):
                writer.writerow((result["picture"], rank, *prediction.values()))
        return
    for result in results:
        lines = [f"{p['probability']:7.2%}  {one_line(p['label'])}" for p in result["predictions"]]
        if args.top == 1:
            print(f"{lines[0]}  {one_line(result['picture'])}")
        else:
            print(one_line(result["picture"]), *lines, sep="\n")


if __name__ == "__main__":
    script.run(main)
