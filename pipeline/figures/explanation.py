"""Showing which parts of a picture a network decided by."""

import cv2
import keras
import numpy as np

from pipeline.errors import UserError

SHOWN = 256  # pixels, height of a drawn picture
HEAT = 0.5  # opacity of the colours over the picture


def class_maps(network: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes Grad-CAM (arXiv:1610.02391, section 3) of the network's last feature maps.

    Behind them are no more than an average pool and one dense layer, whose weights are the
    gradients; so none have to be computed, and any backend will do.

    Args:
        network: ends in the layers `avg_pool` and `fc` of `ResNet` and `ResNet18`.
        images: preprocessed, (n, height, width, channels).
        labels: the class to explain of each image, (n,).

    Returns:
        float32 (n, rows, columns), as many as the feature maps have: from 0, no evidence of the
        class, to 1, the most in this image.

    Raises:
        UserError: the network does not end in these layers.
    """
    layers = {layer.name: layer for layer in network.layers}
    if not {"avg_pool", "fc"} <= layers.keys():
        raise UserError(f"{network.name} is not a network of this project, and cannot be explained")
    features = keras.Model(network.inputs, layers["avg_pool"].input)
    maps = features.predict(images, verbose=0)
    kernel = keras.ops.convert_to_numpy(layers["fc"].kernel)
    # One weight a channel and class, where several places of the pool reach the classifier.
    weights = kernel.reshape(-1, maps.shape[-1], kernel.shape[-1]).mean(axis=0)
    evidence = np.einsum("nhwc,nc->nhw", maps, weights[:, labels].T)
    evidence = np.maximum(evidence, 0)
    most = evidence.max(axis=(1, 2), keepdims=True)
    return np.divide(evidence, most, out=np.zeros_like(evidence), where=most > 0)


def draw(image: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Draws a picture, and beside it the picture with its map in colours from blue to red.

    Args:
        image: uint8 RGB (height, width, 3).
        class_map: from `class_maps`.

    Returns:
        uint8 RGB, 256 pixels high.
    """
    height, width = image.shape[:2]
    size = (round(SHOWN * width / height), SHOWN)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    smooth = cv2.resize(class_map, size, interpolation=cv2.INTER_CUBIC)
    levels = np.rint(255 * np.clip(smooth, 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.hstack([picture, cv2.addWeighted(colours, HEAT, picture, 1 - HEAT, 0)])
