"""Files from others: made to run code, to reach out of themselves, or to take all the memory.

The seal of a file is a checksum, which such a file has like any other. What protects is that
nothing in a file is executed, that networks are built by our own code, and that a size is checked
before it is allocated. Hostile weights are in test_modelfile.py, pickles and archives in
test_cifar10.py, data that lie elsewhere in test_hdf5datasetgenerator.py.
"""

import json
import os
import resource
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from resealed import reseal
from toy import NAMES, NETWORK, experiment

from pipeline import history as histories
from pipeline.command_line.options import training_parser
from pipeline.command_line.resuming import parse_training
from pipeline.errors import UserError
from pipeline.files.modelfile import load_model, read_checkpoint, save_model
from pipeline.files.seal import seal
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
from pipeline.training.experiment import train

SCRIPT = "train.py"


@pytest.fixture
def little_memory():
    """Leaves this process 1 GiB more than it has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (room, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


# code


def lambda_layer(witness: Path) -> keras.layers.Layer:
    """A layer whose code, which is stored in the file, writes a file when the model is built."""
    path = str(witness)
    return keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1])


def write_model_with_code(path: Path, witness: Path) -> None:
    """Writes a sound network with one more layer, without weights, that has code in the file."""
    spec = NETWORK.spec((8, 8, 3), NAMES, mean=None)
    network = spec.build()
    save_model(path, keras.Model(network.inputs, lambda_layer(witness)(network.output)), spec)
    witness.unlink(missing_ok=True)


def test_code_in_a_model_is_not_run(tmp_path):
    path, witness = tmp_path / "model.hdf5", tmp_path / "witness"
    write_model_with_code(path, witness)
    load_model(path)
    assert not witness.exists()
    # That it can run is not in doubt: Keras does it when it is told that the file is safe.
    keras.models.load_model(path, compile=False, safe_mode=False)
    assert witness.exists()


def test_the_description_of_a_network_in_a_file_is_not_even_read(tmp_path):
    path = tmp_path / "model.hdf5"
    write_model_with_code(path, tmp_path / "witness")
    config = json.dumps({"module": "foreign", "class_name": "Layer", "config": {}})
    reseal(path, lambda file: file.attrs.update(model_config=config))
    with pytest.raises(Exception, match="Layer"):  # as Keras reads it
        keras.models.load_model(path, compile=False, safe_mode=False)
    load_model(path)


def test_an_archive_of_keras_is_not_unpacked(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../witness", "evil")
        archive.writestr("config.json", "{}")
    with pytest.raises(UserError, match="not written by this project"):
        load_model(path)
    with open(path, "r+b") as file:
        file.write(seal(file, path.stat().st_size))
    with pytest.raises(UserError, match="is not an HDF5 file"):
        load_model(path)
    assert os.listdir(tmp_path) == ["model.keras"]


# the state in a checkpoint


def resumed(output: Path):
    """Returns options and checkpoint of a run that goes on."""
    toy = experiment()
    parser = training_parser("", toy)
    parser.prog = SCRIPT
    return parse_training(parser, toy, ["--resume", "--output", str(output)])[:2]


STATE = {"epoch": 1, "history": {"loss": [1.0]}, "options": {"script": SCRIPT, "seed": 42}}


@pytest.fixture
def checkpoint_with(write_checkpoint, tmp_path):
    """Writes a checkpoint whose state is a text, or JSON: `checkpoint_with(STATE)`."""

    def checkpoint_with(state):
        path = write_checkpoint(tmp_path / "checkpoints" / "epoch_1.hdf5", 1)
        text = state if isinstance(state, str) else json.dumps(state)

        def change(file):
            del file["training/state"]
            file["training/state"] = np.frombuffer(text.encode(), np.uint8)

        reseal(path, change)
        return path

    return checkpoint_with


def test_a_state_of_the_right_form_is_read(checkpoint_with, tmp_path):
    checkpoint_with(STATE)
    args, checkpoint = resumed(tmp_path)
    assert (checkpoint.epoch, args.seed) == (1, 42)


@pytest.mark.parametrize(
    "state",
    [
        "[" * 100_000,
        '{"epoch": ' + "1" * 5000 + "}",
        STATE | {"epoch": "1"},
        STATE | {"epoch": -1},
        STATE | {"epoch": True},
        STATE | {"epoch": 1e300},
        STATE | {"epoch": 10**12},
        STATE | {"history": [1.0]},
        STATE | {"history": {"loss": 1.0}},
        STATE | {"history": {"loss": ["1.0"]}},
        STATE | {"history": {"loss": [1.0, 0.5]}},
        STATE | {"history": {"loss": [float("nan")]}},
        STATE | {"options": ["script"]},
        STATE | {"options": None},
        STATE | {"options": {"recipe_parts": None}},
        STATE | {"options": {"recipe_parts": ["reg"]}},
    ],
    ids=lambda state: str(state)[:60],
)
def test_a_state_of_another_form_is_refused(checkpoint_with, state):
    path = checkpoint_with(state)
    with pytest.raises(UserError, match=f"{path} is not a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "options",
    [
        {"filters": [4, 8, "--output", "elsewhere"]},
        {"filters": ["4", "8", "--output=elsewhere"]},
        {"stages": ["1", "-oelsewhere"]},
        {"every": "--output=elsewhere"},
    ],
)
def test_a_checkpoints_options_cannot_name_other_options(checkpoint_with, tmp_path, options):
    path = checkpoint_with(STATE | {"options": STATE["options"] | options})
    with pytest.raises(UserError, match=f"{path} is damaged: its .*elsewhere"):
        resumed(tmp_path)


def test_an_option_that_is_none_is_said_to_be_the_checkpoints(checkpoint_with, tmp_path, capsys):
    path = checkpoint_with(STATE | {"options": STATE["options"] | {"filters": [4, "x"]}})
    with pytest.raises(SystemExit, match="2"):
        resumed(tmp_path)
    complaint = f"error: {path} is damaged, or of another version: argument --filters: 'x' is "
    assert capsys.readouterr().err.startswith(complaint)


def test_a_path_that_is_none_is_refused(checkpoint_with, tmp_path):
    path = checkpoint_with(STATE | {"options": STATE["options"] | {"data": "a\0b"}})
    with pytest.raises(UserError, match=f"{path} is damaged: its data"):
        resumed(tmp_path)


def test_no_network_is_built_that_a_checkpoint_has_not_the_weights_of(checkpoint_with, tmp_path):
    large = {"stages": [40], "filters": [4, 1024]}
    path = checkpoint_with(STATE | {"history": {}, "options": STATE["options"] | large})
    options, checkpoint = resumed(tmp_path)
    with pytest.raises(UserError, match=f"{path} .* fewer weights than this network"):
        train(experiment(), options, checkpoint, script="train.py")


@pytest.mark.parametrize("name", ["output", "checkpoints", "resume", "run_options"])
def test_what_a_checkpoint_does_not_keep_it_cannot_set(checkpoint_with, tmp_path, name):
    checkpoint_with(STATE | {"options": STATE["options"] | {name: "elsewhere"}})
    args, _ = resumed(tmp_path)
    assert "elsewhere" not in vars(args).values()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"loss": ' * 100_000, "1" * 5000])
def test_endless_json_is_refused_in_one_line_wherever_it_is_read(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    for read in (histories.read_history, MeanPreprocessor.from_json):
        with pytest.raises(UserError, match=str(path)):
            read(path)


# data files: sizes


def data_file(path: Path, **changes) -> Path:
    """A file of the form of `HDF5DatasetWriter`, with other members where `changes` has them."""
    members = {
        "images": np.zeros((4, 8, 8, 3), np.uint8),
        "labels": np.zeros(4, np.int32),
        "label_names": np.array([[b"n1", b"cat"]]),
    }
    with h5py.File(path, "w") as file:
        file.attrs["complete"] = True
        for name, value in (members | changes).items():
            if callable(value):
                value(file, name)
            else:
                file[name] = value
    with open(path, "r+b") as file:
        file.write(seal(file, path.stat().st_size))
    return path


def claims(shape, dtype):
    """Makes a data set of which nothing is written, so that it takes no place in the file."""
    return lambda file, name: file.create_dataset(name, shape, dtype)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": claims((10**10, 8, 8, 3), np.uint8)},
        {"images": claims((2**61, 8, 8, 3), np.uint8)},
        {"images": claims((10**9, 8, 8, 3), np.uint8), "labels": claims((10**9,), np.int32)},
        {"labels": claims((10**11,), np.int32)},
        {"label_names": claims((10**9, 2), "S100")},
        {"label_names": claims((1, 2), "S1000000000")},
        {"label_names": claims((1, 2), f"S{2**31 - 1}")},
    ],
)
def test_a_data_file_that_claims_to_be_huge_is_refused_before_memory_is_taken(
    tmp_path, little_memory, changes
):
    path = data_file(tmp_path / "train.hdf5", **changes)
    with pytest.raises(UserError, match=str(path)):
        HDF5DatasetGenerator(path)


def test_a_sound_data_file_opens_with_little_memory(tmp_path, little_memory):
    path = data_file(tmp_path / "train.hdf5")
    assert len(HDF5DatasetGenerator(path).images) == 4
