import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import pytest
import toy
from toy import NAMES, NETWORK, experiment

from pipeline.backend import processor, uses_onednn
from pipeline.backend.devices import Devices
from pipeline.errors import UserError
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.files.modelfile import read_checkpoint, save_model
from pipeline.history import trimmed
from pipeline.training.experiment import Options
from pipeline.training.run import Run

HISTORY = {
    "loss": [2.0, 1.5, 1.25],
    "accuracy": [0.25, 0.5, 0.5],
    "val_loss": [2.0, 1.75, 1.5],
    "val_accuracy": [0.25, 0.25, 0.5],
    "learning_rate": [0.1, 0.1, 0.1],
}
TOY = experiment(epochs=10)
TRAIN_IT = replace(TOY, name="train_it")
SCRIPT = "train_it.py"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def run(output):
    """Starts a run: `run(epochs=20)`, or goes on: `run(resume=True)`."""

    def run(experiment=TRAIN_IT, checkpoint=None, **options):
        options = experiment.resolve(Options(**{"output": str(output), **options}))
        if options.resume and checkpoint is None:
            checkpoint = newest_checkpoint(Path(options.checkpoints))
        return Run(experiment, options, checkpoint, SCRIPT)

    return run


@pytest.fixture
def checkpoint(output, write_checkpoint):
    """The checkpoint of an earlier run's third epoch."""
    options = {"script": SCRIPT, "dataset": "toy"}
    return write_checkpoint(output / "checkpoints" / "epoch_3.hdf5", 3, HISTORY, options)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# a new run


def test_a_new_run_starts_with_nothing_and_writes_nothing_but_its_locks(run, output):
    new = run()
    assert (new.start_epoch, new.history, new.checkpoint) == (0, {}, None)
    assert new.files.history == output / "train_it.json"
    assert new.files.curve == output / "train_it.png"
    assert new.checkpoints == output / "checkpoints"
    assert files(output) == [".lock", "checkpoints/.lock"]


def test_results_may_have_another_name(run, output):
    assert run(replace(TOY, name="small")).files.report == output / "small_report.txt"


def test_the_models_folder_is_made(run, tmp_path):
    run(model=str(tmp_path / "a" / "b" / "model.hdf5"))
    assert (tmp_path / "a" / "b").is_dir()


# nothing of another run is overwritten


def test_a_new_run_does_not_overwrite_a_history(run, output):
    output.mkdir()
    (output / "train_it.json").write_text(json.dumps(HISTORY))
    with pytest.raises(
        UserError,
        match=r"train_it\.json holds the 3 epochs of an earlier run: continue it with --resume, ",
    ):
        run()
    assert json.loads((output / "train_it.json").read_text()) == HISTORY


def test_a_new_run_does_not_overwrite_checkpoints(run, checkpoint):
    with pytest.raises(UserError, match="checkpoints holds checkpoints of an earlier run up to ep"):
        run()
    assert checkpoint.exists()


@pytest.fixture
def under_way(output, write_checkpoint):
    """The checkpoint of an earlier run's first epoch, after two batches."""
    options = {"script": SCRIPT, "dataset": "toy", "batch_size": 8, "seed": 42}
    path = output / "checkpoints" / "epoch_0_plus_2_batches.hdf5"
    return write_checkpoint(path, 0, options=options, batch=2)


def test_a_new_run_does_not_overwrite_a_checkpoint_of_an_epoch_under_way(run, under_way):
    with pytest.raises(UserError, match="checkpoints holds checkpoints of an earlier run up to ep"):
        run()
    assert under_way.exists()


def test_amid_an_epoch_a_run_goes_on_with_the_same_order_of_images_alone(run, under_way):
    for name, other in (("batch_size", 4), ("seed", 1)):
        with pytest.raises(
            UserError, match=f"was written within an epoch with {name} .* go on with"
        ):
            run(resume=True, **{name: other})
    resumed = run(resume=True)
    assert (resumed.start_epoch, resumed.start_batch) == (0, 2)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_does_not_overwrite_a_model(run, resume, tmp_path):
    (tmp_path / "model.hdf5").touch()
    with pytest.raises(
        UserError, match=r"model\.hdf5 was not written by this run: name another file"
    ):
        run(resume=resume, model=str(tmp_path / "model.hdf5"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_does_not_overwrite_the_best_one(run, resume, output):
    (output / "checkpoints").mkdir(parents=True)
    (output / "checkpoints" / "best.hdf5").touch()
    with pytest.raises(UserError, match=r"best\.hdf5 is the best checkpoint of an earlier run"):
        run(resume=resume)


def test_a_finished_run_of_one_epoch_is_not_overwritten(run, output):
    output.mkdir()
    (output / "train_it.json").write_text(json.dumps({"loss": [2.0]}))
    run(resume=True, checkpoints=str(output / "elsewhere"))
    (output / "train_it_report.txt").touch()
    with pytest.raises(UserError, match="belongs to another run"):
        run(resume=True, checkpoints=str(output / "elsewhere"))


def test_a_history_that_cannot_be_read_is_not_overwritten(run, output):
    output.mkdir()
    (output / "train_it.json").write_text("notes")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"train_it\.json is damaged or not a history"):
            run(resume=resume)


def test_results_of_another_name_do_not_stand_in_the_way(run, output):
    output.mkdir()
    (output / "another.json").write_text(json.dumps(HISTORY))
    run()


# recipes

RECIPE = replace(TOY.recipes["plain"], affine={"shift": 0.1})


@pytest.fixture
def going_on(run, checkpoint, write_checkpoint):
    """Goes on from the checkpoint of a run by RECIPE."""
    trained = run(resume=True)
    trained.begin(RECIPE, toy.read())
    write_checkpoint(checkpoint, 3, HISTORY, trained.remembered)
    del trained
    return partial(run, resume=True)


def test_a_run_goes_on_with_the_recipe_that_it_was_trained_by(going_on):
    same = going_on(epochs=20, learning_rate=0.5)
    same.begin(replace(RECIPE, epochs=7), toy.read())
    parts = same.remembered["recipe_parts"]
    assert (parts["momentum"], parts["affine"]) == (0.9, {"shift": 0.1})
    assert (same.remembered["epochs"], same.remembered["learning_rate"]) == (20, 0.5)
    assert not {"epochs", "learning_rate", "batch_size"} & parts.keys()


def test_a_recipe_that_was_changed_meanwhile_is_refused(going_on):
    with pytest.raises(
        UserError, match=r"epoch_3.* was trained with cutout 0, .* has 12 now: restore it"
    ):
        going_on().begin(replace(RECIPE, cutout=12), toy.read())


# going on


def test_a_run_goes_on_where_its_checkpoint_stands(run, checkpoint):
    resumed = run(resume=True)
    assert (resumed.start_epoch, resumed.history) == (3, HISTORY)
    assert resumed.checkpoint.path == checkpoint


def test_another_backend_than_the_checkpoints_is_told(run, checkpoint, write_checkpoint, capsys):
    run(resume=True)
    assert "backend:" not in capsys.readouterr().out
    options = {"script": SCRIPT, "dataset": "toy", "backend": "abacus"}
    write_checkpoint(checkpoint, 3, HISTORY, options)
    run(resume=True)
    assert f"  backend: abacus -> {keras.backend.backend()}\n" in capsys.readouterr().out


def model_of(history, path):
    """Writes a model that a run of this history has trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = NETWORK.spec((8, 8, 3), NAMES, mean=None)
    save_model(path, spec.build(), spec, history)
    return str(path)


def test_a_run_may_replace_its_own_model_and_longer_history(run, checkpoint, output, tmp_path):
    longer = {name: [*values, 0.5, 0.25] for name, values in HISTORY.items()}
    (output / "train_it.json").write_text(json.dumps(longer))
    for epochs in (2, 3, 5):
        model = model_of(trimmed(longer, epochs), tmp_path / "model.hdf5")
        assert run(resume=True, model=model).start_epoch == 3


@pytest.mark.parametrize("history", [None, HISTORY | {"loss": [2.0, 1.5, 1.0]}])
def test_a_run_that_goes_on_does_not_replace_another_runs_model(run, checkpoint, history, tmp_path):
    model = model_of(history, tmp_path / "model.hdf5")
    with pytest.raises(UserError, match=r"model\.hdf5 was not written by this run"):
        run(resume=True, model=model)


def test_a_model_takes_no_other_files_place(run, checkpoint, tmp_path):
    data = tmp_path / "test.hdf5"
    data.write_bytes(b"what took a day to build")
    with pytest.raises(UserError, match=r"test\.hdf5 was not written by this run"):
        run(resume=True, model=str(data))
    with pytest.raises(UserError, match=r"epoch_3\.hdf5 lies among the checkpoints"):
        run(resume=True, model=str(checkpoint))


def test_two_runs_cannot_have_one_model(run, tmp_path):
    first = run(model=str(tmp_path / "models" / "model.hdf5"))
    with pytest.raises(UserError, match=r"\.model\.hdf5\.lock is in use by another process"):
        run(output=str(tmp_path / "b"), model=str(tmp_path / "models" / "model.hdf5"))
    run(output=str(tmp_path / "c"), model=str(tmp_path / "models" / "other.hdf5"))
    del first


def test_a_run_at_work_in_a_folder_has_its_models_to_itself(run, output, tmp_path):
    elsewhere = {"output": str(tmp_path / "b"), "model": str(output / "model.hdf5")}
    first = run(model=str(output / "model.hdf5"))
    with pytest.raises(UserError, match="output is in use by another process"):
        run(**elsewhere)
    del first
    second = run(**elsewhere)
    with pytest.raises(UserError, match="output is in use by another process"):
        run()
    del second


@pytest.mark.parametrize("name", ["train_it.json", "train_it.csv", "train_it_predictions.npz"])
def test_a_model_takes_no_place_of_the_runs_own_results(run, output, name):
    with pytest.raises(UserError, match=f"{name} is where this run's own results go"):
        run(model=str(output / name))


def test_machines_may_have_data_and_model_in_places_of_their_own(tmp_path, monkeypatch):
    said = []

    def gathered(digest):
        said.append(digest.tobytes())
        return digest[None]

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        options = TRAIN_IT.resolve(Options(data="data", model="model.hdf5", seed=seed))
        Run(TRAIN_IT, options, devices=Devices(all_gather=gathered)).begin(RECIPE, toy.read())
    first, second, other_seed = said
    assert first == second != other_seed


def test_a_model_that_came_meanwhile_is_not_replaced(run, tmp_path):
    mine = run(model=str(tmp_path / "model.hdf5"))
    (tmp_path / "model.hdf5").write_bytes(b"somebody else's")
    spec = NETWORK.spec((8, 8, 3), NAMES, mean=None)
    with pytest.raises(UserError, match="was not written by this run"):
        mine.save_model(spec.build(), spec, HISTORY)
    assert (tmp_path / "model.hdf5").read_bytes() == b"somebody else's"


def test_the_model_that_was_asked_for_is_remembered_and_the_usual_one_is_not(
    run, tmp_path, monkeypatch
):
    model = str(tmp_path / "model.hdf5")
    assert run(model=model).remembered["model"] == model
    monkeypatch.chdir(tmp_path)
    assert run(output="a", model="model.hdf5").remembered["model"] == model  # from anywhere
    assert run(replace(TOY, name="b", model="b.hdf5")).remembered["model"] is None


def test_a_report_is_not_replaced_by_one_on_an_earlier_epoch(run, checkpoint, output):
    longer = {name: [*values, 0.5, 0.25] for name, values in HISTORY.items()}
    (output / "train_it.json").write_text(json.dumps(longer))
    earlier = read_checkpoint(checkpoint)
    with pytest.raises(
        UserError, match=r"has 5 epochs already, .* report on epoch 3: train longer"
    ):
        run(checkpoint=earlier, epochs=3)
    with pytest.raises(UserError, match="report on epoch 3"):  # the later checkpoints are gone
        run(resume=True, epochs=3)
    run(checkpoint=earlier, epochs=4)


def test_nor_by_one_on_an_epoch_after_which_patience_has_run_out(run, output, write_checkpoint):
    falling = HISTORY | {"val_accuracy": [0.5, 0.25, 0.25]}
    options = {"script": SCRIPT, "dataset": "toy"}
    write_checkpoint(output / "checkpoints" / "epoch_3.hdf5", 3, falling, options)
    longer = {name: [*values, 0.5] for name, values in falling.items()}
    (output / "train_it.json").write_text(json.dumps(longer))
    run(resume=True, patience=3)
    with pytest.raises(UserError, match="report on epoch 3"):
        run(resume=True, patience=2)


@pytest.mark.parametrize("measures", [{"loss"}, {*HISTORY, "another"}, {*HISTORY} - {"val_loss"}])
def test_a_history_of_other_measures_is_not_gone_on_with(measures, run, output, write_checkpoint):
    history = {name: [1.0, 1.0, 1.0] for name in sorted(measures)}
    write_checkpoint(output / "checkpoints" / "epoch_3.hdf5", 3, history, {"script": SCRIPT})
    with pytest.raises(UserError, match=r"epoch_3\.hdf5 is damaged: its history is not of loss, "):
        run(resume=True)


def test_a_run_does_not_go_on_over_the_history_of_another(run, checkpoint, output):
    (output / "train_it.json").write_text(json.dumps(HISTORY | {"loss": [9.0, 8.0, 7.0]}))
    with pytest.raises(
        UserError, match=r"train_it\.json belongs to another run: .*another output folder"
    ):
        run(resume=True)


def test_a_run_killed_before_its_first_checkpoint_can_be_resumed(run, output):
    """The history of an epoch is written before its checkpoint."""
    output.mkdir()
    (output / "train_it.json").write_text('{"loss": [2.0], "learning_rate": [0.1]}')
    assert run(resume=True).start_epoch == 0


def test_a_checkpoint_from_elsewhere_does_not_go_on_over_a_history(run, output, checkpoint):
    (output / "train_it.json").write_text('{"loss": [2.0], "learning_rate": [0.1]}')
    with pytest.raises(UserError, match="belongs to another run"):
        run(checkpoint=read_checkpoint(checkpoint))


@pytest.mark.parametrize("name", ["epoch_2.hdf5", "epoch_5.hdf5", "best.hdf5"])
def test_a_run_goes_on_among_its_own_checkpoints_alone(
    name, run, checkpoint, write_checkpoint, tmp_path
):
    """The checkpoint that it goes on from lies in a third folder."""
    options = {"checkpoint": read_checkpoint(checkpoint), "output": str(tmp_path / "new")}
    own = write_checkpoint(tmp_path / "own" / name, 2, trimmed(HISTORY, 2))
    assert run(**options, checkpoints=str(own.parent)).start_epoch == 3
    other = {measure: [value + 0.01 for value in values] for measure, values in HISTORY.items()}
    others = write_checkpoint(tmp_path / "others" / name, 2, trimmed(other, 2))
    options["output"] = str(tmp_path / "newer")
    with pytest.raises(UserError, match=f"{name} is damaged or belongs to another run"):
        run(**options, checkpoints=str(others.parent))
    kept = others.read_bytes()
    others.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{name} is damaged or belongs to another run"):
        run(**options, checkpoints=str(others.parent))
    abandoned = others.parent / "abandoned_1" / name
    abandoned.parent.mkdir()
    abandoned.write_bytes(kept)
    options["checkpoint"] = read_checkpoint(abandoned)
    assert run(**options, checkpoints=str(others.parent)).start_epoch == 2


# one run at a time


def test_a_second_run_in_the_same_folders_is_refused(run, tmp_path):
    first = run()
    with pytest.raises(UserError, match="output is in use by another process: wait for it"):
        run()
    with pytest.raises(UserError, match="checkpoints is in use by another process"):
        run(output=str(tmp_path / "b"), checkpoints=str(first.checkpoints))
    run(output=str(tmp_path / "c"))


def test_output_and_checkpoints_may_be_one_folder(run, output):
    run(checkpoints=str(output))


LOCK = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('locked')"
)


def test_the_lock_of_a_killed_run_does_not_stand_in_the_way(run, output):
    (output / "checkpoints").mkdir(parents=True)
    wait = f"{LOCK}; sys.stdout.flush(); sys.stdin.read()"
    command = [sys.executable, "-c", wait, str(output / "checkpoints" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="checkpoints is in use"):
            run()
        other.send_signal(signal.SIGKILL)
    assert (output / "checkpoints" / ".lock").exists()
    run()


# the record


def test_the_record_holds_all_that_the_result_depends_on(run, output, tiny_network, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(processor, "CPUINFO", output / "cpuinfo")
    output.mkdir()
    (output / "cpuinfo").write_text("model name\t: A 9\nflags\t\t: sse avx2\n")
    model = tiny_network()
    run(seed=3).record(model, images_per_second=[90.0, 91.5], seconds=12)
    record = json.loads((output / "train_it_options.json").read_text())
    assert record["options"]["seed"] == 3
    assert record["options"]["filters"] == [4, 8]
    assert record["parameters"] == model.count_params()
    assert record["images_per_second"] == [90.0, 91.5]
    assert record["seconds"] == 12
    assert record["versions"]["keras"] == keras.__version__
    assert record["command"] is None
    assert record["options"]["backend"] == keras.backend.backend()
    assert record["python"] == sys.version.split()[0]
    assert record["devices"]
    assert record["processor"] == {"name": "A 9", "instruction_sets": ["AVX2"]}
    assert record["onednn"] is uses_onednn()
    assert os.listdir(output / "checkpoints") == [".lock"]
