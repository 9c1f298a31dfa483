"""All that is specific to the TensorFlow backend; the other backends never import it."""

import tensorflow as tf


def grow_gpu_memory() -> None:
    """Lets TensorFlow take a GPU's memory as it needs it, instead of all of it at the start."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def gpu_names() -> list[str]:
    """Returns the names of the GPUs TensorFlow sees."""
    gpus = tf.config.list_physical_devices("GPU")
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus
    ]
