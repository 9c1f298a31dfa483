"""The network in LiteRT, which is all it takes: pip install numpy ai-edge-litert"""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_interpreter = Interpreter(str(Path(__file__).with_name("model.tflite")))
_run = _interpreter.get_signature_runner("serving_default")


def probabilities(images: np.ndarray) -> np.ndarray:
    """Computes (n, classes) of RGB images (n, height, width, 3), pixels from 0 to 255."""
    return _run(image=images.astype(np.float32))["output_0"]
