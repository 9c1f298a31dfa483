"""Pack ImageNet's photographs (ILSVRC 2012) into the HDF5 files that training reads.

  python build_imagenet.py
  python build_imagenet.py --dataset-path ~/imagenet --short-side 320

The folder is Kaggle's, or has train and val with a folder for each WordNet id. The pictures' bytes
stay as they are, 145 GB, unless they are to be made smaller. Interrupted, killed or out of disk,
the same command continues where it stopped.
"""

from pathlib import Path

from config import imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_packing_options


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    where = "folder of the data set (default: %(default)s)"
    add("--dataset-path", default=config.DATASET, metavar="ROOT", help=where)
    add_packing_options(parser, f"ROOT/{config.HDF5}")
    args = parser.parse_args()

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.io.imagenet import find_imagenet
    from pipeline.io.photographpacking import pack_photographs

    root = Path(args.dataset_path)
    pictures, titles = find_imagenet(root)
    folder = Path(args.hdf5 or root / config.HDF5)
    pack_photographs(pictures, folder, args.short_side, titles, args.skip_bad)


if __name__ == "__main__":
    script.run(main)
