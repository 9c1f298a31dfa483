"""The formats that a network can be exported to, and the folder that an export is."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError, require_packages
from pipeline.files.lock import LOCK

# Beside the network there are its description, a script that uses it, and one that opens it.
ABOUT, CLASSIFY, NETWORK = "preprocess.json", "classify.py", "network.py"


@dataclass(frozen=True)
class Format:
    """One of them.

    Attributes:
        title: what people call it.
        network: the file, or folder, that holds the exported network.
        script: the file in `beside` that opens it in its own runtime.
        keras_name: what `keras.Model.export` calls it.
        runtime: the module that runs it.
        converters: the modules that writing it takes besides.
    """

    title: str
    network: str
    script: str
    keras_name: str
    runtime: str
    converters: tuple[str, ...] = ()

    def require_packages(self) -> None:
        """Looks for the packages that the format needs.

        Raises:
            UserError: one is not installed.
        """
        command = "install with pip install '.[export]'"
        require_packages(self.title, (self.runtime, *self.converters), command)

    def versions(self) -> dict[str, str]:
        """Returns the versions of the packages that an export depends on."""
        names = dict.fromkeys(("keras", "tensorflow", self.runtime, *self.converters))
        # onnxruntime, the module, may have come with onnxruntime-gpu.
        packages = importlib.metadata.packages_distributions()
        return {name: importlib.metadata.version(packages[name][0]) for name in names}


FORMATS = {
    "saved_model": Format(
        "SavedModel", "saved_model", "network_saved_model.py", "tf_saved_model", "tensorflow"
    ),
    "onnx": Format("ONNX", "model.onnx", "network_onnx.py", "onnx", "onnxruntime", ("tf2onnx",)),
    "litert": Format("LiteRT", "model.tflite", "network_litert.py", "litert", "ai_edge_litert"),
}


def check_output(output: Path, overwrite: bool) -> None:
    """Refuses a folder for an export that cannot be made, or would cost what is in it.

    Raises:
        UserError: it exists and is not to be overwritten, it is a file or holds other things than
            an export, or the folder that it is to be in does not exist.
    """
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}, make it first")
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file: name a new folder")
    if not overwrite:
        raise UserError(f"{output} exists already: --overwrite replaces it, or name a new folder")
    of_exports = {ABOUT, CLASSIFY, NETWORK, *(f.network for f in FORMATS.values())}
    # Python makes the one, and a kill in the last instant leaves the other.
    of_exports |= {"__pycache__", LOCK}
    for found in output.iterdir():
        if found.name not in of_exports:
            raise UserError(f"{found} is not of an export: name a new folder")
