import errno
import os

import numpy as np
import pytest
from keras import ops

from pipeline import history as histories
from pipeline.callbacks.epochcheckpoint import EpochCheckpoint
from pipeline.files.checkpoints import checkpoints, newest_checkpoint
from pipeline.files.modelfile import read_checkpoint


@pytest.fixture(scope="module")
def model(tiny_network):
    model = tiny_network()
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def run(tmp_path, model):
    """Lets a new callback see epochs that end with these accuracies: `run([0.1, 0.2])`."""

    def run(accuracies, start_at=0, history=None, every=100, folder=tmp_path):
        history = histories.trimmed(history or {}, start_at)
        callback = EpochCheckpoint(folder, every, start_at, history, {"seed": 1})
        callback.set_model(model)
        callback.on_train_begin()
        for epoch, accuracy in enumerate(accuracies, start_at):
            callback.on_epoch_begin(epoch)
            model.optimizer.iterations.assign(epoch + 1)
            histories.append(history, {"loss": 1.0, "val_accuracy": accuracy}, 0.1)
            callback.on_epoch_end(epoch)
        callback.on_train_end()
        return callback

    return run


def epochs(folder):
    return sorted(epoch for epoch, batches in checkpoints(folder) if not batches)


def best(folder):
    """The epoch whose checkpoint `best.hdf5` is."""
    return read_checkpoint(folder / "best.hdf5").epoch


# what is written and what stays


def test_a_checkpoint_has_epoch_history_options_and_the_optimizers_variables(
    tmp_path, run, tiny_network
):
    run([0.25, 0.5])
    checkpoint = read_checkpoint(tmp_path / "epoch_2.hdf5")
    assert checkpoint.epoch == 2
    assert checkpoint.history == {
        "loss": [1.0, 1.0],
        "val_accuracy": [0.25, 0.5],
        "learning_rate": [0.1, 0.1],
    }
    assert checkpoint.options == {"seed": 1}
    restored = tiny_network()
    checkpoint.restore(restored)
    assert int(restored.optimizer.iterations) == 2


def test_every_nth_and_the_latest_stay(tmp_path, run):
    run([0.1] * 7, every=3)
    assert epochs(tmp_path) == [3, 6, 7]


def test_the_latest_is_always_there(tmp_path, run):
    seen = []
    history = {}
    for epoch in range(5):
        history = run([0.1], start_at=epoch, history=history, every=2).history
        seen.append(newest_checkpoint(tmp_path).epoch)
    assert seen == [1, 2, 3, 4, 5]


def test_the_one_a_run_was_resumed_from_stays(tmp_path, run):
    first = run([0.1] * 3, every=5)
    run([0.1] * 3, start_at=3, history=first.history, every=5)
    assert epochs(tmp_path) == [3, 5, 6]


def test_the_history_of_a_resumed_run_goes_on_where_it_left_off(tmp_path, run):
    first = run([0.1, 0.2, 0.3])
    run([0.7], start_at=2, history=first.history)
    assert read_checkpoint(tmp_path / "epoch_3.hdf5").history["val_accuracy"] == [0.1, 0.2, 0.7]


def test_a_missing_folder_is_made(tmp_path, run):
    run([0.1], folder=tmp_path / "a" / "b")
    assert epochs(tmp_path / "a" / "b") == [1]


# amid an epoch


@pytest.fixture
def under_way(tmp_path, model):
    """Lets a new callback see the first of four batches of an epoch, and then as many as asked."""

    def under_way(batches=1, start_at=0, history=None, **settings):
        settings["history"] = histories.trimmed(history or {}, start_at)
        callback = EpochCheckpoint(tmp_path, start_at=start_at, **settings)
        callback.set_model(model)
        callback.set_params({"steps": 4})
        callback.on_train_begin()
        callback.on_epoch_begin(start_at)
        for batch in range(batches):
            callback.on_train_batch_end(batch)
        return callback

    return under_way


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_where_it_is_time_to_there_is_one_of_the_batches_so_far(tmp_path, under_way, model):
    callback = under_way(batches=4, minutes=0)  # after the last one the epoch's own comes soon
    assert names(tmp_path) == ["epoch_0_plus_3_batches.hdf5"]
    checkpoint = newest_checkpoint(tmp_path)
    assert (checkpoint.epoch, checkpoint.batch, checkpoint.path) == (0, 3, callback.path)
    assert len(checkpoint.metrics) == len(model.metrics_variables)
    callback.on_epoch_end(0, {"loss": 1.0})
    assert names(tmp_path) == ["epoch_1.hdf5"]


def test_where_epochs_take_less_time_there_is_none(tmp_path, under_way):
    assert under_way(batches=4, minutes=10).path is None
    assert names(tmp_path) == []


def test_weights_that_are_no_numbers_are_not_written(tmp_path, under_way, model):
    callback = under_way()
    bias = model.trainable_variables[-1]
    value = np.array(ops.convert_to_numpy(bias))
    bias.assign(np.full_like(value, np.nan))
    callback.save_under_way(1)
    bias.assign(value)
    assert names(tmp_path) == []
    callback.save_under_way(1)
    assert names(tmp_path) == ["epoch_0_plus_1_batches.hdf5"]


def test_the_one_that_a_run_leaves_for_another_branch_is_put_aside(tmp_path, run, under_way):
    first = run([0.1] * 2, every=1)
    under_way(start_at=2, history=first.history, minutes=0)
    callback = under_way(start_at=1, history=first.history, every=1)
    assert newest_checkpoint(tmp_path).batch == 1
    callback.save_under_way(2)
    newest = newest_checkpoint(tmp_path)
    assert (newest.epoch, newest.batch) == (1, 2)
    assert names(tmp_path / "abandoned_1") == ["epoch_2.hdf5", "epoch_2_plus_1_batches.hdf5"]


def test_what_a_kill_has_left_of_one_is_removed(tmp_path, under_way):
    (tmp_path / ".epoch_0_plus_7_batches.hdf5.tmp").touch()
    under_way()
    assert names(tmp_path) == []


def test_of_several_processes_only_one_writes(tmp_path, under_way):
    callback = under_way(batches=4, minutes=0, writes=False)
    callback.on_epoch_end(0, {"loss": 1.0})
    assert callback.epoch == 1
    assert names(tmp_path) == []


# the best


def test_the_best_is_that_of_the_highest_accuracy(tmp_path, run):
    run([0.2, 0.6, 0.4])
    assert best(tmp_path) == 2
    assert not (tmp_path / "epoch_2.hdf5").exists()


def test_the_first_of_equals_stays_the_best(tmp_path, run):
    run([0.5, 0.5])
    assert best(tmp_path) == 1


def test_a_resumed_run_remembers_the_score_to_beat(tmp_path, run):
    first = run([0.2, 0.6])
    second = run([0.3, 0.5], start_at=2, history=first.history)
    assert best(tmp_path) == 2
    run([0.61], start_at=4, history=second.history)
    assert best(tmp_path) == 5


def test_the_best_is_remembered_when_training_goes_back_behind_it(tmp_path, run):
    first = run([0.2, 0.3, 0.6], every=1)
    run([0.5, 0.4], start_at=1, history=first.history)
    assert best(tmp_path) == 3


def test_a_kill_between_checkpoint_and_best_is_made_up_for(tmp_path, run):
    first = run([0.2, 0.6])
    (tmp_path / "best.hdf5").unlink()
    run([], start_at=2, history=first.history)
    assert best(tmp_path) == 2


def test_a_damaged_best_is_replaced(tmp_path, run):
    first = run([0.6])
    (tmp_path / "best.hdf5").unlink()
    (tmp_path / "best.hdf5").write_bytes(b"half a file")
    run([0.3], start_at=1, history=first.history)
    assert best(tmp_path) == 1


def test_without_validation_there_is_no_best(tmp_path, model):
    callback = EpochCheckpoint(tmp_path)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, {"loss": 1.0})
    assert os.listdir(tmp_path) == ["epoch_1.hdf5"]


def test_the_name_of_the_best_checkpoint_is_on_disk_before_the_next_step(
    tmp_path, steps, write_checkpoint
):
    history = {"val_accuracy": [0.5]}
    write_checkpoint(tmp_path / "epoch_1.hdf5", 1, history)
    steps.clear()
    EpochCheckpoint(tmp_path, start_at=1, history=history).on_train_begin()
    assert steps == [("replace", ".best.hdf5.tmp", "best.hdf5"), ("fsync", tmp_path.name)]


def test_the_best_checkpoint_is_on_disk_even_where_there_are_no_hard_links(
    tmp_path, steps, write_checkpoint, monkeypatch
):
    def refuse(*paths):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    history = {"val_accuracy": [0.5]}
    path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1, history)
    steps.clear()
    monkeypatch.setattr(os, "link", refuse)
    EpochCheckpoint(tmp_path, start_at=1, history=history).on_train_begin()
    assert (tmp_path / "best.hdf5").read_bytes() == path.read_bytes()
    assert steps[:2] == [("fsync", ".best.hdf5.tmp"), ("replace", ".best.hdf5.tmp", "best.hdf5")]


# going back


def test_later_checkpoints_are_put_aside_whole_once_the_new_branch_has_one(tmp_path, run):
    first = run([0.1, 0.2, 0.3, 0.4], every=1)
    contents = {n: (tmp_path / f"epoch_{n}.hdf5").read_bytes() for n in (3, 4)}
    run([], start_at=2, history=first.history)
    assert epochs(tmp_path) == [1, 2, 3, 4]

    second = run([0.5], start_at=2, history=first.history)
    assert epochs(tmp_path) == [1, 2, 3]
    assert newest_checkpoint(tmp_path).history["val_accuracy"] == [0.1, 0.2, 0.5]
    for number, content in contents.items():
        assert (tmp_path / "abandoned_1" / f"epoch_{number}.hdf5").read_bytes() == content

    run([0.6, 0.7], start_at=1, history=second.history)
    assert epochs(tmp_path / "abandoned_2") == [2, 3]
    assert epochs(tmp_path / "abandoned_1") == [3, 4]


# failures


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, run, small_disk):
    first = run([0.2, 0.6])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OSError, match=r"epoch_3\.hdf5"), small_disk(10_000):
        run([0.9], start_at=2, history=first.history)
    assert sorted(path.name for path in before) == ["best.hdf5", "epoch_2.hdf5"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_run_left_behind_does_not_disturb(tmp_path, run):
    (tmp_path / ".epoch_1.hdf5.tmp").write_bytes(b"half a file")
    first = run([0.2])
    # What is to become the best is at first another name of a checkpoint: to write into it would
    # be to write into that.
    checkpoint = (tmp_path / "epoch_1.hdf5").read_bytes()
    os.link(tmp_path / "epoch_1.hdf5", tmp_path / ".best.hdf5.tmp")
    run([0.6], start_at=1, history=first.history)
    assert best(tmp_path) == 2
    assert (tmp_path / "epoch_1.hdf5").read_bytes() == checkpoint
    assert sorted(os.listdir(tmp_path)) == ["best.hdf5", "epoch_1.hdf5", "epoch_2.hdf5"]
