"""Measure the way from photographs in a folder to training batches, beside other software's.

  python -m benchmarks.photographs ../datasets/imagewoof2-320
  python -m benchmarks.photographs output/miniatures/photographs --size 64

Two minutes. JPEGs in <class>/ or train/<class>/ become batches of 64 images of one size: a random
rectangle of at least 8% of the area, resized, every second one mirrored; Keras's reader resizes the
whole picture. Each contender, those that are installed, has a process of its own with as many
threads or processes as there are cores, and they take turns. cv2's decoding alone is what any of
them could reach that decodes whole pictures with it.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table import Row, machine, markdown
from pipeline.backend.processor import cores
from pipeline.command_line import script
from pipeline.command_line.options import Parser, positive_int
from pipeline.errors import UserError

BATCH_SIZE = 64
LEAST_AREA = 0.08  # of a random rectangle, as a share of the picture's
RATIO = (3 / 4, 4 / 3)  # least and largest width divided by height


class Work(NamedTuple):
    """What is to be made of which pictures."""

    folder: Path
    """Holds a folder for each class."""
    files: list[str]
    """The JPEGs in it."""
    size: int
    """Width and height of the images, in pixels."""


# Each yields, without an end, how many images a batch has.


def ours(work: Work) -> Iterator[int]:
    """Takes the way of `train_images.py`."""
    import numpy as np

    from pipeline.io.dataset import Dataset
    from pipeline.io.inspection import inspect
    from pipeline.io.photographs import Photograph, Photographs
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training.assembly import make_training
    from pipeline.training.recipe import Recipe

    infos = inspect(work.files)
    found = [Photograph(file, infos[file].width, infos[file].height) for file in work.files]
    photographs, labels = Photographs(found, work.size), np.zeros(len(found), np.int32)
    mean = np.float32([124, 117, 104])
    data = Dataset(photographs, labels, photographs, labels, ("any",), mean)
    recipe = Recipe(1, BATCH_SIZE, 0.1, crop_scale=LEAST_AREA, flip="random")
    preprocess = MeanPreprocessor(mean).preprocess
    batches = make_training(recipe, data, preprocess, workers=cores())
    return (len(batches[index][0]) for index in itertools.count())


def decoding_alone(work: Work) -> Iterator[int]:
    """Decodes whole pictures with cv2, on a thread a core, and makes nothing of them."""
    from multiprocessing.pool import ThreadPool

    import cv2
    import numpy as np

    def decode(file: str) -> None:
        cv2.imdecode(np.frombuffer(Path(file).read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)

    cv2.setNumThreads(1)
    pool = ThreadPool(cores())
    while True:
        for start in range(0, len(work.files), 10 * BATCH_SIZE):
            block = work.files[start : start + 10 * BATCH_SIZE]
            pool.map(decode, block, chunksize=8)
            yield len(block)


def pytorch(work: Work) -> Iterator[int]:
    """Decodes with Pillow, in a process a core of PyTorch's `DataLoader`."""
    import torch

    loader = torch.utils.data.DataLoader(
        _PillowCrops(work),
        BATCH_SIZE,
        shuffle=True,
        num_workers=cores(),
        persistent_workers=True,
    )
    return (len(images) for _ in itertools.count() for images in loader)


def grain(work: Work) -> Iterator[int]:
    """Decodes with Pillow, in a process a core of Grain's `mp_prefetch`."""
    from absl import flags
    from grain import MapDataset, MultiprocessingOptions

    flags.FLAGS.mark_as_parsed()  # or Grain's processes end at once
    images = MapDataset.source(_PillowCrops(work)).shuffle(seed=0).repeat().to_iter_dataset()
    options = MultiprocessingOptions(num_workers=cores())
    return (len(batch) for batch in images.batch(BATCH_SIZE).mp_prefetch(options))


class _PillowCrops:
    """A data set for PyTorch and Grain, as torchvision's transforms would make it."""

    def __init__(self, work: Work):
        self._work = work

    def __len__(self) -> int:
        return len(self._work.files)

    def __getitem__(self, index: int) -> Any:
        import numpy as np
        from PIL import Image, ImageOps

        from pipeline.augmentation.rectangles import centred_rectangle, draw_rectangles

        size = (self._work.size, self._work.size)
        with Image.open(self._work.files[index]) as picture:
            image = picture.convert("RGB")
        rng = np.random.default_rng(random.getrandbits(32))
        shape = (image.height, image.width)
        (box,) = draw_rectangles(1, *shape, (LEAST_AREA, 1.0), RATIO, rng).tolist()
        top, left, bottom, right = box if any(box) else centred_rectangle(*shape, RATIO)
        image = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        return np.asarray(image, dtype=np.float32)


def tf_data(work: Work) -> Iterator[int]:
    """Decodes with `tf.image.decode_and_crop_jpeg`, which decodes the rectangle alone."""
    import tensorflow as tf

    def crop(file: tf.Tensor) -> tf.Tensor:
        content = tf.io.read_file(file)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(content),
            tf.zeros((1, 0, 4)),
            area_range=(LEAST_AREA, 1.0),
            aspect_ratio_range=RATIO,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        image = tf.image.decode_and_crop_jpeg(content, window, channels=3)
        image = tf.image.resize(image, (work.size, work.size))
        return tf.image.random_flip_left_right(image)

    files = tf.data.Dataset.from_tensor_slices(work.files).shuffle(len(work.files)).repeat()
    images = files.map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    return (len(batch) for batch in images.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE))


def keras_directory(work: Work) -> Iterator[int]:
    """Takes Keras's `image_dataset_from_directory`, which resizes whole pictures."""
    import keras

    read = functools.partial(keras.utils.image_dataset_from_directory, verbose=False)
    images = read(work.folder, image_size=(work.size, work.size), batch_size=BATCH_SIZE)
    return (len(batch) for batch, _ in images.repeat().prefetch(2))


OWN = "ours"
# By what it is called: the package that it needs, how it makes batches, and our goal beside it.
CONTENDERS = {
    OWN: ("cv2", ours, 1.0),
    "cv2's decoding alone": ("cv2", decoding_alone, 0.9),
    "PyTorch's DataLoader, Pillow": ("torch", pytorch, 1.5),
    "Grain, Pillow": ("grain", grain, 1.0),
    "tf.data, decode_and_crop_jpeg": ("tensorflow", tf_data, 1.5),
    "Keras's image_dataset_from_directory": ("tensorflow", keras_directory, 2.0),
}


class Contender:
    """A process that has made its first batch and waits for work; it ends with the block."""

    def __init__(self, name: str, work: Work):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, work, theirs))
        self._process.start()
        theirs.close()
        self.name = name
        self._answer()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.join()

    def rate(self, count: int) -> float:
        """Returns images a second over the next batches that have so many."""
        self._connection.send(count)
        return self._answer()

    def _answer(self) -> float:
        try:
            return self._connection.recv()
        except EOFError:
            raise UserError(f"the process of {self.name} has ended; see above") from None


def _serve(name: str, work: Work, connection: Connection) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    batches = CONTENDERS[name][1](work)
    next(batches)
    connection.send(0.0)
    while True:
        try:
            count = connection.recv()
        except EOFError:
            return
        _take(batches, BATCH_SIZE * (4 * cores() + 2))  # what was made ahead while others worked
        start = time.perf_counter()
        done = _take(batches, count)
        connection.send(done / (time.perf_counter() - start))


def _take(batches: Iterator[int], count: int) -> int:
    """Makes batches of at least so many images; returns of how many."""
    done = 0
    while done < count:
        done += next(batches)
    return done


def main() -> None:
    # options
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.photographs"
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="photographs, with a folder for each class")
    add("--size", type=positive_int, default=224, metavar="N", help="pixels (default: %(default)s)")
    add("--images", type=positive_int, default=2000, metavar="N", help="images a turn (2000)")
    add("--repeats", type=positive_int, default=5, metavar="N", help="turns (default: %(default)s)")
    args = parser.parse_args()

    # report
    measured = rows(args.folder, args.size, args.images, args.repeats)
    print(f"{machine()}\n\n{markdown(measured)}")


def rows(folder: Path, size: int, count: int, repeats: int) -> list[Row]:
    """Measures ours beside those of the others that are installed.

    Args:
        folder: the photographs.
        size: width and height of the images, in pixels.
        count: images a turn.
        repeats: turns.

    Raises:
        UserError: the folder has too few JPEGs in folders of classes.
    """
    from pipeline.io.imagefiles import list_images

    if (folder / "train").is_dir():
        folder = folder / "train"
    found = sorted(list_images(folder)) if folder.is_dir() else []
    files = [file for file in found if Path(file).suffix.lower() in (".jpg", ".jpeg")]
    if len(files) < BATCH_SIZE:
        raise UserError(f"{folder} has {len(files)} JPEGs in folders of classes: it takes 64")
    names = [name for name, (package, *_) in CONTENDERS.items() if find_spec(package)]
    rates = {name: [] for name in names}
    with ExitStack() as stack:
        work = Work(folder, files, size)
        contenders = []
        for name in names:
            print(f"starting {name}", file=sys.stderr)
            contenders.append(stack.enter_context(Contender(name, work)))
        for repeat in range(repeats + 1):  # the first turn warms up
            for contender in contenders:
                rate = contender.rate(count)
                if repeat:
                    rates[contender.name].append(rate)
    what = f"training batches of {size}x{size} from photographs, images/s"
    return [
        Row(what, name, rates[OWN], rates[name], (">=", CONTENDERS[name][2]))
        for name in names
        if name != OWN
    ]


if __name__ == "__main__":
    script.run(main)
