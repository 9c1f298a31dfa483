"""Writing a trained network for other runtimes, with all that its use takes beside it."""

import json
import runpy
import shutil
from pathlib import Path

import keras
import numpy as np
from keras import layers

from pipeline.backend import quiet
from pipeline.export.comparison import Probabilities
from pipeline.export.formats import ABOUT, CLASSIFY, NETWORK, Format
from pipeline.files.atomic import write_atomically
from pipeline.nn.spec import NetworkSpec

BESIDE = Path(__file__).with_name("beside")


def from_pixels(network: keras.Model, spec: NetworkSpec) -> keras.Model:
    """Puts a network's preprocessing into its graph.

    Of the layers that could do it, `Rescaling` alone computes the same in all formats, and a whole
    mean image is as good an offset to it as a number.

    Returns:
        A model from RGB pixels, float32 (n, height, width, 3) from 0 to 255, to probabilities.
    """
    image = keras.Input(spec.image_shape, name="image")
    if spec.mean is None:
        normalization = layers.Rescaling(1 / 255, name="normalization")
    else:
        normalization = layers.Rescaling(1, offset=-spec.mean, name="normalization")
    return keras.Model(image, network(normalization(image)), name=network.name)


def write(
    folder: Path,
    network: keras.Model,
    spec: NetworkSpec,
    target: Format,
    calibration: np.ndarray | None = None,
) -> Probabilities:
    """Exports a network on Keras's TensorFlow backend, and opens it in its own runtime.

    Args:
        folder: where the network, `network.py` and `classify.py` go.
        network: in float32, of stock layers: fused kernels are TensorFlow's alone.
        spec: what the network is.
        target: the format.
        calibration: uint8 RGB images (n, height, width, 3). With them a LiteRT network computes in
            int8, in the ranges that its activations have on these images.

    Returns:
        What `network.py` defines, from images (n, height, width, 3) to probabilities (n, classes).
    """
    settings = {}
    if calibration is not None:
        from pipeline.backend import tensorflow_only

        settings = tensorflow_only.int8_settings(calibration.astype(np.float32))
    shutil.copy(BESIDE / target.script, folder / NETWORK)
    shutil.copy(BESIDE / CLASSIFY, folder / CLASSIFY)
    model, blank = from_pixels(network, spec), np.zeros((1, *spec.image_shape))
    with quiet():
        model(blank)  # Keras exports nothing to ONNX that has never been called
        model.export(str(folder / target.network), target.keras_name, verbose=False, **settings)
        exported = runpy.run_path(str(folder / NETWORK))["probabilities"]
        exported(blank)  # a runtime may announce what it computes with
    return exported


def describe(folder: Path, spec: NetworkSpec, target: Format, more: dict) -> None:
    """Writes down, for people and for programs, what an exported network takes and gives.

    Args:
        folder: of the export.
        spec: what the network is.
        target: the format.
        more: what else there is to say of it.
    """
    height, width, _ = spec.image_shape
    inside = "pixels are divided by 255"
    if spec.mean is not None:
        what = "colour" if spec.mean.ndim == 1 else "image"
        inside = f"the mean {what} of the training set is subtracted"
    about = {
        "format": target.title,
        "network": target.network,
        "width": width,
        "height": height,
        "input": "float32 (n, height, width, 3): red, green, blue, from 0 to 255",
        "fit": "the largest part of these proportions in the middle, made smaller by averaging "
        "areas, or larger by linear interpolation",
        "share": spec.centre,  # of the sides of that part
        "inside the network": inside,
        "output": "float32 (n, labels): probabilities",
        "labels": spec.label_names,
        **more,
        "versions": target.versions(),
    }
    write_atomically(folder / ABOUT, json.dumps(about, indent=2) + "\n")
