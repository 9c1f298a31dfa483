"""Classify pictures with the exported network: python classify.py PICTURE...

All it takes are the files beside it, what network.py names, and opencv-python-headless.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from network import probabilities

ABOUT = json.loads(Path(__file__).with_name("preprocess.json").read_text(encoding="utf-8"))


def read(file: str) -> np.ndarray:
    """Reads a picture as the network takes it: the largest part in the middle that fits."""
    try:  # not with OpenCV, which crashes on a name that is not UTF-8
        content = np.fromfile(file, np.uint8)
    except OSError:
        content = np.empty(0, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if len(content) else None
    if image is None:
        sys.exit(f"{file} is missing, or not a picture")
    height, width = image.shape[:2]
    across, down = ABOUT["width"], ABOUT["height"]
    cut_height = max(1, round(min(height, width * down / across) * ABOUT["share"]))
    cut_width = max(1, round(min(width, height * across / down) * ABOUT["share"]))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    part = image[top : top + cut_height, left : left + cut_width]
    smaller = cut_height >= down and cut_width >= across
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(part, (across, down), interpolation=interpolation)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    for picture in sys.argv[1:]:
        (row,) = probabilities(read(picture)[np.newaxis])
        best = row.argmax()
        print(f"{row[best]:7.2%}  {ABOUT['labels'][best]}  {picture}")
