from itertools import combinations
from typing import NamedTuple

import keras
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.patches import FancyBboxPatch

import visualize_architecture
from pipeline.errors import UserError
from pipeline.figures.architecture import LAYER_HEIGHT, LAYER_WIDTH, TIMES, draw_architecture
from pipeline.nn.conv import ResNet, ResNet18

NETWORKS = {
    "resnet_56": (32, 10, (9, 9, 9), (64, 64, 128, 256), "cifar10"),
    "tiny_imagenet": (64, 200, (3, 4, 6), (64, 128, 256, 512), "tiny_imagenet"),
    "one_module": (8, 4, (1,), (4, 8), "cifar10"),
    "many_stages": (256, 1000, (1, 2, 1, 1, 10, 1), (4, 4, 4, 4, 4, 4, 2048), "cifar10"),
    "imagenet": (224, 1000, (1, 1, 1, 2), (64, 64, 128, 256, 512), "imagenet"),
}


@pytest.fixture(scope="module", params=[*NETWORKS, "resnet18"])
def model(request):
    if request.param == "resnet18":
        return ResNet18.build(32, 32, 3, 10)
    size, classes, stages, filters, dataset = NETWORKS[request.param]
    return ResNet.build(size, size, 3, classes, stages, filters, dataset=dataset)


@pytest.fixture(scope="module")
def figure(model):
    return draw_architecture(model, "ResNet 9-9-9, filters 64-64-128-256")


class Written(NamedTuple):
    """A text of the drawing and where it stands, in inches from the left and from the top."""

    x: float
    y: float
    text: str


def written(figure):
    return [
        Written(*text.get_position(), text.get_text().replace(TIMES, "x"))
        for text in figure.axes[0].texts
    ]


def texts(figure):
    return [text for _, _, text in written(figure)]


def find(figure, text):
    """The first of the texts like this, from the top."""
    return min((w for w in written(figure) if w.text == text), key=lambda w: w.y)


# what is drawn is what the model is


def test_every_parameter_is_counted_once(model, figure):
    title = find(figure, "parameters")
    below = [w for w in written(figure) if w.x == title.x and w.y > title.y]
    *parts, total = [int(w.text.replace(",", "")) for w in below]
    assert total == model.count_params()
    assert sum(parts) == total
    assert len(parts) == len({layer.name[:5] for layer in model.layers if "_add" in layer.name}) + 2


def test_a_stage_stands_with_its_modules_shape_and_parameters():
    model = ResNet.build(32, 32, 3, 10, (2, 8, 1), (64, 64, 128, 256))
    figure = draw_architecture(model)
    height = find(figure, "conv3\nstride 2").y
    beside = sorted(w for w in written(figure) if abs(w.y - height) < 0.01 and w.x < 6)
    parameters = sum(x.count_params() for x in model.layers if x.name.startswith("conv3_"))
    assert [w.text for w in beside] == [
        "conv3\nstride 2",
        "3x3, 32",
        "x 8",
        "16x16x128",
        f"{parameters:,}",
    ]


def test_settings_of_layers_are_read_from_the_layers(model, figure):
    drawn = texts(figure)
    for name in ("conv1", "fc", "avg_pool"):
        layer = model.get_layer(name)
        match layer:
            case keras.layers.Conv2D():
                side = layer.kernel_size[0]
                stride = f", stride {layer.strides[0]}" if layer.strides[0] > 1 else ""
                assert f"conv {side}x{side}, {layer.filters}{stride}" in drawn
            case keras.layers.Dense():
                assert f"dense {layer.units}" in drawn
            case keras.layers.GlobalAveragePooling2D():
                assert "global average pool" in drawn
            case _:
                assert "average pool {}x{}".format(*layer.pool_size) in drawn


def column(figure, title):
    """What is written in the middle under a module's title, from top to bottom."""
    left, top, _ = find(figure, title)
    middle = left + LAYER_WIDTH / 2
    found = [w for w in written(figure) if abs(w.x - middle) < 0.01 and w.y > top]
    return [w.text for w in sorted(found, key=lambda w: w.y)]


def test_both_kinds_of_module_are_drawn_in_detail():
    model = ResNet.build(32, 32, 3, 10, (1, 2), (16, 16, 32))
    figure = draw_architecture(model)
    activation = ["BN", "ReLU"]
    assert column(figure, "Projection module") == [
        "32x32x16",
        *[*activation, "conv 1x1, 8"],
        *[*activation, "conv 3x3, 8, stride 2"],
        *[*activation, "conv 1x1, 32"],
        "+",
        "16x16x32",
    ]
    assert column(figure, "Identity module") == [
        "16x16x32",
        *[*activation, "conv 1x1, 8"],
        *[*activation, "conv 3x3, 8"],
        *[*activation, "conv 1x1, 32"],
        "+",
        "16x16x32",
    ]
    assert "2 of 3, here conv3_1" in texts(figure)
    assert "1 of 3, here conv3_2" in texts(figure)
    assert texts(figure).count("conv 1x1, 32\nstride 2") == 1


def test_the_shortcut_leaves_where_it_leaves_in_the_model():
    """A projection between the first ReLU and its convolution, the identity before everything."""
    figure = draw_architecture(ResNet.build(32, 32, 3, 10, (1, 2), (16, 16, 32)))
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    shortcuts = [points for points in lines if len(points) == 4 and np.ptp(points[:, 0]) > 1]
    (_, projection), (_, identity) = sorted(tuple(points[0]) for points in shortcuts)
    half = LAYER_HEIGHT / 2
    assert find(figure, "ReLU").y + half < projection < find(figure, "conv 1x1, 8").y - half
    assert find(figure, "16x16x32").y < identity < find(figure, "BN").y - half


def test_what_comes_after_the_sum_is_drawn_after_it():
    figure = draw_architecture(ResNet18.build(64, 64, 3, 10))
    assert column(figure, "Identity module") == [
        "2x2x512",
        *["conv 3x3, 512", "BN", "ReLU"],
        *["conv 3x3, 512", "BN"],
        *["+", "ReLU"],
        "2x2x512",
    ]
    side = find(figure, "conv 1x1, 512\nstride 2")
    (normalization,) = [w for w in written(figure) if w.text == "BN" and w.x == side.x]
    assert normalization.y > side.y


def test_the_drawing_has_the_name_of_the_network():
    figure = draw_architecture(ResNet.build(8, 8, 3, 4, (1,), (4, 8)), "A network")
    assert find(figure, "A network").y > find(figure, "Network").y


def test_a_network_without_identity_modules_is_drawn_without_one():
    figure = draw_architecture(ResNet.build(8, 8, 3, 4, (1,), (4, 8)))
    assert "Projection module" in texts(figure)
    assert "Identity module" not in texts(figure)


def test_another_kind_of_model_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="plain has no layers with names like conv2_1_add"):
        draw_architecture(model)


# how it looks


def test_no_text_overlaps_another_or_leaves_its_box(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}
    assert len(extents) > 20
    for (one, here), (other, there) in combinations(extents.items(), 2):
        assert not here.overlaps(there), (one, other)
    boxes = [
        patch.get_window_extent(renderer)
        for patch in figure.axes[0].patches
        if isinstance(patch, FancyBboxPatch)
    ]
    page = figure.bbox
    for text, extent in extents.items():
        assert page.containsx(extent.x0), text
        assert page.containsx(extent.x1), text
        assert page.containsy(extent.y0), text
        assert page.containsy(extent.y1), text
        for box in boxes:
            if box.overlaps(extent):
                assert box.x0 < extent.x0, text
                assert extent.x1 < box.x1, text


# the script


@pytest.mark.thorough
def test_the_script_draws_a_png_and_prints_the_summary(run_python, tmp_path):
    picture = tmp_path / "figures" / "small.png"
    network = ("--stages", "1", "--filters", "8", "16")
    result = run_python("visualize_architecture.py", *network, "--summary", "--output", picture)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    parameters = f"{ResNet.build(32, 32, 3, 10, (1,), (8, 16)).count_params():,}"
    assert f"ResNet 1, filters 8-16: {parameters} parameters, drawn to {picture}" in result.stdout
    assert "conv2_1_shortcut" in result.stdout
    height, width, _ = imread(picture).shape
    assert width > height > 500


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        ("resnet_cifar10", "886,102"),
        ("resnet_tiny_imagenet", "2,265,748"),
        ("resnet18", "11,191,242"),
    ],
)
def test_without_more_the_script_draws_the_configured_networks(
    tmp_path, monkeypatch, capsys, network, parameters
):
    picture = tmp_path / "network.png"
    monkeypatch.setattr("sys.argv", ["x.py", "--network", network, "--output", str(picture)])
    visualize_architecture.main()
    assert f"{parameters} parameters" in capsys.readouterr().out
    assert picture.exists()


def test_stages_of_a_network_that_has_its_own_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["x.py", "--network", "resnet18", "--stages", "1"])
    with pytest.raises(SystemExit):
        visualize_architecture.main()
    assert "--stages and --filters: resnet18 has its own" in capsys.readouterr().err


def test_a_network_that_cannot_be_is_refused_in_one_line(tmp_path, monkeypatch):
    picture = tmp_path / "no.png"
    network = ["--stages", *"1111", "--filters", *"88888"]
    monkeypatch.setattr("sys.argv", ["x.py", *network, "--output", str(picture)])
    with pytest.raises(UserError, match="32x32 images leave a 4x4 map after 4 stages"):
        visualize_architecture.main()
    assert not picture.exists()
