"""Lay out miniatures of the data sets, to try everything without a download.

  python make_miniatures.py output/miniatures

In a few seconds: cifar10, a folder of pictures with 2,000 training and 1,000 test images;
tiny-imagenet-200 in the published layout with 10 training and 5 validation images of each of its
200 classes; and photographs of many sizes, 60 of each of two classes. They are crops of two
photographs that come with scikit-learn: what a network learns from them says nothing of the real
data sets.
"""

import os
from pathlib import Path

from pipeline.command_line import script
from pipeline.command_line.options import Parser
from pipeline.errors import UserError, one_line


def main() -> None:
    # options
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new one")
    folder = parser.parse_args().folder
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists already: name a new folder")

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.files.wholefolder import whole_folder
    from pipeline.io.miniatures import write_cifar10, write_photographs, write_tiny_imagenet

    # data, in their place only when they are complete
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as unfinished:
        write_cifar10(unfinished / "cifar10")
        write_tiny_imagenet(unfinished / "tiny-imagenet-200")
        write_photographs(unfinished / "photographs")

    # report
    places = (
        f"{folder / 'cifar10'} for --data, {folder / 'tiny-imagenet-200'} for --dataset-path, "
        f"{folder / 'photographs'} for --images"
    )
    print(one_line(places))


if __name__ == "__main__":
    script.run(main)
