import errno

import pytest
from toy import experiment

from pipeline.command_line import script
from pipeline.command_line.options import Parser, training_parser
from pipeline.command_line.resuming import parse_training
from pipeline.errors import UserError, one_line
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.training.run import Run

CLEARING = "\x1b[2Ja\x07.hdf5"  # clears the screen and rings
SHOWN = r"\x1b[2Ja\x07.hdf5"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a.png: größer, 大きい", "a.png: größer, 大きい"),
        ("a\r\nb \t c\u2028d", "a b c d"),
        (CLEARING, SHOWN),
        ("\x9b31mred", r"\x9b31mred"),
        ("\u202ekcab", r"\u202ekcab"),
        ("\udcff.png", r"\udcff.png"),  # a name that is no UTF-8
    ],
)
def test_a_message_takes_one_line_that_no_terminal_obeys(message, shown):
    assert one_line(message) == shown


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (UserError(f"{CLEARING} is damaged"), f"{SHOWN} is damaged"),
        (OSError(errno.ENOENT, "No such file", CLEARING), f"{SHOWN}: No such file"),
    ],
)
def test_a_script_that_ends_in_an_error_shows_it_so(error, complaint, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit):
        script.run(main)
    assert capsys.readouterr().err == f"error: {complaint}\n"


def test_without_the_environment_a_script_says_how_to_enter_it(capsys):
    def main():
        import a_package_of_the_environment  # noqa: F401

    with pytest.raises(SystemExit) as end:
        script.run(main)
    assert end.value.code == 2
    complaint = capsys.readouterr().err
    assert "a_package_of_the_environment is missing: run 'source .venv/bin/activate'" in complaint
    assert complaint.count("\n") == 1


def test_wrong_options_are_shown_so(capsys):
    parser = Parser("What it does.")
    parser.prog = "it.py"
    with pytest.raises(SystemExit):
        parser.parse_args([CLEARING])
    complaint = f"error: unrecognized arguments: {SHOWN} (see it.py --help)\n"
    assert capsys.readouterr().err == complaint


def test_what_an_untrusted_checkpoint_says_of_itself_is_shown_so(
    tmp_path, write_checkpoint, capsys
):
    saved = {"script": "it.py", "data": CLEARING, "backend": CLEARING}
    write_checkpoint(tmp_path / "checkpoints" / "epoch_1.hdf5", 1, options=saved)
    toy = experiment(epochs=3)
    parser = training_parser("", toy)
    parser.prog = "it.py"
    argv = ["-o", str(tmp_path), "--resume", "--data", str(tmp_path)]
    options, checkpoint, locks = parse_training(parser, toy, argv)
    Run(toy, options, checkpoint, "it.py", locks=locks)
    printed = capsys.readouterr().out
    assert f"  --data: {SHOWN} -> {tmp_path}\n" in printed
    assert f"  backend: {SHOWN} -> " in printed
    assert "\x1b" not in printed


def test_a_warning_is_shown_so(tmp_path, write_checkpoint, capsys):
    folder = tmp_path / CLEARING
    write_checkpoint(folder / "epoch_1.hdf5", 1)
    (folder / "epoch_2.hdf5").touch()
    assert newest_checkpoint(folder).epoch == 1
    warning = capsys.readouterr().err
    assert SHOWN in warning
    assert warning.count("\n") == 1
    assert warning.rstrip("\n").isprintable()
