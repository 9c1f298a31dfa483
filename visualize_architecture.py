"""Draw a network for a report: its stages, its two kinds of module, its parameters.

python visualize_architecture.py
python visualize_architecture.py --network resnet_tiny_imagenet --output output/tiny.png
"""

import io
from pathlib import Path
from typing import NamedTuple

from config import cifar10_config, tiny_imagenet_config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, add_network_options, check_network


class Network(NamedTuple):
    """What `ResNet.build` is given, beside stages and filters."""

    defaults: dict
    dataset: str
    size: int
    classes: int


NETWORKS = {
    "resnet_cifar10": Network(cifar10_config.NETWORK, "cifar10", size=32, classes=10),
    "resnet_tiny_imagenet": Network(
        tiny_imagenet_config.NETWORK,
        "tiny_imagenet",
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
    add_network_options(parser, {"stages": None, "filters": None})
    args = parser.parse_args()
    network = NETWORKS[args.network]
    for name, default in network.defaults.items():
        setattr(args, name, getattr(args, name) or default)
    check_network(parser, args)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()
    from pipeline.figures.architecture import draw_architecture
    from pipeline.files.atomic import write_atomically
    from pipeline.nn.conv import ResNet

    # model
    model = ResNet.build(
        network.size,
        network.size,
        3,
        network.classes,
        args.stages,
        args.filters,
        dataset=network.dataset,
    )
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
