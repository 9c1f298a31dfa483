import json
import re
import resource
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.command_line import resuming
from pipeline.command_line.options import parse_cluster, training_parser
from pipeline.command_line.resuming import parse_training
from pipeline.errors import UserError
from pipeline.files.lock import lock
from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment
from pipeline.training.recipe import Recipe
from pipeline.training.run import Run

PROJECT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in PROJECT.glob("*.py"))
TRAINING_SCRIPTS = [
    name for name in SCRIPTS if "command_line.training import" in (PROJECT / name).read_text()
]

DATASETS = {"cifar10": "nowhere:read", "digits": "nowhere:read"}
NETWORK = Architecture("resnet", "cifar10", (9, 9, 9), (64, 64, 128, 256))
FAITHFUL = Recipe(10, 64, 0.1, reg=5e-4, module_reg=1e-4, momentum=0.9)
WATCHED = Experiment("watched", DATASETS, NETWORK, {"faithful": FAITHFUL}, watched=True)
# What a checkpoint of such a run keeps: all options given, and another seed than the default.
SAVED = {
    "script": "watched.py",
    "dataset": "digits",
    "data": None,
    "recipe": "faithful",
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 0.05,
    "stages": [1],
    "filters": [4, 8],
    "every": 2,
    "seed": 7,
    "precision": "float32",
    "model": None,
    "skip_bad": False,
    "weights": None,
    "class_weights": None,
    "patience": None,
}


def parsed(*argv, experiment=WATCHED):
    """Options and checkpoint of a command line."""
    parser = training_parser("What it does.", experiment)
    parser.prog = f"{experiment.name}.py"
    return parse_training(parser, experiment, argv)[:2]


def remembered(options):
    """What a checkpoint would keep of the options, as JSON."""
    kept = {"script": "watched.py", **{name: getattr(options, name) for name in WATCHED.remembered}}
    return json.loads(json.dumps(kept))


@pytest.fixture
def checkpoint(tmp_path, write_checkpoint):
    return write_checkpoint(tmp_path / "epoch_3.hdf5", 3, options=SAVED)


# every script


def seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_there_at_once(run_python, script):
    before = seconds_of_children()
    result = run_python(script, "--help")
    assert seconds_of_children() - before < 0.5
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith(f"usage: {script}")


TOGETHER = ("--coordinator", "node1:1234", "--processes", "2", "--process", "1")


def test_the_place_among_several_processes_is_given_as_a_whole_or_not_at_all():
    parser = training_parser("What it does.", WATCHED)
    assert parse_cluster(parser, TOGETHER) == ("node1:1234", 2, 1)
    assert parse_cluster(parser, []) == (None, None, None)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (TOGETHER[:4], "--coordinator, --processes and --process go together"),
        (TOGETHER[2:], "--coordinator, --processes and --process go together"),
        (("--coordinator", "1234", *TOGETHER[2:]), "--coordinator 1234: give a host and a port"),
        ((*TOGETHER, "--process", "2"), "--process 2 of 2: they count from 0"),
        ((*TOGETHER, "--coordinator", "node1"), "--coordinator node1: give a host and a port"),
        ((*TOGETHER, "--epoch", "3"), "unrecognized arguments: --epoch 3; did you mean --epochs"),
    ],
)
def test_a_place_that_there_is_not_is_refused_before_others_are_waited_for(argv, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        parse_cluster(training_parser("What it does.", WATCHED), argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {complaint}")


@pytest.mark.parametrize("script", TRAINING_SCRIPTS)
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (("--unknown", "1"), "unrecognized arguments: --unknown 1"),
        (("--epochs", "many"), "argument --epochs: 'many' is not a whole number"),
        (("--epoch", "3"), "unrecognized arguments: --epoch 3; did you mean --epochs?"),
    ],
)
def test_a_wrong_option_takes_one_line_at_once(run_python, script, wrong, complaint):
    before = seconds_of_children()
    result = run_python(script, *wrong)
    assert seconds_of_children() - before < 0.5
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"error: {complaint} (see {script} --help)\n"


def test_resume_in_a_folder_in_use_takes_one_line_at_once(run_python, tmp_path):
    before = seconds_of_children()
    with lock(tmp_path):
        result = run_python("resnet_cifar10.py", "--resume", "--checkpoints", tmp_path)
    assert seconds_of_children() - before < 0.5
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path} is in use by another process: wait for it")
    assert result.stderr.count("\n") == 1


# what is refused


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--epochs", "0"), "--epochs: 0 is below 1"),
        (("--batch-size", "1.5"), "--batch-size: '1.5' is not a whole number"),
        (("--seed", "-1"), "--seed: -1 is below 0"),
        (("--seed", "4294967296"), "--seed: 4294967296 is above 4294967295"),
        (("--learning-rate", "0"), "--learning-rate: 0 is not a positive number"),
        (("--learning-rate", "nan"), "--learning-rate: nan is not a positive number"),
        (("--learning-rate", "inf"), "--learning-rate: inf is not a positive number"),
        (("--learning-rate", "fast"), "'fast' is not a number"),
        (("--learning-rate", "0,01"), "'0,01' is not a number: write 0.01"),
        (("--filters", "8,8,16"), "'8,8,16' is not a whole number: no commas, and spaces"),
        (("--output", ""), "argument --output: it is empty, as from a variable that is not set"),
        (("--data=",), "argument --data: it is empty"),
        (("--learning_rate=0.1",), "--learning_rate=0.1; did you mean --learning-rate?"),
        (("--lr", "0.1"), "--lr 0.1; did you mean --learning-rate?"),
        (("--chekpoints", "a", "--sed", "1"), "did you mean --checkpoints --seed?"),
        (("--dataset", "mnist"), "--dataset: invalid choice: 'mnist'"),
        (("--precision", "float8"), "--precision: invalid choice: 'float8'"),
        (("--stages",), "--stages: expected at least one argument"),
        (("--stages", "9", "0", "9"), "--stages: 0 is below 1"),
        (("--stages", "9", "9"), "--filters: .* got 4 filters .* for 2 stages"),
        (("--filters", "16", "16", "30", "64"), "--filters: .* multiple of 4 .* not 30"),
        (("--resume", "--model", "x.hdf5"), "--model names a checkpoint and --resume looks"),
        (("--start-epoch", "3"), "--start-epoch goes with --model"),
    ],
)
def test_a_complaint_names_the_option_and_takes_one_line(argv, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(*argv)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("(see watched.py --help)")
    assert re.search(complaint, line)


# where the options come from


def test_without_a_checkpoint_the_defaults_lie_under_the_command_line():
    args, checkpoint = parsed("--epochs", "3", "--stages", "2", "--filters", "4", "8")
    assert checkpoint is None
    assert (args.epochs, args.batch_size, args.seed) == (3, 64, 42)
    assert (args.stages, args.filters) == ((2,), (4, 8))
    assert args.dataset == "cifar10"


def test_checkpoints_lie_below_the_output_unless_told_otherwise():
    assert parsed("-o", "results")[0].checkpoints == str(Path("results", "checkpoints"))
    assert parsed("-o", "results", "-c", "elsewhere")[0].checkpoints == "elsewhere"


def test_a_checkpoints_options_lie_under_the_command_line(checkpoint, capsys):
    args, read = parsed("--model", str(checkpoint), "--learning-rate", "0.01", "--epochs", "30")
    assert (read.epoch, read.path) == (3, checkpoint)
    assert remembered(args) == SAVED | {"learning_rate": 0.01, "epochs": 30}
    assert capsys.readouterr().out.splitlines() == [
        f"going on from {checkpoint}, epoch 3",
        "  --epochs: 20 -> 30",
        "  --learning-rate: 0.05 -> 0.01",
    ]


def test_going_on_without_a_learning_rate_says_that_it_is_the_checkpoints(checkpoint, capsys):
    args, _ = parsed("--model", str(checkpoint))
    assert remembered(args) == SAVED
    assert "--learning-rate: 0.05 (the checkpoint's)" in capsys.readouterr().out


def test_where_results_go_and_how_fast_is_not_the_checkpoints_business(checkpoint):
    args, _ = parsed("--model", str(checkpoint), "--output", "elsewhere", "--workers", "5")
    assert (args.output, args.workers) == ("elsewhere", 5)
    assert args.checkpoints == str(Path("elsewhere", "checkpoints"))


def test_resume_takes_the_newest_of_the_folder(checkpoint, write_checkpoint):
    newer = write_checkpoint(checkpoint.with_name("epoch_12.hdf5"), 12, options=SAVED)
    args, read = parsed("--resume", "--checkpoints", str(checkpoint.parent))
    assert (read.path, args.seed) == (newer, 7)


def test_resume_starts_an_unattended_run_where_there_is_nothing_yet(tmp_path, capsys):
    args, read = decaying("--resume", "--checkpoints", str(tmp_path))
    assert read is None
    assert args.resume
    assert f"no checkpoint in {tmp_path} yet" in capsys.readouterr().out


def test_resume_starts_no_watched_run_in_a_folder_that_may_be_mistyped(tmp_path):
    wrong = tmp_path / "outptu" / "checkpoints"
    with pytest.raises(
        UserError, match=f"no checkpoint in {wrong}: name .* --output .* without --"
    ):
        parsed("--resume", "--output", str(wrong.parent))


def test_resume_starts_a_watched_run_again_that_was_killed_before_its_first_checkpoint(
    tmp_path, capsys
):
    (tmp_path / "watched.json").write_text("{}")
    assert parsed("--resume", "--output", str(tmp_path))[1] is None
    assert "no checkpoint" in capsys.readouterr().out


def test_resume_lets_no_other_run_write_a_newer_checkpoint_than_it_has_read(checkpoint):
    folder = checkpoint.parent
    argv = ["--resume", "--checkpoints", str(folder)]
    with lock(folder), pytest.raises(UserError, match=f"{folder} is in use"):
        parsed(*argv)
    parser = training_parser("What it does.", WATCHED)
    parser.prog = "watched.py"
    _, read, locks = parse_training(parser, WATCHED, argv)
    assert read.path == checkpoint
    with pytest.raises(UserError, match=f"{folder} is in use"):
        lock(folder)
    locks.clear()
    lock(folder)


def test_resume_makes_no_folder_before_all_is_checked(tmp_path):
    args, _ = decaying("--resume", "--checkpoints", str(tmp_path / "a" / "b"))
    assert args.resume
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--start_epoch", "4"), "--start-epoch 4 contradicts .*epoch_3.hdf5, .* completed 3"),
        (("--stages", "2"), "was trained with --stages 1, and this run asks for 2: leave"),
        (("--filters", "4", "16"), "was trained with --filters 4 8, .* asks for 4 16"),
        (("--dataset", "cifar10"), "was trained with --dataset digits, .* asks for cifar10"),
        (("--epochs", "2"), "is at epoch 3 already, past --epochs 2"),
    ],
)
def test_options_at_odds_with_the_checkpoint_are_refused(checkpoint, argv, message):
    with pytest.raises(UserError, match=message):
        parsed("--model", str(checkpoint), *argv)


def test_a_checkpoint_amid_the_epoch_after_the_last_is_refused(tmp_path, write_checkpoint):
    path = write_checkpoint(tmp_path / "epoch_3_plus_2_batches.hdf5", 3, None, SAVED, batch=2)
    with pytest.raises(UserError, match="is at epoch 3 already, past --epochs 3"):
        parsed("--model", str(path), "--epochs", "3")


def test_a_checkpoint_that_has_reached_the_last_epoch_is_no_error(checkpoint):
    assert parsed("--model", str(checkpoint), "--epochs", "3", "--start_epoch", "3")[1].epoch == 3


def test_a_checkpoint_of_another_script_is_refused(tmp_path, write_checkpoint):
    options = SAVED | {"script": "unattended.py"}
    path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1, options=options)
    with pytest.raises(UserError, match=r"was written by unattended\.py, not by watched\.py"):
        parsed("--model", str(path))


def test_what_a_checkpoint_holds_is_checked_like_what_a_user_types(
    tmp_path, write_checkpoint, capsys
):
    path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1, options=SAVED | {"epochs": "many"})
    with pytest.raises(SystemExit) as end:
        parsed("--model", str(path))
    assert end.value.code == 2
    assert "--epochs: 'many' is not a whole number" in capsys.readouterr().err


def test_what_a_checkpoint_holds_cannot_pass_for_another_option(tmp_path, write_checkpoint):
    for value in ("--help", ["5", "--output", "elsewhere"]):
        options = SAVED | {"epochs": value}
        path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1, options=options)
        with pytest.raises(UserError, match=f"{path} is damaged: its epochs is .*--"):
            parsed("--model", str(path))


def test_options_unknown_to_a_checkpoint_have_their_defaults(tmp_path, write_checkpoint):
    saved = {name: value for name, value in SAVED.items() if name != "every"}
    path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1, options=saved | {"dropped": 3})
    assert parsed("--model", str(path))[0].every == 5


@pytest.mark.parametrize("flag", ["--output", "--checkpoints"])
def test_a_file_is_no_place_for_results(tmp_path, flag):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{flag} .*file is a file: name a folder"):
        parsed(flag, str(tmp_path / "file"))


# the data


def test_data_that_are_not_there_are_told_at_once(run_python, tmp_path):
    there_is_no = f"there is no such file or folder in {PROJECT}"
    for script, option, complaint in (
        ("resnet_cifar10.py", ("--data", "nowhere"), there_is_no),
        ("train.py", ("--hdf5", "nowhere"), f"{there_is_no}; build_tiny_imagenet.py makes it"),
        ("train.py", ("--hdf5", "docs"), "it holds no HDF5 file; build_tiny_imagenet.py"),
        ("train_images.py", ("--weights", "nowhere"), "there is no such file"),
    ):
        before = seconds_of_children()
        result = run_python(script, "-o", tmp_path, *option)
        assert seconds_of_children() - before < 0.5
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: {' '.join(option)}: {complaint}")
        assert result.stderr.count("\n") == 1


def test_data_named_from_a_folder_are_found_from_another(
    tmp_path, write_checkpoint, monkeypatch, capsys
):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    args, _ = parsed("--data", "data", "--output", str(tmp_path))
    options = Run(WATCHED, args, script="watched.py").remembered
    path = str(
        write_checkpoint(tmp_path / "epoch_3.hdf5", 3, options=json.loads(json.dumps(options)))
    )
    monkeypatch.chdir("/")
    args, _ = parsed("--model", path)
    assert args.data == str(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    parsed("--model", path, "--data", "data")
    assert "--data:" not in capsys.readouterr().out


def test_relative_data_of_an_earlier_version_are_missed_with_the_place(tmp_path, write_checkpoint):
    path = write_checkpoint(tmp_path / "epoch_3.hdf5", 3, options=SAVED | {"data": "nowhere"})
    with pytest.raises(
        UserError, match=f"--data nowhere: there is no .* in {re.escape(str(Path.cwd()))}"
    ):
        parsed("--model", str(path))


# a run that has reached its last epoch


def test_other_options_with_nothing_left_to_train_are_refused(checkpoint):
    epochs = ["--model", str(checkpoint), "--epochs", "3"]
    message = r"is at epoch 3 of 3 already, and nothing is left to train with --{}: raise --epochs"
    with pytest.raises(UserError, match=message.format("learning-rate: 0.05 -> 0.01")):
        parsed(*epochs, "--learning-rate", "0.01")
    with pytest.raises(UserError, match=message.format("batch-size: 32 -> 8")):
        parsed(*epochs, "--batch-size", "8")


# recipes

FAITHFUL = replace(FAITHFUL, epochs=150, batch_size=128)
MODERN = replace(FAITHFUL, epochs=200, batch_size=256, learning_rate=0.2, cutout=12)
# A copy with one line changed is a choice.
RECIPES = {
    "faithful": FAITHFUL,
    "modern": MODERN,
    "modern_without_cutout": replace(MODERN, cutout=0),
}
SMALL = Architecture("resnet", "cifar10", (9,), (4, 8))
DECAY = Experiment("decay", {"only": "nowhere:read"}, SMALL, RECIPES, model="model.hdf5")
decaying = partial(parsed, experiment=DECAY)


def of_recipe(args):
    return args.epochs, args.batch_size, args.learning_rate


def test_a_recipe_brings_its_defaults_and_the_command_line_decides_over_them():
    assert of_recipe(decaying()[0]) == (150, 128, 0.1)
    for name in ("modern", "modern_without_cutout"):
        args, _ = decaying("--recipe", name)
        assert of_recipe(args) == (200, 256, 0.2)
        assert args.recipe == name
    args, _ = decaying("--epochs", "3", "--recipe", "modern", "--learning-rate", "0.1")
    assert of_recipe(args) == (3, 256, 0.1)


@pytest.mark.parametrize("script", ["resnet_cifar10_decay.py", "train_decay.py"])
def test_an_unknown_recipe_takes_one_line(run_python, script):
    result = run_python(script, "--recipe", "old")
    assert result.returncode == 2
    assert result.stderr.startswith("error: argument --recipe: invalid choice: 'old' (choose from")
    assert "'faithful', 'modern'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def of_modern(tmp_path, write_checkpoint):
    """Options that go on from the checkpoint of a modern run of 10 epochs."""
    args, _ = decaying("--recipe", "modern", "--epochs", "10")
    options = remembered(args) | {"script": "decay.py"}
    write_checkpoint(tmp_path / "epoch_3.hdf5", 3, options=options)
    return ["--resume", "--checkpoints", str(tmp_path)]


def test_a_plain_resume_remembers_where_the_final_model_goes(tmp_path, write_checkpoint, capsys):
    where = str(tmp_path / "elsewhere.hdf5")
    for model, expected in ((where, where), (None, str(tmp_path / "model.hdf5"))):
        saved = {"script": "decay.py", "model": model}
        write_checkpoint(tmp_path / "checkpoints" / "epoch_3.hdf5", 3, options=saved)
        options, _ = decaying("--resume", "-o", str(tmp_path))
        assert options.model == expected
        assert "--model" not in capsys.readouterr().out
    options, _ = decaying("--resume", "-o", str(tmp_path), "--model", "b.hdf5", "--epochs", "3")
    assert f"--model: {tmp_path / 'model.hdf5'} -> b.hdf5" in capsys.readouterr().out


@pytest.mark.parametrize("again", [[], ["--recipe", "modern"]])
def test_a_checkpoint_brings_its_recipe_back(of_modern, again):
    args, checkpoint = decaying(*of_modern, *again)
    assert checkpoint.epoch == 3
    assert (args.recipe, *of_recipe(args)) == ("modern", 10, 256, 0.2)


def test_a_checkpoint_does_not_go_on_with_another_recipe(of_modern):
    with pytest.raises(UserError, match=r"was trained with --recipe modern, .* asks for faithful"):
        decaying(*of_modern, "--recipe", "faithful")


def test_a_checkpoint_from_before_there_were_recipes_is_the_first_ones(tmp_path, write_checkpoint):
    saved = {"script": "decay.py", "epochs": 75, "batch_size": 64, "learning_rate": 0.1}
    write_checkpoint(tmp_path / "epoch_3.hdf5", 3, options=saved)
    args, _ = decaying("--resume", "--checkpoints", str(tmp_path))
    assert (args.recipe, *of_recipe(args)) == ("faithful", 75, 64, 0.1)


# the command to go on


@pytest.fixture(autouse=True)
def default_backend(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


def go_on(command, learning_rate=None, watched=True):
    return resuming.command_to_go_on(command.split(), watched, learning_rate)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("watched.py", "watched.py --resume --learning-rate 0.1"),
        ("watched.py --resume", "watched.py --resume --learning-rate 0.1"),
        (
            "watched.py -o out --model a.hdf5 --start_epoch 3 --seed 1",
            "watched.py -o out --seed 1 --resume --learning-rate 0.1",
        ),
        ("watched.py -m a.hdf5 --start-epoch=3", "watched.py --resume --learning-rate 0.1"),
        ("watched.py -m a.hdf5 -s 3 -o out", "watched.py -o out --resume --learning-rate 0.1"),
        ("watched.py -ma.hdf5 -s3", "watched.py --resume --learning-rate 0.1"),
        ("watched.py --model=a.hdf5 --start_epoch=3", "watched.py --resume --learning-rate 0.1"),
        ("watched.py --learning-rate 0.5", "watched.py --resume --learning-rate 0.1"),
        ("watched.py --learning-rate=0.5 -s=3 -m=a", "watched.py --resume --learning-rate 0.1"),
    ],
)
def test_a_watched_run_goes_on_from_its_newest_checkpoint_with_a_rate_to_edit(command, expected):
    assert go_on(command, learning_rate=0.1) == f"python {expected}"


def test_the_command_of_an_unattended_run_keeps_its_model_and_its_rate():
    command = "unattended.py --model out/model.hdf5 --learning-rate 0.5"
    assert go_on(command, watched=False) == f"python {command} --resume"


def test_the_command_names_the_backend_that_was_asked_for(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert go_on("watched.py") == "KERAS_BACKEND=jax python watched.py --resume"


def test_the_command_has_every_digit_of_the_rate():
    assert go_on("watched.py", 0.123456789).endswith("--learning-rate 0.123456789")


def test_the_command_can_be_typed_as_it_is():
    argv = ["watched.py", "--output", "my results", "--data", "it's"]
    command = resuming.command_to_go_on(argv, watched=True)
    assert command == """python watched.py --output 'my results' --data 'it'"'"'s' --resume"""


def test_the_command_gives_the_options_it_was_made_of(checkpoint):
    """Typed again, it goes on with the same options, whatever the first command said."""
    argv = ["watched.py", "-c", str(checkpoint.parent), "--seed", "7", "--epochs", "25"]
    command = resuming.command_to_go_on(argv, watched=True, learning_rate=0.001)
    args, read = parsed(*command.split()[2:])
    assert read.path == checkpoint
    assert (args.seed, args.epochs, args.learning_rate) == (7, 25, 0.001)
