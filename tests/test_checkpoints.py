import pytest
from resealed import reseal

from pipeline.errors import UserError
from pipeline.files.checkpoints import best_path, checkpoint_path, checkpoints, newest_checkpoint


@pytest.fixture
def folder(tmp_path, write_checkpoint):
    """Checkpoints of the epochs 9, 10 and 5."""
    for epoch in (9, 10, 5):
        write_checkpoint(checkpoint_path(tmp_path, epoch), epoch)
    return tmp_path


def damage(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_checkpoints_come_by_epoch_and_batches_the_latest_first(folder):
    """By number, not by name, after which epoch 10 would come before epoch 9."""
    (folder / "epoch_9_plus_40_batches.hdf5").touch()
    assert list(checkpoints(folder).items()) == [
        ((10, 0), folder / "epoch_10.hdf5"),
        ((9, 40), folder / "epoch_9_plus_40_batches.hdf5"),
        ((9, 0), folder / "epoch_9.hdf5"),
        ((5, 0), folder / "epoch_5.hdf5"),
    ]


def test_the_newest_may_be_of_an_epoch_under_way(folder, write_checkpoint):
    for epoch, batch in ((9, 40), (10, 7), (10, 12)):
        write_checkpoint(checkpoint_path(folder, epoch, batch), epoch, batch=batch)
    newest = newest_checkpoint(folder)
    assert (newest.epoch, newest.batch, newest.path.name) == (
        10,
        12,
        "epoch_10_plus_12_batches.hdf5",
    )
    newest.path.write_bytes(b"damaged")
    assert newest_checkpoint(folder).batch == 7
    checkpoint_path(folder, 10, 7).unlink()
    assert (newest_checkpoint(folder).epoch, newest_checkpoint(folder).batch) == (10, 0)


def test_other_files_are_no_checkpoints(folder):
    for name in (
        "best.hdf5",
        "epoch_11.hdf5.tmp",
        ".epoch_11.hdf5.tmp",
        "my_epoch_11.hdf5",
        "epoch_x.hdf5",
        "epoch_11.h5",
        "abandoned_1/epoch_11.hdf5",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert list(checkpoints(folder)) == [(10, 0), (9, 0), (5, 0)]


def test_the_newest_is_read(folder):
    newest = newest_checkpoint(folder)
    assert (newest.epoch, newest.path) == (10, folder / "epoch_10.hdf5")


def test_damaged_checkpoints_are_passed_over_with_a_line_each(folder, capsys):
    damage(folder / "epoch_10.hdf5")
    damage(folder / "epoch_9.hdf5")
    assert newest_checkpoint(folder).epoch == 5
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    for warning, epoch in zip(warnings, (10, 9), strict=True):
        assert warning.startswith(f"warning: {folder}/epoch_{epoch}.hdf5 is truncated, damaged")
        assert warning.endswith("falling back to the one before")


def test_a_folder_of_damaged_checkpoints_is_not_taken_for_an_empty_one(folder):
    for path in checkpoints(folder).values():
        damage(path)
    with pytest.raises(UserError, match=f"{folder} has no intact checkpoint.*epoch_5.hdf5"):
        newest_checkpoint(folder)


def test_where_only_the_best_is_whole_it_is_named(folder, write_checkpoint):
    write_checkpoint(best_path(folder), 7)
    for path in checkpoints(folder).values():
        damage(path)
    message = f"{best_path(folder)} is intact: copy it to epoch_7.hdf5 to continue"
    with pytest.raises(UserError, match=message):
        newest_checkpoint(folder)


@pytest.mark.parametrize("member", ["training/optimizer/0000", "model_weights/fc/fc/kernel"])
def test_a_forged_checkpoint_is_passed_over_as_well(folder, member):
    def change(file):
        del file[member]

    reseal(folder / "epoch_10.hdf5", change)
    assert newest_checkpoint(folder).epoch == 9


def test_without_checkpoints_there_is_no_newest(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "not there") is None
