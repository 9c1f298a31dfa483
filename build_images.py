"""Pack a folder of photographs, too many to be read one by one, into a few large files.

  python build_images.py --images photographs --hdf5 output/packed
  python build_images.py --images photographs --hdf5 output/small --short-side 320
  python train_images.py --images output/packed

The photographs lie as for train_images.py, which trains on the packed ones exactly as on the
folder. Their bytes stay as they are, unless they are to be made smaller. Interrupted, killed or out
of disk, the same command continues where it stopped.
"""

from pathlib import Path

from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_packing_options
from pipeline.errors import UserError


def main() -> None:
    # options
    parser = Parser(__doc__)
    layouts = "pictures in FOLDER/<class>/ or FOLDER/{train,val,test}/<class>/"
    parser.add_argument("--images", required=True, metavar="FOLDER", help=layouts)
    add_packing_options(parser)
    args = parser.parse_args()

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.files.lock import real
    from pipeline.io.imagefolders import lie_divided
    from pipeline.io.photographfolder import names_of_photographs
    from pipeline.io.photographpacking import pack_photographs

    images, folder = Path(args.images), Path(args.hdf5)
    pictures = names_of_photographs(images)
    if real(folder).parent == real(images) and not lie_divided(pictures):
        raise UserError(f"--hdf5 {folder} would lie among the classes: name a folder elsewhere")
    pack_photographs(pictures, folder, args.short_side, skip_bad=args.skip_bad)


if __name__ == "__main__":
    script.run(main)
