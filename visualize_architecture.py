"""Draw a network for a report: its stages, modules and parameters.

  python visualize_architecture.py
  python visualize_architecture.py --network resnet18 --output output/r18.png

Everything in the drawing is read from the layers of the network itself.
"""

import io
from pathlib import Path

from config import cifar10_config, resnet18_config, tiny_imagenet_config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_network_options, chosen_network
from pipeline.errors import one_line

# Architecture, side of the images in pixels, and number of classes.
NETWORKS = {
    "resnet_cifar10": (cifar10_config.NETWORK, 32, 10),
    "resnet_tiny_imagenet": (
        tiny_imagenet_config.NETWORK,
        tiny_imagenet_config.IMAGE_SIZE,
        tiny_imagenet_config.NUM_CLASSES,
    ),
    "resnet18": (resnet18_config.EXPERIMENTS["scratch"].architecture, 32, 10),
}
OUTPUT = "output/architecture.png"


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    network = "what to draw (default: %(default)s)"
    add("--network", choices=NETWORKS, default=next(iter(NETWORKS)), help=network)
    add(
        "-o",
        "--output",
        default=OUTPUT,
        metavar="FILE",
        help="where the PNG goes (default: %(default)s)",
    )
    add("--summary", action="store_true", help="print Keras's table of all layers as well")
    add_network_options(parser)
    args = parser.parse_args()
    architecture, size, classes = NETWORKS[args.network]
    if not architecture.stages and (args.stages or args.filters):
        parser.error(f"--stages and --filters: {args.network} has its own")
    architecture = chosen_network(parser, architecture, args)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()
    from pipeline.figures.architecture import draw_architecture
    from pipeline.files.atomic import write_atomically

    # model
    names = tuple(map(str, range(classes)))
    spec = architecture.spec((size, size, 3), names, mean=None)
    model = spec.build()
    if args.summary:
        model.summary()

    # drawing
    png = io.BytesIO()
    draw_architecture(model, spec.title).savefig(png, format="png", dpi=150)
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, png.getvalue())
    print(one_line(f"{spec.title}: {model.count_params():,} parameters, drawn to {output}"))


if __name__ == "__main__":
    script.run(main)
