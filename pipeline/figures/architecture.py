"""A drawing of a residual network for a report, from the layers of the real model."""

import re
from collections.abc import Sequence

import keras
from keras import layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

# How `ResNet.build` names the layers of module m in stage s: conv{s}_{m}_{layer}.
_MODULE_LAYER = re.compile(r"(?P<stage>conv\d+)_(?P<module>\d+)_\w+")

TIMES = "\N{MULTIPLICATION SIGN}"

# All lengths are in inches, so that text fits its box however many stages there are.
MARGIN = 0.35
LINE = 0.2  # from one line of text to the next
PADDING = 0.12  # of a box, above its text and below
ARROW = 0.2
NETWORK_WIDTH = 2.7
OUTPUT_WIDTH, PARAMETERS_WIDTH = 1.2, 1.1
LAYER_WIDTH, LAYER_HEIGHT = 1.9, 0.3
SHORTCUT_WIDTH = 1.25
GAP = 0.6
TOP = 1.4  # of what lies under the titles

COLORS = {
    layers.Conv2D: "#cfe0f3",
    layers.BatchNormalization: "#fde8cf",
    layers.ReLU: "#d8ecd3",
}
STAGE_COLOR = COLORS[layers.Conv2D]
OTHER_COLOR = "#ececec"
LINE_COLOR = "#404040"


def draw_architecture(model: keras.Model, name: str = "") -> Figure:
    """Draws a network: its stages with shapes and parameters, and both kinds of module in detail.

    Args:
        model: of residual modules, its layers named as by `ResNet.build`.
        name: of the network, for people.

    Returns:
        The figure, of a size that suits the number of stages.

    Raises:
        ValueError: the model has no residual modules of such names.
    """
    stem, stages, head = _parts(model)
    if not stages:
        raise ValueError(f"{model.name} has no layers with names like conv2_1_add")
    modules = [module for stage in stages.values() for module in stage.values()]
    projections = [module for module in modules if _ways(module)[1]]
    identities = [module for module in modules if not _ways(module)[1]]

    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    x = MARGIN
    _write(axes, x, MARGIN + 0.33, name, style="italic", ha="left")
    bottom = _draw_network(axes, x, model, stem, stages, head)
    x += NETWORK_WIDTH + OUTPUT_WIDTH + PARAMETERS_WIDTH + GAP
    for kind, examples in (("Projection", projections), ("Identity", identities)):
        if examples:
            count = f"{len(examples)} of {len(modules)}"
            bottom = max(bottom, _draw_module(axes, x, f"{kind} module", count, examples[-1]))
            x += LAYER_WIDTH + 2 * PADDING + (SHORTCUT_WIDTH if kind == "Projection" else 0) + GAP

    width, height = x - GAP + MARGIN, bottom + MARGIN
    figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure


def _parts(model: keras.Model) -> tuple[list, dict[str, dict[str, list]], list]:
    """Returns the layers before the stages, by stage and module, and after the stages."""
    stem, stages, head = [], {}, []
    for layer in model.layers:
        if match := _MODULE_LAYER.fullmatch(layer.name):
            stages.setdefault(match["stage"], {}).setdefault(match["module"], []).append(layer)
        else:
            (head if stages else stem).append(layer)
    return stem, stages, head


def _ways(module: Sequence[keras.Layer]) -> tuple[list[keras.Layer], list[keras.Layer]]:
    """Returns the layers of the residual branch, and those that the shortcut has to itself."""
    ways = [_way_to(tensor, module) for tensor in _sum(module).input]
    branch, shortcut = sorted(ways, key=len, reverse=True)
    return branch, [layer for layer in shortcut if layer not in branch]


def _sum(module: Sequence[keras.Layer]) -> keras.Layer:
    return next(layer for layer in module if isinstance(layer, layers.Add))


def _after_sum(module: Sequence[keras.Layer]) -> list[keras.Layer]:
    """Returns the layers that branch and shortcut share after their sum."""
    way = _way_to(module[-1].output, module)
    return way[way.index(_sum(module)) + 1 :]


def _way_to(tensor: keras.KerasTensor, module: Sequence[keras.Layer]) -> list[keras.Layer]:
    made_by = {id(layer.output): layer for layer in module}
    way = []
    while id(tensor) in made_by:
        way.insert(0, made_by[id(tensor)])
        tensor = way[0].input
        if isinstance(tensor, list):  # a sum, from where on there are two ways
            break
    return way


# what is written


def _size(pair: Sequence[int]) -> str:
    return TIMES.join(map(str, pair))


def _shape(tensor: keras.KerasTensor) -> str:
    return _size(tensor.shape[1:])


def _parameters(parts: Sequence[keras.Layer]) -> str:
    return f"{sum(layer.count_params() for layer in parts):,}"


def _text(layer: keras.Layer) -> str:
    """Says what a layer is, with the settings that its kind is known by."""
    stride = ""
    if max(getattr(layer, "strides", (1,))) > 1 and not isinstance(layer, layers.AveragePooling2D):
        stride = f", stride {layer.strides[0]}"
    match layer:
        case layers.Conv2D():
            return f"conv {_size(layer.kernel_size)}, {layer.filters}{stride}"
        case layers.BatchNormalization():
            return "BN"
        case layers.ReLU():
            return "ReLU"
        case layers.ZeroPadding2D():
            return f"pad {layer.padding[0][0]}"
        case layers.MaxPooling2D():
            return f"max pool {_size(layer.pool_size)}{stride}"
        case layers.AveragePooling2D():
            return f"average pool {_size(layer.pool_size)}"
        case layers.GlobalAveragePooling2D():
            return "global average pool"
        case layers.Dense():
            return f"dense {layer.units}"
        case layers.Activation():
            return layer.activation.__name__
        case _:
            return type(layer).__name__.lower()


def _lines(parts: Sequence[keras.Layer]) -> list[str]:
    """Says what a row of layers is, BN and the ReLU after it in one line."""
    texts = [_text(layer) for layer in parts if not isinstance(layer, layers.InputLayer)]
    return "\n".join(texts).replace("BN\nReLU", "BN, ReLU").splitlines()


# how it is drawn


def _draw_network(
    axes: Axes, x: float, model: keras.Model, stem: list, stages: dict, head: list
) -> float:
    """Draws the network as a column of boxes, shapes and parameters beside them."""
    shape_x = x + NETWORK_WIDTH + OUTPUT_WIDTH
    parameters_x = shape_x + PARAMETERS_WIDTH
    middle = x + NETWORK_WIDTH / 2 + 0.15
    _title(axes, x, "Network")
    for column, title in ((shape_x, "output"), (parameters_x, "parameters")):
        _write(axes, column, TOP - 0.35, title, style="italic", ha="right")

    def row(
        y: float, name: str, lines: list[str], color: str, parts: Sequence[keras.Layer]
    ) -> float:
        _arrow(axes, (middle, y - ARROW), (middle, y))
        bottom = y + 2 * PADDING + LINE * len(lines)
        _box(axes, x, y, NETWORK_WIDTH, bottom - y, color)
        centre = (y + bottom) / 2
        _write(axes, x + PADDING, centre, name, ha="left")
        for number, line in enumerate(lines):
            _write(axes, middle, y + PADDING + LINE * (number + 0.5), line)
        _write(axes, shape_x, centre, _shape(parts[-1].output), ha="right")
        _write(axes, parameters_x, centre, _parameters(parts), ha="right")
        return bottom

    _write(axes, middle, TOP - 0.35, _shape(model.input))
    y = row(TOP, "stem", _lines(stem), OTHER_COLOR, stem)
    for name, modules in stages.items():
        first, *_ = modules.values()
        convolutions = [layer for layer in _ways(first)[0] if isinstance(layer, layers.Conv2D)]
        lines = [f"{_size(layer.kernel_size)}, {layer.filters}" for layer in convolutions]
        stride = max(layer.strides[0] for layer in convolutions)
        parts = [layer for module in modules.values() for layer in module]
        top = y + ARROW
        y = row(top, name if stride == 1 else f"{name}\nstride {stride}", lines, STAGE_COLOR, parts)
        for side in (-1, 1):
            _bracket(axes, middle + side * 0.5, top + PADDING, y - PADDING, side)
        _write(axes, middle + 0.6, (top + y) / 2, f"{TIMES} {len(modules)}", ha="left", size=11)
    y = row(y + ARROW, "head", _lines(head), OTHER_COLOR, head)

    _line(axes, (shape_x - 0.4, y + 0.1), (parameters_x, y + 0.1))
    _write(axes, shape_x, y + 0.25, "total", ha="right", style="italic")
    _write(axes, parameters_x, y + 0.25, f"{model.count_params():,}", ha="right", weight="bold")
    return y + 0.35


def _draw_module(
    axes: Axes, x: float, title: str, count: str, module: Sequence[keras.Layer]
) -> float:
    """Draws the layers of one module, the shortcut to the right of the branch."""
    (branch, shortcut), output = _ways(module), module[-1]
    middle, aside = x + LAYER_WIDTH / 2, x + LAYER_WIDTH + 2 * PADDING
    name = _sum(module).name.rpartition("_")[0]
    _title(axes, x, title)
    _write(axes, x, MARGIN + 0.33, f"{count}, here {name}", style="italic", ha="left")

    _write(axes, middle, TOP - 0.35, _shape(branch[0].input))
    # Where the shortcut leaves the branch: after the last layer that both share, if any.
    start = shortcut[0].input if shortcut else branch[0].input
    y, leaves_at = TOP, TOP - ARROW / 2
    _arrow(axes, (middle, TOP - ARROW), (middle, TOP))
    for layer in branch:
        color = COLORS.get(type(layer), OTHER_COLOR)
        _box(axes, x, y, LAYER_WIDTH, LAYER_HEIGHT, color)
        _write(axes, middle, y + LAYER_HEIGHT / 2, _text(layer))
        y += LAYER_HEIGHT
        if layer.output is start:
            leaves_at = y + ARROW / 2
        _arrow(axes, (middle, y), (middle, y + ARROW))
        y += ARROW

    radius = 0.13
    axes.add_patch(Circle((middle, y + radius), radius, facecolor="white", edgecolor=LINE_COLOR))
    _write(axes, middle, y + radius, "+", size=13, va="center")
    side = aside + (SHORTCUT_WIDTH / 2 if shortcut else 0)
    _arrow(
        axes,
        (middle, leaves_at),
        (side, leaves_at),
        (side, y + radius),
        (middle + radius, y + radius),
    )
    texts = [_text(layer).replace(", stride", "\nstride") for layer in shortcut]
    heights = [2 * PADDING + LINE * (text.count("\n") + 1) for text in texts]
    place = (leaves_at + y - sum(heights) - ARROW * (len(heights) - 1)) / 2
    for layer, text, height in zip(shortcut, texts, heights, strict=True):
        _box(axes, aside, place, SHORTCUT_WIDTH, height, COLORS.get(type(layer), OTHER_COLOR))
        _write(axes, side, place + height / 2, text)
        place += height + ARROW
    y += 2 * radius
    for layer in _after_sum(module):
        _arrow(axes, (middle, y), (middle, y + ARROW))
        y += ARROW
        _box(axes, x, y, LAYER_WIDTH, LAYER_HEIGHT, COLORS.get(type(layer), OTHER_COLOR))
        _write(axes, middle, y + LAYER_HEIGHT / 2, _text(layer))
        y += LAYER_HEIGHT
    _arrow(axes, (middle, y), (middle, y + 0.25))
    _write(axes, middle, y + 0.36, _shape(output.output))
    return y + 0.46


def _title(axes: Axes, x: float, text: str) -> None:
    _write(axes, x, MARGIN + 0.1, text, size=13, weight="bold", ha="left", va="baseline")


def _write(axes: Axes, x: float, y: float, text: str, size: float = 10, **style: object) -> None:
    style = {"ha": "center", "va": "center_baseline", "color": "black"} | style
    axes.text(x, y, text, fontsize=size, linespacing=1.35, **style)


def _box(axes: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=color,
            edgecolor=LINE_COLOR,
            linewidth=0.8,
        )
    )


def _arrow(axes: Axes, *points: tuple[float, float]) -> None:
    _line(axes, *points)
    head = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(*points[-2:], color=LINE_COLOR, linewidth=0.9, **head))


def _bracket(axes: Axes, x: float, top: float, bottom: float, side: int) -> None:
    inner = x - side * 0.06
    _line(axes, (inner, top), (x, top), (x, bottom), (inner, bottom), zorder=2)


def _line(axes: Axes, *points: tuple[float, float], zorder: float = 0.5) -> None:
    # By default below the boxes, so that a shortcut leads into its projection, not across it.
    axes.plot(*zip(*points, strict=True), color=LINE_COLOR, linewidth=0.9, zorder=zorder)
