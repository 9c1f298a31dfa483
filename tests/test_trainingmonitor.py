import json
import os

import pytest
from matplotlib.image import imread

from pipeline.callbacks.trainingmonitor import TrainingMonitor
from pipeline.errors import UserError
from pipeline.figures.curve import plot


@pytest.fixture(scope="module")
def model(tiny_network):
    return tiny_network()


@pytest.fixture
def run(tmp_path, model):
    """Lets a new monitor see epochs that end with these losses: `run([1.5, 1.0])`."""

    def run(losses, json_path=tmp_path / "run.json", fig_path=tmp_path / "run.png", **settings):
        monitor = TrainingMonitor(fig_path, json_path, **settings)
        monitor.set_model(model)
        for epoch, loss in enumerate(losses, settings.get("start_at", 0)):
            monitor.on_epoch_end(epoch, {"loss": loss, "val_accuracy": 0.5, "seconds": 3})
        return monitor

    return run


def written(path):
    return json.loads((path / "run.json").read_text())


def test_the_history_is_written_after_every_epoch_with_the_learning_rate(tmp_path, run):
    for count in (1, 2, 3):
        run([3.0, 2.0, 1.0][:count])
        assert written(tmp_path) == {
            "loss": [3.0, 2.0, 1.0][:count],
            "val_accuracy": [0.5] * count,
            "learning_rate": [0.1] * count,
        }


def test_a_resumed_run_goes_on_behind_the_epochs_it_starts_at(tmp_path, run):
    run([4.0, 3.0, 2.0])
    run([2.5], start_at=2)
    assert written(tmp_path)["loss"] == [4.0, 3.0, 2.5]


def test_the_same_is_written_as_csv_and_trimmed_likewise(tmp_path, run):
    run([4.0, 3.0, 2.0])
    run([2.5], start_at=2)
    assert (tmp_path / "run.csv").read_text().splitlines() == [
        "epoch,loss,val_accuracy,learning_rate",
        "1,4.0,0.5,0.1",
        "2,3.0,0.5,0.1",
        "3,2.5,0.5,0.1",
    ]


def test_the_history_given_counts_more_than_the_file(tmp_path, run):
    other = run([9.0, 8.0, 7.0]).history
    run([4.0, 3.0, 2.0])
    run([2.5], start_at=2, history=other)
    assert written(tmp_path)["loss"] == [9.0, 8.0, 2.5]


def test_a_file_to_go_on_from_that_is_none_is_refused(tmp_path, run):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        run([1.0], start_at=2)
    run([1.0])
    assert written(tmp_path)["loss"] == [1.0]


def test_without_a_json_path_only_the_plot_is_written(tmp_path, run):
    run([1.0, 0.5], json_path=None)
    assert os.listdir(tmp_path) == ["run.png"]


# the plot


def test_the_plot_is_a_png_and_is_redrawn_after_every_epoch(tmp_path, run):
    seen = set()
    for count in (1, 2, 3):
        run([3.0, 2.0, 1.0][:count])
        assert imread(tmp_path / "run.png").shape[2] == 4
        seen.add((tmp_path / "run.png").read_bytes())
    assert len(seen) == 3


def test_the_plot_says_what_it_is_told_of_the_run(tmp_path, run):
    run([1.0], title="pets", validation="test set")
    history = written(tmp_path)
    assert (tmp_path / "run.png").read_bytes() == plot(history, "pets", validation="test set")


# failures


def test_a_plot_that_cannot_be_written_is_only_warned_of(tmp_path, run, capsys):
    for place in (tmp_path / "not there" / "run.png", tmp_path / "run.json" / "run.png"):
        run([1.0, 0.5], fig_path=place)
        assert f"warning: {place} was not drawn" in capsys.readouterr().err
    assert written(tmp_path)["loss"] == [1.0, 0.5]


def test_a_full_disk_leaves_the_plot_before_whole(tmp_path, run, small_disk, capsys):
    run([1.0])
    before = (tmp_path / "run.png").read_bytes()
    with small_disk(5_000):
        run([1.0, 0.5])
    assert "run.png was not drawn: File too large" in capsys.readouterr().err
    assert (tmp_path / "run.png").read_bytes() == before
    assert written(tmp_path)["loss"] == [1.0, 0.5]
    assert sorted(os.listdir(tmp_path)) == ["run.csv", "run.json", "run.png"]


def test_a_full_disk_leaves_the_history_before_whole_and_is_an_error(tmp_path, run, small_disk):
    run([1.0])
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(OSError, match=r"run\.json"), small_disk(20):
        run([1.0, 0.5])
    assert (tmp_path / "run.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["run.csv", "run.json", "run.png"]
