"""Model files and checkpoints: Keras's HDF5 format, sealed with a checksum.

A file holds what `keras.models.load_model` needs and, in a checkpoint, a group `training` beside
it: all variables of the optimizer and, as JSON, the epoch, the history and the options. Keras
itself does not bring back an optimizer from `.hdf5`, so that group is read here.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pipeline.errors import NetworkError, UserError
from pipeline.files.atomic import write_atomically
from pipeline.files.hdf5members import own_member
from pipeline.files.seal import SEAL_BYTES, is_sealed, seal
from pipeline.nn.spec import NetworkSpec
from pipeline.training import history as histories

if TYPE_CHECKING:  # slow to import: a script reads its checkpoint before it needs Keras
    import keras

    from pipeline.training.classifier import Classifier

FILE_BYTES_LIMIT = 2**31


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: where it was read from.
        epoch: number of completed epochs.
        history: one list of values an epoch for each name, such as `val_accuracy`.
        options: the options of the run that wrote it, its seed among them.
    """

    path: Path
    epoch: int
    history: dict[str, list[float]]
    options: dict
    data: bytes

    def restore(self, classifier: Classifier) -> None:
        """Gives a classifier the checkpoint's weights, its optimizer and averages their variables.

        Raises:
            UserError: the checkpoint is of another network, another number of classes or another
                optimizer.
        """
        classifier.optimizer.build(classifier.trainable_variables)
        with _open(self.path, self.data) as file:
            _restore_weights(self.path, file, classifier.network)
            self._restore_variables(file, "optimizer", classifier.optimizer.variables)
            if "averages" in _member(self.path, file, "training", h5py.Group):
                self._restore_variables(file, "averages", _averages(classifier))
            elif classifier.averages:  # written when statistics were not averaged yet
                classifier.start_averages()

    def _restore_variables(self, file: h5py.File, name: str, variables: list) -> None:
        group = _member(self.path, file, f"training/{name}", h5py.Group)
        if len(group) != len(variables):
            raise UserError(
                f"{self.path} was written by another optimizer or precision: it has "
                f"{len(group)} {name} variables, this run {len(variables)}"
            )
        for index, variable in enumerate(variables):
            what = f"the {name} variable {variable.name}"
            _assign(self.path, group, f"{index:04}", variable, what)


def save_model(path: str | Path, network: keras.Model, spec: NetworkSpec | None = None) -> None:
    """Writes a network, replacing `path`, an `.hdf5` file, in one step.

    Args:
        path: the file.
        network: what it is to hold.
        spec: what the network is, for `load_model`.

    Raises:
        OSError: the file could not be written; what was there still is.
    """
    _save(path, network, spec)


def save_checkpoint(path: str | Path, classifier: Classifier, state: dict) -> None:
    """Writes all that training needs to go on, replacing `path`, an `.hdf5` file, in one step.

    Args:
        path: the file.
        classifier: its network, and what its optimizer and its averages remember.
        state: `epoch`, `history` and `options`, JSON-able; see `Checkpoint`.

    Raises:
        OSError: the file could not be written; what was there still is.
    """

    def add_training(file: h5py.File) -> None:
        group = file.create_group("training")
        group["state"] = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
        variables = {"optimizer": classifier.optimizer.variables, "averages": _averages(classifier)}
        for name, values in variables.items():
            if values:
                saved = group.create_group(name)
                for index, variable in enumerate(values):
                    saved[f"{index:04}"] = _to_numpy(variable)

    _save(path, classifier.network, classifier.spec, add_training)


def _save(
    path: str | Path,
    network: keras.Model,
    spec: NetworkSpec | None,
    add: Callable[[h5py.File], None] | None = None,
) -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns of the format at every save
    with _MemoryFile() as file:
        network.save(file, include_optimizer=False)
        if spec:
            group = file.create_group("spec")
            group["text"] = np.frombuffer(spec.to_json().encode(), dtype=np.uint8)
            if spec.mean is not None:
                group["mean"] = spec.mean
        if add:
            add(file)
        file.flush()
        data = file.id.get_file_image()
    write_atomically(path, data + seal(io.BytesIO(data), len(data)))


def _averages(classifier: Classifier) -> list:
    return [*classifier.averages, classifier.share_of_start] if classifier.averages else []


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint and verifies it; nothing is built and no code of the file is run.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    path = Path(path)
    data = _read_sealed(path)
    with _open(path, data) as file:
        if "training" not in file:
            raise UserError(
                f"{path} is a model without the training's state: it can be evaluated, "
                "but training cannot go on from it; name an epoch_N.hdf5"
            )
        state = _member(path, file, "training/state", h5py.Dataset)
        if state.dtype != np.uint8 or state.ndim != 1:
            raise UserError(f"{path} is not a checkpoint: its state is {state.dtype} {state.shape}")
        try:
            training = json.loads(state[:].tobytes())
            epoch, options = training["epoch"], training["options"]
            history = histories.checked(training["history"])
            if type(epoch) is not int or epoch < 0 or not isinstance(options, dict):
                raise ValueError(f"its epoch is {epoch} and its options are {options}")
            if histories.epochs(history) not in (0, epoch):
                raise ValueError(f"its history does not end with epoch {epoch}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is not a checkpoint: its state cannot be read") from error
        return Checkpoint(path, epoch, history, options, data)


def load_weights(path: str | Path, model: keras.Model) -> None:
    """Gives a model the weights of a file written by `save_model`.

    Raises:
        UserError: the file is missing, damaged, or of another network or number of classes.
    """
    path = Path(path)
    with _open(path, _read_sealed(path)) as file:
        _restore_weights(path, file, model)


def load_model(
    path: str | Path, default: NetworkSpec | None = None
) -> tuple[keras.Model, NetworkSpec]:
    """Builds the network of a model file or checkpoint, and gives it the file's weights.

    Args:
        path: the file.
        default: what the network is if the file does not say, as those of earlier versions.

    Returns:
        The network, from preprocessed images to probabilities, and what it is; `spec.preprocessor`
        makes of uint8 images in RGB order what the network takes.

    Raises:
        UserError: the file is missing, damaged, of another network than `default`, or does not say
            what network it holds.
    """
    path = Path(path)
    with _open(path, _read_sealed(path)) as file:
        spec = _read_spec(path, file) or default
        if spec is None:
            raise UserError(f"{path} does not say what network it holds: its version is too old")
        try:
            network = spec.build()
        except NetworkError as error:
            raise UserError(f"{path} is damaged or of another network: {error}") from error
        _restore_weights(path, file, network)
    return network, spec


def _read_spec(path: Path, file: h5py.File) -> NetworkSpec | None:
    if "spec" not in file:
        return None
    group = _member(path, file, "spec", h5py.Group)
    text = _bytes(path, group, "text")
    mean = None
    if "mean" in group:
        mean = _member(path, group, "mean", h5py.Dataset)
        if mean.dtype != np.float32:
            raise UserError(f"{path} is damaged: its mean is {mean.dtype}")
    try:
        return NetworkSpec.from_json(text, None if mean is None else mean[()])
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _bytes(path: Path, group: h5py.Group, name: str) -> bytes:
    data = _member(path, group, name, h5py.Dataset)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise UserError(f"{path} is damaged: its {name} is {data.dtype} {data.shape}")
    return data[:].tobytes()


class _MemoryFile(h5py.File):
    """An HDF5 file in memory whose name tells Keras to write its HDF5 format into it.

    On a full disk HDF5 can neither finish nor close a file, and later crashes over it.
    """

    def __init__(self):
        super().__init__("model.hdf5", "w", driver="core", backing_store=False)

    def __str__(self) -> str:
        return self.filename


def _read_sealed(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_LIMIT:
            raise UserError(f"{path} is larger than any model of this project")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not is_sealed(io.BytesIO(content)):
        raise UserError(f"{path} is truncated, damaged or not written by this project")
    return content[:-SEAL_BYTES]


def _open(path: Path, data: bytes) -> h5py.File:
    try:
        return h5py.File(io.BytesIO(data), "r")
    except OSError as error:
        raise UserError(f"{path} is not an HDF5 file") from error


def _member(path: Path, group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    try:
        return own_member(group, name, kind, group.file.id.get_filesize())
    except ValueError as error:
        raise UserError(f"{path} is damaged or of another network: {error}") from error


def _restore_weights(path: Path, file: h5py.File, model: keras.Model) -> None:
    weights = _member(path, file, "model_weights", h5py.Group)
    groups = {name: _member(path, weights, name, h5py.Group) for name in weights}
    saved = {name for name, group in groups.items() if len(group)}
    layers = [layer for layer in model.layers if layer.weights]
    if different := saved.symmetric_difference(layer.name for layer in layers):
        raise UserError(
            f"{path} holds another network than the one asked for: they differ in "
            f"{len(different)} layers, {min(different)} among them"
        )
    for layer in layers:
        group = groups[layer.name]
        names = [_text(name) for name in group.attrs.get("weight_names", ())]
        if len(names) != len(layer.weights):
            raise UserError(f"{path} holds another network: layer {layer.name} differs")
        for name, variable in zip(names, layer.weights, strict=True):
            _assign(path, group, name, variable, f"{layer.name}'s {variable.name}")


def _assign(path: Path, group: h5py.Group, name: str, variable: object, what: str) -> None:
    saved = _member(path, group, name, h5py.Dataset)
    if saved.shape != tuple(variable.shape):
        raise UserError(
            f"{path} holds another network or number of classes: {what} is {saved.shape} in it "
            f"and {tuple(variable.shape)} in this run"
        )
    if saved.dtype.kind not in "fiu":
        raise UserError(f"{path} is damaged: {what} is not a number in it")
    variable.assign(saved[()])


def _to_numpy(variable: object) -> np.ndarray:
    from keras import ops

    return ops.convert_to_numpy(variable)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
