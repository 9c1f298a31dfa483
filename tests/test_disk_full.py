"""A disk that fills up costs one line, and nothing that was written before.

The system's limit on the size of files stands in for the full disk: a write fails in the same place
and way. Real processes of the scripts get it at the moment they open the file in question. Building
data files has its own tests of this, in test_build_tiny_imagenet.py and test_build_images.py.
"""

import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from forkedscript import ROOT, finish, start, write_pictures

from pipeline.files.checkpoints import checkpoints
from pipeline.files.modelfile import read_checkpoint
from pipeline.io.miniatures import write_photographs

pytestmark = pytest.mark.thorough

SCRIPT = "resnet_cifar10_decay.py"
NETWORK = ["--stages", 1, "--filters", 4, 8, "--batch-size", 16]
OPTIONS = [*NETWORK, "--workers", 1, "--epochs", 3, "--resume"]
NAME = "resnet_cifar10_decay"


def fill_disk(file: str, room: int) -> None:
    """Leaves this process `room` bytes whenever it writes the temporary file of a file."""
    no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def watch(event: str, arguments: tuple) -> None:
        if event in ("open", "os.remove") and Path(str(arguments[0])).name == f".{file}.tmp":
            limit = (room, no_limit[1]) if event == "open" else no_limit
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    sys.addaudithook(watch)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return ["--data", write_pictures(tmp_path_factory.mktemp("data")), *OPTIONS]


@pytest.fixture(scope="module")
def go_on(options):
    """Runs the script to its end; returns exit status and output."""

    def go_on(output: Path, log: Path, first: partial | None = None) -> tuple[int, str]:
        status = finish(start(SCRIPT, *options, "-o", output, log=log, first=first))
        return status, log.read_text()

    return go_on


@pytest.fixture(scope="module")
def straight(go_on, tmp_path_factory):
    """The files of a run that always had room."""
    folder = tmp_path_factory.mktemp("straight")
    assert go_on(folder / "output", folder / "log")[0] == 0
    return contents(folder / "output")


def assert_stopped_in_order(status: int, printed: str, message: str, output: Path) -> None:
    assert status == 2
    assert printed.splitlines()[-1].startswith("error: ")
    assert message in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not [name for name in contents(output) if name.endswith(".tmp")]
    for path in checkpoints(output / "checkpoints_decay").values():
        read_checkpoint(path)


def assert_same_end(output: Path, straight: dict[str, bytes]) -> None:
    left = contents(output)
    # These tell folders and speed.
    for name in straight.keys() - {f"{NAME}_options.json", f"{NAME}_report.html"}:
        assert left[name] == straight[name], name


def test_a_full_disk_stops_a_run_in_one_line_and_with_room_again_it_goes_on(
    go_on, straight, tmp_path
):
    output, log = tmp_path / "output", tmp_path / "log"
    for file, room, epoch in [
        (f"{NAME}_options.json", 500, 0),
        (f"{NAME}.json", 50, 0),
        (f"{NAME}.csv", 50, 0),
        ("epoch_1.hdf5", 40_000, 0),
        ("epoch_2.hdf5", 0, 1),
        (f"{NAME}_report.txt", 100, 3),
        ("resnet_cifar10.hdf5", 40_000, 3),
    ]:
        status, printed = go_on(output, log, partial(fill_disk, file, room))
        assert_stopped_in_order(status, printed, f"{file}: File too large", output)
        assert max(checkpoints(output / "checkpoints_decay"), default=(0, 0)) == (epoch, 0)
    assert go_on(output, log)[0] == 0
    assert_same_end(output, straight)


def test_a_full_disk_while_pictures_are_looked_at_costs_the_look_alone(tmp_path):
    write_photographs(tmp_path / "photographs", 8)
    network = ["--size", 32, "--stages", 1, "--filters", 4, 8, "--batch-size", 4, "--epochs", 1]
    options = ["--images", tmp_path / "photographs", *network, "-o", tmp_path / "output"]
    log, record = tmp_path / "log", "resnet_images_pictures.json"
    first = partial(fill_disk, record, 500)
    assert finish(start("train_images.py", *options, log=log, first=first)) == 2
    complaint = log.read_text().splitlines()[-1]
    assert complaint == f"error: {tmp_path}/output/{record}: File too large"
    assert contents(tmp_path / "output") == {}
    assert finish(start("train_images.py", *options, log=log)) == 0
    assert record in contents(tmp_path / "output")


def test_a_process_whose_files_may_not_grow_ends_in_order(options, tmp_path):
    """Without any help of the test in the process, whose end HDF5 has been seen to crash."""
    command = [sys.executable, SCRIPT, *options, "-o", tmp_path]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 70 && exec "$@"', "", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    *warnings, _ = done.stderr.splitlines()  # a curve may have more pixels than fit
    assert all("was not drawn: File too large" in warning for warning in warnings)
    assert_stopped_in_order(done.returncode, done.stderr, "epoch_1.hdf5: File too large", tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 230 KiB, too small for two checkpoints beside the rest."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=230k", "tmpfs", folder]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.needs("mount")
def test_a_small_file_system_that_fills_up_and_grows(go_on, straight, small_disk, tmp_path):
    output, log = small_disk / "output", tmp_path / "log"
    status, printed = go_on(output, log)
    assert_stopped_in_order(status, printed, "No space left on device", output)
    assert max(checkpoints(output / "checkpoints_decay")) > (0, 0)
    subprocess.run(["mount", "-o", "remount,size=10m", small_disk], check=True)
    assert go_on(output, log)[0] == 0
    assert_same_end(output, straight)


def test_a_plot_that_finds_no_room_is_only_warned_of(go_on, straight, tmp_path):
    output, log = tmp_path / "output", tmp_path / "log"
    status, printed = go_on(output, log, partial(fill_disk, f"{NAME}.png", 20_000))
    assert status == 0
    assert printed.count(f"warning: {output / NAME}.png was not drawn: File too large") == 3
    without_plot = {name: content for name, content in straight.items() if name != f"{NAME}.png"}
    left = contents(output)
    assert left.keys() == without_plot.keys()
    model = "resnet_cifar10.hdf5"
    assert left[model] == without_plot[model]


def test_a_page_that_finds_no_room_is_only_warned_of(go_on, straight, tmp_path):
    output, log = tmp_path / "output", tmp_path / "log"
    status, printed = go_on(output, log, partial(fill_disk, f"{NAME}_report.html", 20_000))
    assert status == 0
    page = f"{NAME}_report.html"
    assert "warning: the report was not laid out as HTML and PDF" in printed
    assert contents(output).keys() == straight.keys() - {page}
    assert go_on(output, log)[0] == 0
    assert contents(output).keys() == straight.keys()
