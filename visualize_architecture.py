"""Draw a network for a report: its stages, its two kinds of module, its parameters.

python visualize_architecture.py
python visualize_architecture.py --network resnet_tiny_imagenet --output output/tiny.png
"""

import io
from pathlib import Path

from config import cifar10_config, tiny_imagenet_config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_network_options, chosen_network

# Architecture, side of the images in pixels, and number of classes.
NETWORKS = {
    "resnet_cifar10": (cifar10_config.NETWORK, 32, 10),
    "resnet_tiny_imagenet": (
        tiny_imagenet_config.NETWORK,
        tiny_imagenet_config.IMAGE_SIZE,
        tiny_imagenet_config.NUM_CLASSES,
    ),
}
OUTPUT = "output/architecture.png"


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--network", choices=NETWORKS, default=next(iter(NETWORKS)), help="default: %(default)s")
    add("-o", "--output", default=OUTPUT, metavar="FILE", help="PNG (default: %(default)s)")
    add("--summary", action="store_true", help="print Keras's table of all layers as well")
    add_network_options(parser)
    args = parser.parse_args()
    architecture, size, classes = NETWORKS[args.network]
    architecture = chosen_network(parser, architecture, args)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()
    from pipeline.figures.architecture import draw_architecture
    from pipeline.files.atomic import write_atomically

    # model
    names = tuple(map(str, range(classes)))
    model = architecture.spec((size, size, 3), names, mean=None).build()
    if args.summary:
        model.summary()

    # drawing
    png = io.BytesIO()
    draw_architecture(model).savefig(png, format="png", dpi=150)
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, png.getvalue())
    print(f"{model.count_params():,} parameters, drawn to {output}")


if __name__ == "__main__":
    script.run(main)
