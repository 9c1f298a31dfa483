import hashlib
import io
import json
import os
import random

import h5py
import keras
import numpy as np
import pytest
import specialfiles
from keras import ops
from resealed import reseal

from pipeline.errors import UserError
from pipeline.files.modelfile import (
    FILE_BYTES_LIMIT,
    load_model,
    read_checkpoint,
    save_checkpoint,
    save_model,
)
from pipeline.files.seal import SEAL, SEAL_BYTES, seal
from pipeline.nn.spec import NetworkSpec
from pipeline.training.classifier import Classifier

STATE = {
    "epoch": 3,
    "history": {"loss": [1.5, 1.25, 0.1], "val_accuracy": [0.1, 0.5, 1 / 3]},
    "options": {"script": "train.py", "filters": [4, 8], "data": None, "seed": 42},
}


@pytest.fixture(scope="module")
def model(tiny_network):
    """A network none of whose variables, the optimizer's included, is as a fresh one's."""
    model = tiny_network()
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    for variable in [*model.weights, *model.optimizer.variables]:
        variable.assign(rng.uniform(1, 9, variable.shape))
    return model


@pytest.fixture
def checkpoint(tmp_path, model):
    path = tmp_path / "epoch_3.hdf5"
    save_checkpoint(path, model, STATE)
    return path


def values(model):
    return [ops.convert_to_numpy(v) for v in [*model.weights, *model.optimizer.variables]]


def assert_same_values(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our, their)


# what goes in comes out


def test_a_checkpoint_brings_back_every_weight_and_every_variable_of_the_optimizer(
    checkpoint, model, tiny_network
):
    restored = tiny_network()
    read_checkpoint(checkpoint).restore(restored)
    assert_same_values(values(restored), values(model))
    assert len(restored.optimizer.variables) == 2 + len(restored.trainable_variables)


def test_a_checkpoint_brings_back_epoch_history_and_options_to_the_last_digit(checkpoint):
    read = read_checkpoint(checkpoint)
    assert {"epoch": read.epoch, "history": read.history, "options": read.options} == STATE
    assert read.path == checkpoint


def test_what_was_read_stays_whole_when_the_file_is_replaced(checkpoint, model, tiny_network):
    """A run goes on from a checkpoint that it may overwrite while it starts."""
    read = read_checkpoint(checkpoint)
    checkpoint.write_bytes(b"something else")
    restored = tiny_network()
    read.restore(restored)
    assert_same_values(values(restored), values(model))


def test_networks_are_loaded_from_models_and_from_checkpoints(checkpoint, model, tmp_path):
    save_model(tmp_path / "model.hdf5", model.network)
    spec = NetworkSpec("resnet", (8, 8, 3), tuple("abcd"), None, "cifar10", (1,), (4, 8))
    for path in (checkpoint, tmp_path / "model.hdf5"):
        loaded, _ = load_model(path, spec)
        assert_same_values(loaded.get_weights(), model.network.get_weights())


def test_plain_keras_opens_models_and_checkpoints(checkpoint, model, tiny_images, tmp_path):
    images = tiny_images[0].astype("float32")
    save_model(tmp_path / "model.hdf5", model.network)
    for path in (checkpoint, tmp_path / "model.hdf5"):
        opened = keras.models.load_model(path, compile=False)
        np.testing.assert_array_equal(
            opened.predict(images, verbose=0), model.network.predict(images, verbose=0)
        )


# a file is whole or refused


def assert_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is truncated, damaged or not written by this"):
        read_checkpoint(path)


def test_a_flipped_bit_is_noticed_wherever_it_is(checkpoint):
    content = checkpoint.read_bytes()
    seal = range(len(content) - SEAL_BYTES, len(content))
    for offset in [*range(0, len(content), 401), *seal]:
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        assert_refused(checkpoint, damaged)


def test_a_missing_end_is_noticed_wherever_it_begins(checkpoint):
    content = checkpoint.read_bytes()
    for length in [0, 1, 8, SEAL_BYTES, *range(100, len(content), 997), len(content) - 1]:
        assert_refused(checkpoint, content[:length])


def test_zeroed_blocks_are_noticed(checkpoint):
    """What a file system may leave of a file after a power cut."""
    content = checkpoint.read_bytes()
    for start in range(0, len(content), 4096):
        block = content[start : start + 4096]
        if any(block):
            assert_refused(
                checkpoint, content[:start] + bytes(len(block)) + content[start + 4096 :]
            )
    assert_refused(checkpoint, bytes(len(content)))


def test_more_behind_the_seal_is_noticed(checkpoint):
    assert_refused(checkpoint, checkpoint.read_bytes() + b"\n")


def test_a_model_saved_by_keras_alone_is_refused(tmp_path, model):
    model.network.save(tmp_path / "model.hdf5", include_optimizer=False)
    with pytest.raises(UserError, match="not written by this project"):
        load_model(tmp_path / "model.hdf5")


def test_what_cannot_be_read_at_all_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/no.hdf5: there is no such file"):
        read_checkpoint(tmp_path / "no.hdf5")
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read: Is a directory"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe.hdf5")
    with specialfiles.at_once(), pytest.raises(UserError, match="it is a pipe, a device"):
        read_checkpoint(tmp_path / "pipe.hdf5")
    with open(tmp_path / "huge.hdf5", "wb") as file:
        file.truncate(FILE_BYTES_LIMIT + 1)
    with pytest.raises(UserError, match=r"huge\.hdf5 cannot be read: it is larger than"):
        read_checkpoint(tmp_path / "huge.hdf5")


def test_a_model_is_no_checkpoint(tmp_path, model):
    save_model(tmp_path / "model.hdf5", model.network)
    with pytest.raises(UserError, match=r"a model without the training's state.*epoch_N\.hdf5"):
        read_checkpoint(tmp_path / "model.hdf5")


# another network


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"classes": 5}, r"fc's kernel is \(8, 4\) in it and \(8, 5\) in this run"),
        ({"filters": (4, 16)}, r"is \(.*\) in it and \(.*\) in this run"),
        ({"stages": (2,)}, "differ in 6 layers, conv2_2_bn1 among them"),
        ({"momentum": 0.0}, "another optimizer or precision: it has 1. .* this run 2"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(checkpoint, tiny_network, other, message):
    with pytest.raises(UserError, match=rf"{checkpoint} .*{message}"):
        read_checkpoint(checkpoint).restore(tiny_network(**other))


# hostile files


def outside_file(tmp_path, model):
    """A second file with the same weights, to which links can lead."""
    path = tmp_path / "outside.hdf5"
    model.network.save(path, include_optimizer=False)
    return path


def link_one_weight(group, outside):
    name = "fc/kernel"
    del group["fc"][name]
    group["fc"][name] = h5py.ExternalLink(outside, f"/model_weights/fc/{name}")


def link_a_layer(group, outside):
    del group["fc"]
    group["fc"] = h5py.ExternalLink(outside, "/model_weights/fc")


def link_within(group, outside):
    group.move("fc/fc/kernel", "elsewhere")
    group["fc/fc/kernel"] = h5py.SoftLink("/model_weights/elsewhere")


def external_storage(group, outside):
    shape = group["fc/fc/kernel"].shape
    del group["fc/fc/kernel"]
    group.create_dataset("fc/fc/kernel", shape, "f4", external=[(outside, 0, 4 * 32)])


def virtual_dataset(group, outside):
    shape = group["fc/fc/kernel"].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(outside, "model_weights/fc/fc/kernel", shape)
    del group["fc/fc/kernel"]
    group.create_virtual_dataset("fc/fc/kernel", layout)


def numbers_of_a_gigabyte_each(group, outside):
    """Takes hardly a byte in the file, as nothing of it is written."""
    shape = group["fc/fc/kernel"].shape
    del group["fc/fc/kernel"]
    group.create_dataset("fc/fc/kernel", shape, "S1000000000", chunks=(1, 1))


def a_shape_beyond_the_memory(group, outside):
    del group["fc/fc/kernel"]
    group.create_dataset("fc/fc/kernel", (2**40, 2**20), "f4", chunks=(64, 64))


def a_chunk_of_gigabytes(group, outside):
    """Compressed it takes little, and to read one number of it HDF5 unpacks it all."""
    del group["fc/fc/bias"]
    group.create_dataset(
        "fc/fc/bias", (4,), "f4", chunks=(10**9,), maxshape=(None,), compression="gzip"
    )


def a_filter_that_nobody_has(group, outside):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((4,))
    layout.set_filter(32_000, h5py.h5z.FLAG_OPTIONAL)
    del group["fc/fc/bias"]
    h5py.h5d.create(
        group["fc/fc"].id, b"bias", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), layout
    )


def names_that_are_no_utf_8(group, outside):
    group["fc"].attrs["weight_names"] = np.array([b"\xff\xfe", b"\xfe"])


def names_in_a_table(group, outside):
    group["fc"].attrs["weight_names"] = np.array([[b"fc/kernel", b"fc/bias"]])


def a_layer_whose_name_is_no_utf_8(group, outside):
    h5py.h5g.create(group.id, b"\xff\xfe")


def texts_for_numbers(group, outside):
    shape = group["fc/fc/kernel"].shape
    del group["fc/fc/kernel"]
    group["fc/fc/kernel"] = np.full(shape, b"1.0")


def a_group_for_a_weight(group, outside):
    del group["fc/fc/kernel"]
    group.create_group("fc/fc/kernel")


def a_number_for_a_layer(group, outside):
    del group["fc"]
    group["fc"] = 1.0


def names_that_lead_out(group, outside):
    group["fc"].attrs["weight_names"] = np.array([b"../bn/bn/gamma", b"/training/state"])


@pytest.mark.parametrize(
    "change",
    [
        link_one_weight,
        link_a_layer,
        link_within,
        external_storage,
        virtual_dataset,
        numbers_of_a_gigabyte_each,
        a_shape_beyond_the_memory,
        a_chunk_of_gigabytes,
        a_filter_that_nobody_has,
        names_that_are_no_utf_8,
        names_in_a_table,
        a_layer_whose_name_is_no_utf_8,
        texts_for_numbers,
        a_group_for_a_weight,
        a_number_for_a_layer,
        names_that_lead_out,
    ],
)
def test_weights_come_from_the_sealed_file_or_not_at_all(
    checkpoint, model, tiny_network, tmp_path, change
):
    outside = str(outside_file(tmp_path, model))
    reseal(checkpoint, lambda file: change(file["model_weights"], outside))
    with pytest.raises(UserError, match=str(checkpoint)):
        read_checkpoint(checkpoint).restore(tiny_network())


def test_a_file_of_an_earlier_version_lists_the_weights_in_texts_of_variable_length(
    checkpoint, model, tiny_network
):
    def change(file):
        for group in file["model_weights"].values():
            names = [name.decode() for name in group.attrs["weight_names"]]
            group.attrs["weight_names"] = np.array(names, dtype=h5py.string_dtype())

    reseal(checkpoint, change)
    restored = tiny_network()
    read_checkpoint(checkpoint).restore(restored)
    assert_same_values(values(restored), values(model))


def test_keras_reads_the_names_as_they_are_written_here(checkpoint, model):
    loaded = keras.models.load_model(checkpoint, compile=False)
    assert_same_values(loaded.get_weights(), model.network.get_weights())


def test_forged_at_random_a_checkpoint_is_read_or_refused_in_one_line(checkpoint, tiny_network):
    """That is, with a checksum that is right, so that HDF5 gets to see the damage."""
    whole = checkpoint.read_bytes()[:-SEAL_BYTES]
    chance = random.Random(0)
    classifier = tiny_network()
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in chance.choices(range(len(whole)), k=chance.choice([1, 20])):
            damaged[place] = chance.randrange(256)
        checkpoint.write_bytes(damaged + seal(io.BytesIO(damaged), len(damaged)))
        try:
            with specialfiles.at_once():
                read_checkpoint(checkpoint).restore(classifier)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all(refusal.startswith(str(checkpoint)) for refusal in refusals)


def state(value):
    def change(file):
        del file["training/state"]
        if value is not None:
            file["training/state"] = value

    return change


@pytest.mark.parametrize(
    "value",
    [
        None,
        np.frombuffer(b"no JSON", np.uint8),
        np.frombuffer(b'{"epoch": 3}', np.uint8),
        np.frombuffer(b"[1, 2]", np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros(10, np.float64),
        np.zeros((), np.uint8),
        h5py.ExternalLink("outside.hdf5", "/training/state"),
        h5py.SoftLink("/model_weights"),
    ],
)
def test_a_state_that_is_none_is_refused(checkpoint, value):
    reseal(checkpoint, state(value))
    with pytest.raises(UserError, match=str(checkpoint)):
        read_checkpoint(checkpoint)


def test_a_state_that_claims_to_be_huge_is_refused_before_memory_is_taken(checkpoint):
    def change(file):
        del file["training/state"]
        file["training"].create_dataset("state", (10**13,), np.uint8)

    reseal(checkpoint, change)
    with pytest.raises(UserError, match=f"{checkpoint} .* its state is larger than it"):
        read_checkpoint(checkpoint)


def test_a_sealed_text_is_no_checkpoint(tmp_path):
    text = json.dumps(STATE).encode()
    path = tmp_path / "epoch_3.hdf5"
    path.write_bytes(text + SEAL % hashlib.sha256(text).hexdigest().encode())
    with pytest.raises(UserError, match=f"{path} is not an HDF5 file"):
        read_checkpoint(path)


# writing


@pytest.mark.parametrize("missing", [1, 40_000, 77_000])
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_else(
    checkpoint, model, small_disk, missing
):
    before = checkpoint.read_bytes()
    for _ in range(2):
        too_large = pytest.raises(OSError, match=f"File too large: '{checkpoint}'")
        with too_large, small_disk(len(before) - missing):
            save_checkpoint(checkpoint, model, STATE)
    assert checkpoint.read_bytes() == before
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_a_missing_folder_is_an_os_error(tmp_path, model):
    with pytest.raises(OSError, match="model"):
        save_model(tmp_path / "no" / "model.hdf5", model.network)


def test_what_a_killed_save_left_behind_does_not_disturb_the_next(checkpoint, model):
    """The temporary name is always the same, so that nothing piles up either."""
    (checkpoint.parent / ".epoch_3.hdf5.tmp").write_bytes(b"half a file")
    save_checkpoint(checkpoint, model, STATE)
    assert os.listdir(checkpoint.parent) == [checkpoint.name]
    assert read_checkpoint(checkpoint).epoch == 3


# the network that a file holds


SPEC = NetworkSpec(
    "resnet",
    (8, 8, 3),
    ("ant", "bee", "cat", "dog"),
    np.full(3, 99.5, np.float32),
    "cifar10",
    (1,),
    (4, 8),
)


@pytest.fixture
def described(tmp_path):
    """A model file that says what it holds, and its network."""
    network = SPEC.build()
    save_model(tmp_path / "model.hdf5", network, SPEC)
    return tmp_path / "model.hdf5", network


def test_a_file_is_all_that_it_takes_to_use_its_network(described, tiny_images):
    path, network = described
    loaded, spec = load_model(path)
    assert spec.label_names == SPEC.label_names
    images = spec.preprocessor.preprocess(tiny_images[0])
    np.testing.assert_array_equal(images, tiny_images[0] - np.float32(99.5))
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), network.predict(images, verbose=0)
    )


def test_a_checkpoint_says_what_it_holds_as_well(tmp_path):
    model = Classifier(SPEC.build(), keras.optimizers.SGD(0.1), spec=SPEC)
    model.optimizer.build(model.trainable_variables)
    save_checkpoint(tmp_path / "epoch_1.hdf5", model, STATE)
    loaded, spec = load_model(tmp_path / "epoch_1.hdf5")
    assert spec.to_json() == SPEC.to_json()
    assert_same_values(loaded.get_weights(), model.network.get_weights())


def test_a_file_that_does_not_say_what_it_holds_takes_the_readers_word(described, tmp_path):
    _, network = described
    save_model(tmp_path / "earlier.hdf5", network)
    with pytest.raises(UserError, match=r"earlier\.hdf5 does not say what network it holds"):
        load_model(tmp_path / "earlier.hdf5")
    loaded, spec = load_model(tmp_path / "earlier.hdf5", SPEC)
    assert spec is SPEC
    assert_same_values(loaded.get_weights(), network.get_weights())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", b"{}"),
        ("text", SPEC.to_json().replace("[1]", "[1000000000]").encode()),
        ("text", SPEC.to_json().replace("[1]", "[600, 600]").encode()),
        ("text", SPEC.to_json().replace("[1]", "[500]").encode()),
        ("text", SPEC.to_json().replace("[4, 8]", "[16384, 16384]").encode()),
        ("text", SPEC.to_json().replace("[4, 8]", "[4, 128]").encode()),
        ("text", SPEC.to_json().replace('"ant"', '"ant"' + ', "ant"' * 10**6).encode()),
        ("text", SPEC.to_json().replace("cifar10", "none").encode()),
        ("text", SPEC.to_json().replace("[4, 8]", "[4, 9]").encode()),
        ("mean", np.zeros(4, np.float32)),
        ("mean", np.full(3, np.inf, np.float32)),
        ("mean", np.zeros(3, np.float64)),
    ],
)
def test_a_description_of_no_network_is_refused_though_the_file_is_whole(described, name, value):
    path, _ = described
    value = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value

    def change(file):
        del file["spec"][name]
        file["spec"][name] = value

    reseal(path, change)
    with specialfiles.at_once(), pytest.raises(UserError) as refused:
        load_model(path)
    assert str(refused.value).startswith(f"{path} is damaged")
