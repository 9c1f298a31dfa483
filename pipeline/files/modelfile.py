"""Model files and checkpoints: Keras's HDF5 format, sealed with a checksum.

A file holds what `keras.models.load_model` needs and, in a checkpoint, a group `training` beside
it: all variables of the optimizer and, as JSON, the epoch, the history and the options; amid an
epoch its batches so far and the variables of its metrics as well. Keras itself does not bring back
an optimizer from `.hdf5`, so that group is read here.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pipeline import backend
from pipeline import history as histories
from pipeline.errors import NetworkError, UserError
from pipeline.files.atomic import write_atomically
from pipeline.files.hdf5members import DAMAGE, own_member, own_texts
from pipeline.files.reading import read_regular
from pipeline.files.seal import sealed, unsealed
from pipeline.history import History
from pipeline.nn.spec import NetworkSpec

if TYPE_CHECKING:  # slow to import: a script reads its checkpoint before it needs Keras
    import keras

    from pipeline.training.classifier import Classifier

FILE_BYTES_LIMIT = 2**31  # no model of this project comes near it

Weights = dict[str, dict[int | str, np.ndarray]]
"""By the name of their layer, then by their place in it; in files of earlier versions by their name
instead. Layers without weights are left out."""


@dataclass(frozen=True)
class HeldOut:
    """Which photographs of a folder a run has held out to validate on.

    Attributes:
        holdout, skip_bad: as for `read_photograph_folder`.
        fingerprint: of the data set that it has returned.
    """

    holdout: float
    skip_bad: bool
    fingerprint: str

    @classmethod
    def of(cls, options: dict) -> HeldOut | None:
        """Returns what a run's options say of it; None where they are of other images."""
        known = [options.get(name) for name in ("holdout", "skip_bad", "fingerprint")]
        if None in known:
            return None
        holdout, skip_bad, fingerprint = known
        return cls(float(holdout), bool(skip_bad), str(fingerprint))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: where it was read from.
        epoch: number of completed epochs.
        history: one list of values an epoch for each name, such as `val_accuracy`.
        options: the options of the run that wrote it, its seed among them.
        weights: of the network.
        optimizer: its variables.
        averages: those of the weights; None where the file has none.
        batch: number of batches after the last completed epoch.
        metrics: the variables of the metrics of the epoch that these batches belong to; None where
            there are none.
    """

    path: Path
    epoch: int
    history: dict[str, list[float]]
    options: dict
    weights: Weights
    optimizer: list[np.ndarray]
    averages: list[np.ndarray] | None
    batch: int = 0
    metrics: list[np.ndarray] | None = None

    def restore(self, classifier: Classifier) -> None:
        """Gives a classifier the checkpoint's weights, its optimizer and averages their variables.

        Raises:
            UserError: the checkpoint is of another network, another number of classes or another
                optimizer.
        """
        classifier.optimizer.build(classifier.trainable_variables)
        _assign_weights(self.path, self.weights, classifier.network)
        self._assign("optimizer", self.optimizer, classifier.optimizer.variables)
        if self.averages is not None:
            self._assign("averages", self.averages, _averages(classifier))
            if classifier.averages and self.averages[-1] < 1:
                # Earlier versions wrote another measure there than the number of steps.
                classifier.steps.assign(classifier.optimizer.iterations)
        elif classifier.averages:  # written when statistics were not averaged yet
            classifier.start_averages()

    def refuse_too_few_weights(self, spec: NetworkSpec) -> None:
        """Makes sure that there are as many weights as a network has, before it is built.

        Raises:
            UserError: the checkpoint is of another network.
        """
        _refuse_too_few_weights(self.path, self.weights, spec)

    def refuse_past(self, epochs: int) -> None:
        """Makes sure that the checkpoint is not past the last epoch of a run.

        Raises:
            UserError: it is.
        """
        if (self.epoch, self.batch) > (epochs, 0):
            raise UserError(f"{self.path} is at epoch {self.epoch} already, past --epochs {epochs}")

    def restore_metrics(self, classifier: Classifier) -> None:
        """Gives the metrics of a classifier what they had measured of the epoch under way.

        Raises:
            UserError: they are not those that the checkpoint is of.
        """
        self._assign("metric", self.metrics, classifier.metrics_variables)

    def _assign(self, name: str, saved: list[np.ndarray], variables: list) -> None:
        if len(saved) != len(variables):
            raise UserError(
                f"{self.path} was written by another optimizer or precision: it has "
                f"{len(saved)} {name} variables, this run {len(variables)}"
            )
        for value, variable in zip(saved, variables, strict=True):
            _assign(self.path, value, variable, f"the {name} variable {variable.name}")


def save_model(
    path: str | Path,
    network: keras.Model,
    spec: NetworkSpec | None = None,
    history: History | None = None,
    held_out: HeldOut | None = None,
) -> None:
    """Writes a network, replacing `path`, an `.hdf5` file, in one step.

    Args:
        path: the file.
        network: what it is to hold.
        spec: what the network is, for `load_model`.
        history: of the run that has trained it, which tells the model from other runs'.
        held_out: which photographs it has not seen.

    Raises:
        OSError: the file could not be written; what was there still is.
    """

    def add_run(file: h5py.File) -> None:
        for name, content in (("history", history), ("held_out", held_out and asdict(held_out))):
            if content:
                _put(file, name, json.dumps(content))

    _save(path, network, spec, add_run)


def model_history(path: str | Path) -> History:
    """Returns the history of the run that has trained a model; {} for a file that has none.

    Raises:
        UserError: the file is missing, damaged or no model file.
    """
    with _opened(Path(path)) as file:
        return histories.checked(json.loads(_bytes(file, "history"))) if "history" in file else {}


def read_held_out(path: str | Path) -> HeldOut | None:
    """Returns which photographs the network of a model file or checkpoint has not seen.

    Returns:
        None for a file that does not say, as those of other networks.

    Raises:
        UserError: the file is missing, damaged or no model file.
    """
    with _opened(Path(path)) as file:
        if "training" in file:
            known = json.loads(_bytes(own_member(file, "training", h5py.Group), "state"))["options"]
        elif "held_out" in file:
            known = json.loads(_bytes(file, "held_out"))
        else:
            return None
        if not isinstance(known, dict):
            raise ValueError(f"what it says of its run is {known}")
        held_out = HeldOut.of(known)
        if held_out and not 0 <= held_out.holdout <= 1:
            raise ValueError(f"its holdout is {held_out.holdout}")
        return held_out


def save_checkpoint(path: str | Path, classifier: Classifier, state: dict) -> None:
    """Writes all that training needs to go on, replacing `path`, an `.hdf5` file, in one step.

    Args:
        path: the file.
        classifier: its network, and what its optimizer and its averages remember.
        state: `epoch`, `history` and `options`, JSON-able; see `Checkpoint`. With `batch`, the
            metrics of the epoch are kept as well.

    Raises:
        OSError: the file could not be written; what was there still is.
    """

    def add_training(file: h5py.File) -> None:
        group = file.create_group("training")
        _put(group, "state", json.dumps(state))
        variables = {
            "optimizer": classifier.optimizer.variables,
            "averages": _averages(classifier),
            "metrics": classifier.metrics_variables if state.get("batch") else [],
        }
        for name, values in variables.items():
            if values:
                saved = group.create_group(name)
                for index, value in enumerate(backend.to_numpy(values)):
                    saved[f"{index:04}"] = value

    _save(path, classifier.network, classifier.spec, add_training)


def _save(
    path: str | Path,
    network: keras.Model,
    spec: NetworkSpec | None,
    add: Callable[[h5py.File], None],
) -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns of the format at every save
    with _MemoryFile() as file:
        network.save(file, include_optimizer=False)
        _fix_lengths(file["model_weights"])
        if spec:
            group = file.create_group("spec")
            _put(group, "text", spec.to_json())
            if spec.mean is not None:
                group["mean"] = spec.mean
        add(file)
        file.flush()
        data = file.id.get_file_image()
    write_atomically(path, sealed(data))


def _put(group: h5py.Group, name: str, text: str) -> None:
    """Adds a text as bytes, as which `_bytes` reads it."""
    group[name] = np.frombuffer(text.encode(), dtype=np.uint8)


def _fix_lengths(layers: h5py.Group) -> None:
    # HDF5 can be kept busy for ever by a forged text of variable length, as which Keras writes the
    # names. It reads the others just as well.
    for group in layers.values():
        if len(group):
            group.attrs["weight_names"] = np.array([*group.attrs["weight_names"]], dtype="S")


def _averages(classifier: Classifier) -> list:
    return [*classifier.averages, classifier.steps] if classifier.averages else []


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint whole; nothing is built and no code of the file is run.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    path = Path(path)
    with _opened(path) as file:
        if "training" not in file:
            raise UserError(
                f"{path} is a model without the training's state: it can be evaluated, "
                "but training cannot go on from it; name an epoch_N.hdf5"
            )
        group = own_member(file, "training", h5py.Group)
        state = _bytes(group, "state")
        weights = _read_weights(file)
        optimizer = _read_variables(group, "optimizer")
        averages = _read_variables(group, "averages") if "averages" in group else None
        metrics = _read_variables(group, "metrics") if "metrics" in group else None
    try:
        training = json.loads(state)
        epoch, options, batch = training["epoch"], training["options"], training.get("batch", 0)
        history = histories.checked(training["history"])
        if type(epoch) is not int or epoch < 0 or not isinstance(options, dict):
            raise ValueError(f"its epoch is {epoch} and its options are {options}")
        if type(batch) is not int or batch < 0 or (batch > 0) != (metrics is not None):
            raise ValueError(f"its batch is {batch}")
        if histories.epochs(history) not in (0, epoch):
            raise ValueError(f"its history does not end with epoch {epoch}")
        if not isinstance(options.get("recipe_parts", {}), dict):
            raise ValueError(f"its recipe's parts are {options['recipe_parts']}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a checkpoint: its state cannot be read") from error
    return Checkpoint(path, epoch, history, options, weights, optimizer, averages, batch, metrics)


def load_body(path: str | Path, model: keras.Model) -> None:
    """Gives a model all weights of another of the same body, but for those of its classifier.

    Args:
        path: a model file or checkpoint, for any classes and images of any size.
        model: its last layer with weights is the classifier, which is left as it is.

    Raises:
        UserError: the file is missing, damaged, or of a network of another body.
    """
    path = Path(path)
    with _opened(path) as file:
        weights = _read_weights(file)
    *body, classifier = [layer for layer in model.layers if layer.weights]
    weights.pop(classifier.name, None)
    _assign_layers(path, weights, body)


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
    with _opened(path) as file:
        spec = _read_spec(file) or default
        weights = _read_weights(file)
    if spec is None:
        raise UserError(f"{path} does not say what network it holds: its version is too old")
    # Before it is built: a few bytes can describe a network that fills any memory.
    _refuse_too_few_weights(path, weights, spec)
    try:
        network = spec.build()
    except NetworkError as error:
        raise _damaged(path, error) from error
    _assign_weights(path, weights, network)
    return network, spec


def _refuse_too_few_weights(path: Path, weights: Weights, spec: NetworkSpec) -> None:
    numbers = sum(weight.size for layer in weights.values() for weight in layer.values())
    if sum(spec.stages) > len(weights) or spec.least_weights > numbers:
        raise _damaged(path, "it has fewer weights than this network")


def _read_spec(file: h5py.File) -> NetworkSpec | None:
    if "spec" not in file:
        return None
    group = own_member(file, "spec", h5py.Group)
    mean = None
    if "mean" in group:
        mean = own_member(group, "mean", h5py.Dataset)
        if mean.dtype != np.float32:
            raise ValueError(f"its mean is {mean.dtype}")
        mean = mean[()]
    return NetworkSpec.from_json(_bytes(group, "text"), mean)


def _read_weights(file: h5py.File) -> Weights:
    saved = own_member(file, "model_weights", h5py.Group)
    groups = {name: own_member(saved, name, h5py.Group) for name in saved}
    return {name: _read_layer(group) for name, group in groups.items() if len(group)}


def _read_layer(group: h5py.Group) -> dict[int | str, np.ndarray]:
    names = own_texts(group, "weight_names")
    if names is not None:
        return {place: _numbers(group, name) for place, name in enumerate(names)}
    found = []

    def find(name: str, member: h5py.Group | h5py.Dataset) -> None:
        if isinstance(member, h5py.Dataset):
            found.append(name)

    group.visititems(find)
    return {name: _numbers(group, name) for name in found}


def _read_variables(training: h5py.Group, name: str) -> list[np.ndarray]:
    group = own_member(training, name, h5py.Group)
    return [_numbers(group, f"{index:04}") for index in range(len(group))]


def _bytes(group: h5py.Group, name: str) -> bytes:
    data = own_member(group, name, h5py.Dataset)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError(f"its {name} is {data.dtype} {data.shape}")
    return data[:].tobytes()


def _numbers(group: h5py.Group, name: str) -> np.ndarray:
    data = own_member(group, name, h5py.Dataset)
    if data.dtype.kind not in "fiu":
        raise ValueError(f"its {name} holds no numbers")
    return data[()]


class _MemoryFile(h5py.File):
    """An HDF5 file in memory whose name tells Keras to write its HDF5 format into it.

    On a full disk HDF5 can neither finish nor close a file, and later crashes over it.
    """

    def __init__(self):
        super().__init__("model.hdf5", "w", driver="core", backing_store=False)

    def __str__(self) -> str:
        return self.filename


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Lends a file's HDF5 part; whatever reading it raises becomes a UserError with the path."""
    data = _read_sealed(path)
    try:
        file = h5py.File(io.BytesIO(data), "r")
    except DAMAGE as error:
        raise UserError(f"{path} is not an HDF5 file") from error
    try:
        with file:
            yield file
    except NetworkError as error:
        raise _damaged(path, error) from error
    except UserError:
        raise
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _read_sealed(path: Path) -> bytes:
    try:
        return unsealed(read_regular(path, FILE_BYTES_LIMIT))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is {error}") from error


def _damaged(path: Path, error: Exception | str) -> UserError:
    return UserError(f"{path} is damaged or of another network: {error}")


def _assign_weights(path: Path, weights: Weights, model: keras.Model) -> None:
    _assign_layers(path, weights, [layer for layer in model.layers if layer.weights])


def _assign_layers(path: Path, weights: Weights, layers: list[keras.layers.Layer]) -> None:
    if different := weights.keys() ^ {layer.name for layer in layers}:
        raise UserError(
            f"{path} holds another network than the one asked for: they differ in "
            f"{len(different)} layers, {min(different)} among them"
        )
    for layer in layers:
        saved = weights[layer.name]
        values = [saved.get(place, saved.get(w.path)) for place, w in enumerate(layer.weights)]
        if len(saved) != len(values) or any(value is None for value in values):
            raise UserError(f"{path} holds another network: layer {layer.name} differs")
        for value, variable in zip(values, layer.weights, strict=True):
            _assign(path, value, variable, f"{layer.name}'s {variable.name}")


def _assign(path: Path, saved: np.ndarray, variable: object, what: str) -> None:
    if saved.shape != tuple(variable.shape):
        raise UserError(
            f"{path} holds another network or number of classes: {what} is {saved.shape} in it "
            f"and {tuple(variable.shape)} in this run"
        )
    variable.assign(saved)
