"""The attacks, and the process that makes them: `python attacks.py NAME FOLDER FIRST END`.

An attack makes a file that is damaged or means harm, and hands it to what reads it. That may read
it or refuse it, with a UserError or an OSError, of which the scripts make one line. Anything else,
much memory and a long time included, is a hole. Every try depends on its number alone, so that it
can be made again.

The process prints the number of each try before it and how it ended after it, as it may not outlive
the try itself.
"""

import contextlib
import dataclasses
import functools
import gc
import gzip
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import re
import signal
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import h5py
import numpy as np
import specialfiles
from resealed import reseal
from test_corruption import damaged

from pipeline.errors import UserError
from pipeline.evaluation.comparison import ComparedRun
from pipeline.evaluation.comparison_html import comparison_html
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.savedrun import KeptPredictions, SavedRun, read_record
from pipeline.files.atomic import write_atomically
from pipeline.files.fileset import finish_interrupted, published_together
from pipeline.files.lock import lock
from pipeline.files.resultfiles import ResultFiles
from pipeline.files.seal import sealed, unsealed
from pipeline.files.wholefolder import whole_folder
from pipeline.history import MEASURES, append, as_csv, read_history
from pipeline.io import cifar10
from pipeline.io.dataset import Dataset
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter, Origin
from pipeline.io.imagefiles import read_images
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographfolder import names_of_photographs, read_photograph_folder
from pipeline.io.photographpacking import pack_photographs
from pipeline.io.photographstore import STORE, TAIL_BYTES, StorePart, store_text, tail
from pipeline.io.tiny_imagenet import read_label_names
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

MEMORY_LIMIT = 500 * 2**20  # bytes that a try may take beyond what the process has
SIZE = 32
NAMES = (("n1", "cat"), ("n2", "dog"))

Attempt = Callable[[int], None]


def hit(whole: bytes, number: int) -> bytes:
    """Returns a file with random bits flipped, bytes zeroed or its end cut off."""
    return next(damaged(whole, 1, seed=number))


def forged_json(whole: bytes, number: int) -> bytes:
    """Returns JSON in which one value is another."""
    rng = np.random.default_rng(number)
    value = json.loads(whole)
    places = [(value, key) for key in _keys(value)]
    for holder, key in places:
        places += [(holder[key], inner) for inner in _keys(holder[key])]
    holder, key = places[rng.integers(len(places))]
    others = (None, -1, 0.5, 10**400, "", "x", "\udc80\x1b[2J", [], {}, True, [[]], {"x": []})
    holder[key] = others[rng.integers(len(others))]
    return json.dumps(value).encode()


def _keys(value: object) -> list:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def must_be_refused(read: Callable, *arguments: object) -> None:
    read(*arguments)
    raise AssertionError("it was read")


# checkpoints and models


def _checkpoint(folder: Path, batch: int = 0):
    import keras

    from pipeline.files.modelfile import save_checkpoint
    from pipeline.nn.spec import NetworkSpec
    from pipeline.training.classifier import Classifier

    mean = np.full(3, 99.5, np.float32)
    spec = NetworkSpec("resnet", (8, 8, 3), ("ant", "bee"), mean, "cifar10", (1,), (4, 8))
    classifier = Classifier(spec.build(), keras.optimizers.SGD(0.1, momentum=0.9), spec=spec)
    classifier.optimizer.build(classifier.trainable_variables)
    images, answers = np.zeros((4, 8, 8, 3), np.float32), np.zeros((4, 2), np.float32)
    classifier.compute_metrics(images, np.zeros(4, np.int32), answers)  # builds them
    history = {"loss": [1.5, 1.0], "val_accuracy": [0.1, 0.5]}
    state = {"epoch": 2, "history": history, "options": {"script": "train.py", "seed": 42}}
    state |= {"batch": batch} if batch else {}
    save_checkpoint(folder / "epoch_2.hdf5", classifier, state)
    return folder / "epoch_2.hdf5", classifier


def damaged_checkpoints(folder: Path) -> Attempt:
    from pipeline.files.modelfile import read_checkpoint

    path, _ = _checkpoint(folder)
    whole = path.read_bytes()

    def attempt(number: int) -> None:
        path.write_bytes(hit(whole, number))
        must_be_refused(read_checkpoint, path)

    return attempt


def forged_checkpoints(folder: Path) -> Attempt:
    from pipeline.files.modelfile import read_checkpoint

    wholes = []
    for batch in (0, 3):
        path, classifier = _checkpoint(folder, batch)
        wholes.append(unsealed(path.read_bytes()))

    def attempt(number: int) -> None:
        path.write_bytes(sealed(hit(wholes[number % 2], number)))
        checkpoint = read_checkpoint(path)
        json.dumps(checkpoint.options)
        checkpoint.restore(classifier)
        if checkpoint.batch:
            checkpoint.restore_metrics(classifier)

    return attempt


def forged_states(folder: Path) -> Attempt:
    """Forges what a checkpoint remembers of its run, and goes on with it as a script does."""
    import toy

    from pipeline.command_line.options import training_parser
    from pipeline.command_line.resuming import parse_training
    from pipeline.training.run import Run

    experiment = toy.experiment(epochs=3, model="model.hdf5")
    parser = training_parser("", experiment)
    parser.prog = "train.py"
    argv, first = (["--output", str(folder / name)] for name in ("output", "first"))
    (folder / "output" / experiment.checkpoints).mkdir(parents=True)
    path, _ = _checkpoint(folder)
    path = path.rename(folder / "output" / experiment.checkpoints / path.name)
    recipe = experiment.recipes["plain"]
    options, *_ = parse_training(parser, experiment, first)
    run = Run(experiment, options, script=parser.prog)
    data = dataclasses.replace(toy.read(), fingerprint="0" * 32)
    run.begin(recipe, data)
    history = {measure: [1.5, 1.0] for measure in MEASURES}
    whole = json.dumps({"epoch": 2, "history": history, "options": run.remembered}).encode()
    del run
    os.chdir(folder)  # where a forged path leads to

    def attempt(number: int) -> None:
        def change(file: h5py.File) -> None:
            del file["training/state"]
            file["training/state"] = np.frombuffer(forged_json(whole, number), np.uint8)

        reseal(path, change)
        gc.collect()  # the errors before hold on to the locks
        try:
            options, checkpoint, locks = parse_training(parser, experiment, [*argv, "--resume"])
        except SystemExit as end:  # the parser has complained in one line
            raise UserError(f"the parser ended with status {end.code}") from end
        run = Run(experiment, options, checkpoint, parser.prog, locks=locks)
        run.begin(recipe, data)
        architecture = dataclasses.replace(
            experiment.architecture, stages=options.stages, filters=options.filters
        )
        checkpoint.refuse_larger(architecture.spec(data.image_shape, data.label_names, None))
        append(run.history, dict.fromkeys(MEASURES, 0.5), 0.1)
        as_csv(run.history)

    return attempt


def forged_models(folder: Path) -> Attempt:
    from pipeline.files.modelfile import load_model

    path, _ = _checkpoint(folder)
    whole = unsealed(path.read_bytes())
    text = whole.index(b'{"family"')

    def attempt(number: int) -> None:
        content = bytearray(whole)
        if number % 2:
            content = hit(whole, number)
        else:  # its description alone
            rng = np.random.default_rng(number)
            for place in rng.integers(text, text + 160, rng.integers(1, 4)):
                content[place] = rng.choice([*b'0123456789[]{},"- '])
        path.write_bytes(sealed(bytes(content)))
        load_model(path)

    return attempt


# data files


def _data_file(folder: Path) -> Path:
    path = folder / "train.hdf5"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    with HDF5DatasetWriter(images.shape, path, NAMES, origin=Origin("train", "x")) as writer:
        writer.add(images, rng.integers(0, 2, 20))
        writer.mean = images.mean(axis=(0, 1, 2))
    return path


def damaged_data_files(folder: Path) -> Attempt:
    path = _data_file(folder)
    whole = path.read_bytes()

    def attempt(number: int) -> None:
        path.write_bytes(hit(whole, number))
        must_be_refused(HDF5DatasetGenerator, path)

    return attempt


def forged_data_files(folder: Path) -> Attempt:
    path = _data_file(folder)
    whole = unsealed(path.read_bytes())
    header = len(whole) - 20 * 8 * 8 * 3

    def attempt(number: int) -> None:
        path.write_bytes(sealed(hit(whole[:header], number) + whole[header:]))
        data = HDF5DatasetGenerator(path)
        data.images[np.arange(len(data.images))]

    return attempt


def mean_colours(folder: Path) -> Attempt:
    path = _data_file(folder)
    colour = dict(zip("RGB", h5py.File(path)["mean"][:].tolist(), strict=True))
    whole = json.dumps(colour | {"build": "x"}).encode()
    beside = path.with_name("mean.json")
    beside.write_bytes(whole)
    mean = HDF5DatasetGenerator(path).mean

    def attempt(number: int) -> None:
        beside.write_bytes(hit(whole, number))
        HDF5DatasetGenerator(path)
        np.testing.assert_array_equal(MeanPreprocessor.from_json(beside).mean, mean)

    return attempt


# photographs


def _photographs(folder: Path) -> Path:
    write_photographs(folder / "photographs", 6)
    return folder / "photographs"


def _packed(folder: Path) -> Path:
    pack_photographs(names_of_photographs(_photographs(folder)), folder / "packed")
    return folder / "packed"


def _decoded(folder: Path, record: Path | None = None) -> tuple[Dataset, np.ndarray]:
    data = read_photograph_folder(str(folder), SIZE, record=record)
    images = [part[np.arange(len(part))] for part in (data.train_images, data.val_images)]
    return data, np.concatenate(images)


def damaged_packed_pictures(folder: Path) -> Attempt:
    packed = _packed(folder)
    wholes = {path: path.read_bytes() for path in packed.glob("[!.]*")}
    assert len(wholes) == 2

    def attempt(number: int) -> None:
        for path, whole in wholes.items():
            path.write_bytes(whole)
        path = list(wholes)[number % 2]
        path.write_bytes(hit(wholes[path], number))
        must_be_refused(_decoded, packed)

    return attempt


def forged_packed_pictures(folder: Path) -> Attempt:
    packed = _packed(folder)
    path, store = packed / "pictures_00001.hdf5", packed / STORE
    whole, listed = path.read_bytes(), store.read_bytes()
    start = whole.index(b"\xff\xd8\xff")  # the first JPEG
    assert tail(io.BytesIO(whole), start) == whole[-TAIL_BYTES:]

    def attempt(number: int) -> None:
        path.write_bytes(whole)
        if number % 2:
            store.write_bytes(sealed(forged_json(unsealed(listed), number)))
        else:
            head = hit(whole[:start], number)
            end = tail(io.BytesIO(head), len(head))
            path.write_bytes(head + whole[start:-TAIL_BYTES] + end)
            store.write_bytes(store_text({path.name: end.hex()}, {}))
        _decoded(packed)

    return attempt


def records_of_pictures(folder: Path) -> Attempt:
    photographs, record = _photographs(folder), folder / "record.json"
    true, images = _decoded(photographs, record)
    whole = record.read_bytes()

    def attempt(number: int) -> None:
        if number % 2:
            record.write_bytes(sealed(forged_json(unsealed(whole), number)))
            _decoded(photographs, record)
        else:
            record.write_bytes(hit(whole, number))
            data, found = _decoded(photographs, record)
            np.testing.assert_array_equal(data.mean, true.mean)
            np.testing.assert_array_equal(found, images)

    return attempt


# what runs have left


def results_of_runs(folder: Path) -> Attempt:
    name, rng = "run", np.random.default_rng(0)
    history = {key: [1.5, 1.0] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
    record = {
        "command": "python train.py",
        "options": {"epochs": 2, "stages": [9, 9], "recipe_parts": {"affine": {"shift": 0.1}}},
        "parameters": 100,
        "start_epoch": 0,
        "curve": {"title": "run", "validation": "test set", "regularized": True},
        "images_per_second": [10.0, 11.0],
        "seconds": 7,
        "devices": ["x86_64"],
        "processor": {"name": "AMD", "instruction_sets": ["AVX2"]},
        "versions": {"keras": "3.15.1"},
    }
    files = ResultFiles(folder, name)
    files.history.write_text(json.dumps(history))
    files.options.write_text(json.dumps(record))
    files.report.write_text("accuracy 0.5")
    scores = rng.random((20, 3), np.float32)
    said = Predictions(scores / scores.sum(1, keepdims=True), np.arange(20) % 3, ("a", "b", "c"))
    mistakes = {int(index): np.zeros((8, 8, 3), np.uint8) for index in said.mistakes(3)}
    KeptPredictions(said, 2, mistakes).write(files.predictions)
    wholes = {path: path.read_bytes() for path in folder.glob(f"{name}*")}
    assert len(wholes) == 4
    true = SavedRun.read(folder, name)

    def attempt(number: int) -> None:
        for path, whole in wholes.items():
            path.write_bytes(whole)
        path, whole = list(wholes.items())[number % 4]
        forge = forged_json if path.suffix == ".json" and number % 3 else hit
        path.write_bytes(forge(whole, number))
        run = SavedRun.read(folder, name)
        run.write_page()
        run.write_curve()
        compared = [ComparedRun.of(run, "damaged"), ComparedRun.of(true, "true")]
        comparison_html(compared)

    return attempt


# archives and pickles


def _batches() -> dict[str, bytes]:
    import pickle

    rng = np.random.default_rng(0)
    batches = {}
    for name in cifar10.BATCHES_SHA256:
        pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        batches[name] = pickle.dumps({b"data": pixels, b"labels": [0, 1, 2, 3]})
    # The attacker has none of the six files but these.
    cifar10.BATCHES_SHA256.update(
        {name: hashlib.sha256(content).hexdigest() for name, content in batches.items()}
    )
    return batches


def _tar(batches: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, batch in batches.items():
            info = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            info.size = len(batch)
            archive.addfile(info, io.BytesIO(batch))
    return content.getvalue()


def _archives(folder: Path, forge: Callable[[bytes, int], bytes]) -> Attempt:
    path = folder / "archive"
    tar = _tar(_batches())
    path.write_bytes(tar)
    whole = cifar10.read_cifar10(str(path))

    def attempt(number: int) -> None:
        path.write_bytes(forge(tar, number))
        data = cifar10.read_cifar10(str(path))
        for name in ("train_images", "train_labels", "val_images", "val_labels"):
            np.testing.assert_array_equal(getattr(data, name), getattr(whole, name))

    return attempt


def damaged_archives(folder: Path) -> Attempt:
    packed = None

    def forge(tar: bytes, number: int) -> bytes:
        nonlocal packed
        packed = packed or gzip.compress(tar)
        return hit(packed, number)

    return _archives(folder, forge)


def forged_archives(folder: Path) -> Attempt:
    def forge(tar: bytes, number: int) -> bytes:
        content = bytearray(tar)
        rng = np.random.default_rng(number)
        header = 512 * int(rng.choice(_headers(tar)))
        for place in rng.integers(header, header + 512, rng.integers(1, 9)):
            content[place] = rng.choice([0, 0x30, 0x37, 0x80, 0xFF, rng.integers(256)])
        if rng.random() < 0.9:  # the header's own checksum
            content[header + 148 : header + 156] = b" " * 8
            checksum = sum(content[header : header + 512])
            content[header + 148 : header + 156] = b"%06o\0 " % checksum
        return gzip.compress(bytes(content), 1)

    return _archives(folder, forge)


@functools.cache
def _headers(tar: bytes) -> list[int]:
    return [n for n in range(len(tar) // 512) if tar[512 * n + 257 : 512 * n + 262] == b"ustar"]


def pickles(folder: Path) -> Attempt:
    batches = _batches()
    for name, content in batches.items():
        (folder / name).write_bytes(content)

    def attempt(number: int) -> None:
        name = list(batches)[number % len(batches)]
        (folder / name).write_bytes(hit(batches[name], number))
        try:
            must_be_refused(cifar10.read_cifar10, str(folder))
        finally:
            (folder / name).write_bytes(batches[name])

    return attempt


# pictures


def pictures(folder: Path) -> Attempt:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (5, 5), 0)
    suffixes = (".png", ".jpg", ".bmp", ".tiff", ".webp", ".gif", ".ppm")
    wholes = [cv2.imencode(suffix, image)[1].tobytes() for suffix in suffixes]

    def attempt(number: int) -> None:
        suffix, whole = suffixes[number % len(wholes)], wholes[number % len(wholes)]
        content = hit(whole, number)
        if suffix == ".png" and number % 2:
            content = _with_checksums(content)
        path = folder / f"picture{suffix}"
        path.write_bytes(content)
        _read_picture(path)

    return attempt


def _read_picture(path: Path) -> None:
    problems = {}
    for fit in (None, lambda image: cv2.resize(image, (SIZE, SIZE))):
        for _, found in read_images([str(path)], (SIZE, SIZE), fit):
            problems |= found
    for problem in problems.values():
        raise problem


def _with_checksums(png: bytes) -> bytes:
    content, place = bytearray(png), 8
    while place + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        if place + 12 + length > len(png):
            break
        checksum = zlib.crc32(png[place + 4 : place + 8 + length])
        struct.pack_into(">I", content, place + 8 + length, checksum)
        place += 12 + length
    return bytes(content)


# bombs: small files that unpack to gigabytes


def bombs(folder: Path) -> Attempt:
    from pipeline.files.modelfile import load_model, read_checkpoint

    path, _ = _checkpoint(folder)
    whole = unsealed(path.read_bytes())

    def with_hdf5(change: Callable[[h5py.File], None], read: Callable) -> None:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        path.write_bytes(sealed(path.read_bytes()))
        must_be_refused(read, path)

    def deflated_chunk(name: str) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            shape, dtype = file[name].shape, file[name].dtype
            chunks = (2 * 10**8, *shape[1:])
            del file[name]
            data = file.create_dataset(
                name, shape, dtype, chunks=chunks, maxshape=(None, *shape[1:]), compression="gzip"
            )
            packer = zlib.compressobj(1)
            zeros = [packer.compress(bytes(2**20)) for _ in range(1000)]
            data.id.write_direct_chunk((0,) * len(shape), b"".join([*zeros, packer.flush()]))

        return change

    def described(**parts: object) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            spec = json.loads(file["spec/text"][:].tobytes()) | parts
            del file["spec/text"]
            file["spec/text"] = np.frombuffer(json.dumps(spec).encode(), np.uint8)

        return change

    def large(name: str, shape: tuple[int, ...]) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[name]
            file.create_dataset(name, shape, "f4")

        return change

    def picture(content: bytes) -> None:
        (folder / "bomb").write_bytes(content)
        must_be_refused(_read_picture, folder / "bomb")

    def png() -> bytes:
        side = 20_000
        blocks = {
            b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0),
            b"IDAT": zlib.compress(bytes((side * 3 + 1) * side), 1),
            b"IEND": b"",
        }
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in blocks.items()
        )

    def jpeg() -> bytes:
        content = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = b"\xfa\x00\xfa\x00"
        return bytes(content)

    def tar(kind: bytes, size: int) -> None:
        info = tarfile.TarInfo("x")
        info.size, info.type = size, kind
        with gzip.open(folder / "bomb", "wb", compresslevel=1) as file:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(2000):
                file.write(bytes(2**20))
        must_be_refused(cifar10.read_cifar10, str(folder / "bomb"))

    def pickle(content: bytes) -> None:
        for name in cifar10.BATCHES_SHA256:
            (folder / name).write_bytes(content)
        must_be_refused(cifar10.read_cifar10, str(folder))

    huge = [2**14] * 4
    tries = [
        *(
            lambda name=name, read=read: with_hdf5(deflated_chunk(name), read)
            for name in ("model_weights/fc/fc/bias", "spec/text", "training/state", "spec/mean")
            for read in (read_checkpoint, load_model)
            if name.startswith("model") or (name == "training/state") == (read is read_checkpoint)
        ),
        *(
            lambda parts=parts: with_hdf5(described(**parts), load_model)
            for parts in (
                {"stages": [1000] * 3, "filters": huge},
                {"stages": [1] * 1000, "filters": [4] * 1001},
                {"stages": [1], "filters": [4, 2**14]},
                {"filters": [2**14, 8]},
                {"label_names": ["a"] * 10**6, "filters": [4, 2**13]},
                {"image_shape": [2**40, 2**40, 3]},
            )
        ),
        lambda: with_hdf5(large("model_weights/fc/fc/kernel", (10**12,)), read_checkpoint),
        lambda: with_hdf5(large("training/optimizer/0000", (10**6, 10**6)), read_checkpoint),
        lambda: picture(png()),
        lambda: picture(jpeg()),
        *(
            lambda kind=kind: tar(kind, 2**31)
            for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE)
        ),
        lambda: pickle(b"\x80\x04\x8e" + struct.pack("<Q", 14 * 10**9)),
        lambda: pickle(b"(" * 10**7),
        lambda: pickle(b"]" + b"2" * 10**7),
    ]

    return _each(tries)


# what stands in a file's place


def special_files(folder: Path) -> Attempt:
    from pipeline.files.modelfile import load_body, load_model, read_checkpoint

    def batch(path: Path) -> None:
        for name in cifar10.BATCHES_SHA256:
            if not (path.parent / name).exists():
                (path.parent / name).write_bytes(b"")
        (path.parent / "data_batch_1").unlink()
        (path.parent / "data_batch_1").symlink_to(path)
        cifar10.read_cifar10(str(path.parent))

    readers = (
        read_checkpoint,
        load_model,
        lambda path: load_body(path, None),
        HDF5DatasetGenerator,
        StorePart,
        read_history,
        read_record,
        KeptPredictions.read,
        MeanPreprocessor.from_json,
        lambda path: read_label_names(path, path),
        lambda path: cifar10.read_cifar10(str(path)),
        batch,
        _read_picture,
    )

    def attack(put: Callable[[Path], None], read: Callable[[Path], object], number: int) -> None:
        place = folder / str(number)
        place.mkdir(exist_ok=True)
        put(place / "file")
        must_be_refused(read, place / "file")

    pairs = itertools.product((specialfiles.sparse, *specialfiles.SPECIAL), readers)
    return _each(
        functools.partial(attack, put, read, number) for number, (put, read) in enumerate(pairs)
    )


def links(folder: Path) -> Attempt:
    from pipeline.files.modelfile import save_checkpoint

    _, classifier = _checkpoint(folder)
    state = {"epoch": 1, "history": {}, "options": {}}

    def export(place: Path) -> None:
        with whole_folder(place / "a") as staging:
            (staging / "a").write_text("new")

    def publish(place: Path) -> None:
        for _ in range(2):
            with published_together(place, ["a"], overwrite=True) as staging:
                (staging / "a").write_text("new")

    writers = {
        ".lock": lambda place: lock(place).close(),
        ".a.tmp": lambda place: write_atomically(place / "a", "new"),
        ".epoch_1.hdf5.tmp": lambda place: save_checkpoint(
            place / "epoch_1.hdf5", classifier, state
        ),
        ".train.hdf5.tmp": _data_file,
        **dict.fromkeys((".a.unfinished", ".a.replaced"), export),
        **dict.fromkeys((".unfinished", ".complete", ".current", ".files_1", "a"), publish),
    }

    def attack(name: str, write: Callable[[Path], object], to_folder: bool) -> None:
        place = folder / f"{name}_{to_folder}"
        precious = folder / f"precious_{name}_{to_folder}"
        results = precious / "results" if to_folder else precious
        place.mkdir(exist_ok=True)
        results.parent.mkdir(exist_ok=True)
        results.write_text("results")
        (place / name).symlink_to(precious)
        try:
            write(place)
        finally:
            assert results.read_text() == "results"

    return _each(
        functools.partial(attack, name, write, to_folder)
        for (name, write), to_folder in itertools.product(writers.items(), (False, True))
    )


# kills


def _kills(write: Callable, look: Callable[[], None], names: tuple[str, ...]) -> Attempt:
    """Kills a process at random that replaces files over and over.

    Args:
        write: returns a context that lends a folder to write them to, and then replaces them.
        look: called after each kill; raises if they are not of one writing.
        names: of the files.
    """
    context = multiprocessing.get_context("fork")

    def replace_for_ever(written: Connection) -> None:
        for round_ in itertools.count():
            with write() as staging:
                for name in names:
                    (staging / name).write_text(f"{os.getpid()}.{round_}")
            written.send_bytes(b"")

    def attempt(number: int) -> None:
        # Not an event: its lock would be left taken by a kill.
        ready, written = context.Pipe(duplex=False)
        process = context.Process(target=replace_for_ever, args=(written,))
        process.start()
        ready.poll(10)
        process.join(np.random.default_rng(number).uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        look()

    return attempt


def _assert_of_one_writing(folder: Path, names: tuple[str, ...]) -> None:
    assert len({(folder / name).read_text() for name in names}) == 1, "of two sets"


def kills_of_a_build(folder: Path) -> Attempt:
    names, folder = ("train", "val", "test", "mean"), folder / "set"

    def look() -> None:
        _assert_of_one_writing(folder, names)
        finish_interrupted(folder, names)
        _assert_of_one_writing(folder, names)

    return _kills(lambda: published_together(folder, names, overwrite=True), look, names)


def kills_of_an_export(folder: Path) -> Attempt:
    names, folder = ("network.onnx", "preprocess.json", "classify.py"), folder / "export"
    replaced = folder.with_name(f".{folder.name}.replaced")

    def look() -> None:
        _assert_of_one_writing(folder if folder.exists() else replaced, names)
        with contextlib.suppress(KeyboardInterrupt), whole_folder(folder):
            raise KeyboardInterrupt  # even so, what was there comes back
        _assert_of_one_writing(folder, names)
        assert not replaced.exists()

    return _kills(lambda: whole_folder(folder), look, names)


# the process


class _Each:
    """Attempts that are listed."""

    def __init__(self, tries: list[Callable[[], None]]):
        self.tries = tries

    def __len__(self) -> int:
        return len(self.tries)

    def __call__(self, number: int) -> None:
        self.tries[number]()


def _each(tries: object) -> _Each:
    return _Each(list(tries))


ATTACKS = {
    function.__name__: function
    for function in (
        damaged_checkpoints,
        forged_checkpoints,
        forged_states,
        forged_models,
        damaged_data_files,
        forged_data_files,
        mean_colours,
        damaged_archives,
        forged_archives,
        pickles,
        pictures,
        damaged_packed_pictures,
        forged_packed_pictures,
        records_of_pictures,
        results_of_runs,
        bombs,
        special_files,
        links,
        kills_of_a_build,
        kills_of_an_export,
    )
}


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def outcome(attempt: Attempt, number: int) -> str:
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is that since now
    before = memory("VmRSS")
    try:
        attempt(number)
        ending = "fine"
    except (UserError, OSError):
        ending = "refused"
    except BaseException as error:
        return f"broke: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if (taken := memory("VmHWM") - before) > MEMORY_LIMIT:
        return f"broke: it took {taken / 1e6:,.0f} MB"
    return ending


def main() -> None:
    name, folder, first, end = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what the readers print
    attempt = ATTACKS[name](folder)
    end = min(end, len(attempt)) if isinstance(attempt, _Each) else end
    print("ready", file=report)
    for number in range(first, end):
        print(number, file=report)
        print(outcome(attempt, number), file=report)


if __name__ == "__main__":
    main()
