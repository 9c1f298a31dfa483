"""ImageNet in miniature, from the layouts that it is distributed in to a trained network."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import interrupted, refused, run

from config import imagenet_config as config
from pipeline.errors import UserError
from pipeline.files.modelfile import load_model
from pipeline.io.imagenet import find_imagenet
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographfolder import read_photograph_folder
from pipeline.io.photographpacking import pack_photographs

IDS = ("n01440764", "n02012849", "n03126707")
WORDS = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane, hoist\nn00000001 entity\n"
TITLES = {"n01440764": "tench", "n02012849": "crane (n02012849)", "n03126707": "crane (n03126707)"}
RED = (200, 40, 20)


@pytest.fixture
def root(tmp_path):
    """A folder for each WordNet id in train and in val, and the words of the ids."""
    root = tmp_path / "imagenet"
    for split, count in (("train", 8), ("val", 4)):
        write_photographs(root / split, count)
        for name, wordnet_id in zip(("flower", "temple"), IDS, strict=False):
            (root / split / name).rename(root / split / wordnet_id)
        shutil.copytree(root / split / IDS[0], root / split / IDS[2])
        for path in (root / split).glob("*/*.jpg"):
            number = int(path.stem) if split == "train" else 4 * IDS.index(path.parent.name)
            name = f"{path.parent.name}_{number}.JPEG"
            if split == "val":
                name = f"ILSVRC2012_val_{number + int(path.stem):08}.JPEG"
            path.rename(path.with_name(name))
    (root / "LOC_synset_mapping.txt").write_text(WORDS)
    return root


def as_kaggles(root):
    """Lays it out as Kaggle's archive does: the validation pictures in one folder."""
    data = root / "ILSVRC" / "Data" / "CLS-LOC"
    data.mkdir(parents=True)
    (root / "train").rename(data / "train")
    (data / "val").mkdir()
    (data / "test").mkdir()
    (data / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"of no class")
    lines = ["ImageId,PredictionString\n"]
    for path in sorted((root / "val").glob("*/*")):
        lines.append(f"{path.stem},{path.parent.name} 1 2 3 4 {path.parent.name} 5 6 7 8 \n")
        path.rename(data / "val" / path.name)
    shutil.rmtree(root / "val")
    (root / "LOC_val_solution.csv").write_text("".join(lines))
    return root


def names(root):
    pictures, titles = find_imagenet(root)
    return {name: Path(file).name for name, file in pictures.items()}, titles


def test_both_layouts_have_the_same_pictures_of_the_same_classes(root):
    pictures, titles = names(root)
    assert titles == TITLES
    assert len(pictures) == 3 * (8 + 4)
    assert pictures["train/n01440764/n01440764_3.JPEG"] == "n01440764_3.JPEG"
    assert pictures["val/n02012849/ILSVRC2012_val_00000005.JPEG"] == "ILSVRC2012_val_00000005.JPEG"
    assert names(as_kaggles(root)) == (pictures, titles)

    # As many sort it: the validation pictures in folders, the test pictures as they were.
    data = root / "ILSVRC" / "Data" / "CLS-LOC"
    for name in pictures:
        split, wordnet_id, file = name.split("/")
        if split == "val":
            (data / split / wordnet_id).mkdir(exist_ok=True)
            (data / split / file).rename(data / name)
    assert names(root) == (pictures, titles)


def test_validation_pictures_that_are_missing_are_told(root, capsys):
    root = as_kaggles(root)
    (root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000005.JPEG").unlink()
    assert len(names(root)[0]) == 3 * (8 + 4) - 1
    assert "that are not in" in (told := capsys.readouterr().out)
    assert told.endswith(": 1\n")


def test_without_words_the_ids_are_the_names(root):
    (root / "LOC_synset_mapping.txt").unlink()
    assert names(root)[1] == {}


def test_training_pictures_alone_will_do(root):
    shutil.rmtree(root / "val")
    assert len(names(root)[0]) == 24


def remove_words(root):
    (root / "LOC_synset_mapping.txt").write_text("n01440764 tench\n")
    return "LOC_synset_mapping.txt has no words for n02012849"


def make_words_binary(root):
    (root / "LOC_synset_mapping.txt").write_bytes(b"\xff\xfe")
    return "LOC_synset_mapping.txt is not a text file"


def remove_train(root):
    shutil.rmtree(root / "train")
    return "has no folder train: it must have train and val, or be Kaggle's"


def add_unknown_class(root):
    shutil.copytree(root / "val" / IDS[0], root / "val" / "n09999999")
    return "val has classes that train lacks: n09999999"


def remove_labels(root):
    (as_kaggles(root) / "LOC_val_solution.csv").unlink()
    return "LOC_val_solution.csv cannot be read: No such file"


def remove_a_label(root):
    labels = as_kaggles(root) / "LOC_val_solution.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    return "ILSVRC2012_val_00000011.JPEG has no class in "


def spoil_a_label(root):
    labels = as_kaggles(root) / "LOC_val_solution.csv"
    labels.write_text(labels.read_text().replace(",n02012849", ",n02"))
    return "LOC_val_solution.csv, line 6: expected a picture and the id of its class"


@pytest.mark.parametrize(
    "spoil",
    [
        *(remove_words, make_words_binary, remove_train, add_unknown_class),
        *(remove_labels, remove_a_label, spoil_a_label),
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_what_is_laid_out_in_another_way_is_refused(root, spoil):
    message = spoil(root)
    with pytest.raises(UserError, match=re.escape(message)):
        find_imagenet(root)


@pytest.mark.parametrize("short_side", [None, 40])
def test_the_odd_files_come_out_right(root, tmp_path, short_side):
    """A PNG that is called .JPEG, and JPEGs in CMYK, of which ImageNet has one and 22."""
    odd = np.full((90, 60, 3), RED, np.uint8)
    folder = root / "train" / IDS[0]
    for path in folder.iterdir():
        path.unlink()
    Image.fromarray(odd).save(folder / "png.JPEG", format="PNG")
    Image.fromarray(odd).convert("CMYK").save(folder / "cmyk.JPEG", quality=95)
    pictures, titles = find_imagenet(root)
    pack_photographs(pictures, tmp_path / "packed", short_side, titles)
    data = read_photograph_folder(str(tmp_path / "packed"), 32)
    assert data.label_names == tuple(TITLES.values())
    images = data.train_images[np.flatnonzero(data.train_labels == 0)]
    assert len(images) == 2
    np.testing.assert_allclose(images.astype(int), np.broadcast_to(RED, images.shape), atol=4)


# the scripts


TINY = ["--size", 64, "--stages", 1, 1, "--filters", 4, 8, 16, "--batch-size", 8, "--epochs", 2]


@pytest.mark.thorough
def test_from_the_published_folder_to_a_network_that_goes_on_exactly(root, tmp_path):
    printed = run("build_imagenet.py", "--dataset-path", as_kaggles(root))
    assert f"{root}/hdf5: 36 pictures, " in printed
    options = ["--images", root / "hdf5", *TINY, "--recipe", "fast", "--every", 1]
    printed = run("train_imagenet.py", *options, "-o", tmp_path / "straight")
    assert "3 classes, 24 pictures to train on, 12 to validate on" in printed
    interrupted("train_imagenet.py", *options, "-o", tmp_path / "b", epoch=2, number=signal.SIGKILL)
    run("train_imagenet.py", "--resume", "-o", tmp_path / "b")
    models = [tmp_path / name / "resnet_imagenet.hdf5" for name in ("straight", "b")]
    assert models[0].read_bytes() == models[1].read_bytes()
    _, spec = load_model(models[0])
    assert spec.label_names == tuple(TITLES.values())
    assert spec.centre == 0.875

    evaluate = ["rank_accuracy.py", "--images", root / "hdf5", "--model", models[0]]
    printed = run(*evaluate, "--split", "val")
    history = json.loads((tmp_path / "straight" / "resnet_imagenet.json").read_text())
    assert f"rank-1: {history['val_accuracy'][-1]:.2%}\nrank-5: 100.00%" in printed
    assert "hdf5 has no folder test: give --split val" in refused(*evaluate)


@pytest.mark.thorough
def test_what_is_missing_takes_one_line(tmp_path):
    nowhere = tmp_path / "nowhere"
    message = f"{nowhere}: there is no such folder; name the data set's with --dataset-path"
    assert message in refused("build_imagenet.py", "--dataset-path", nowhere)
    complaint = refused("train_imagenet.py", "--images", nowhere)
    assert "no such file or folder; build_imagenet.py makes it" in complaint


def test_the_recipes_are_those_that_others_have_published():
    classical, fast = config.EXPERIMENT.recipes.values()
    assert (classical.epochs, classical.batch_size, classical.learning_rate) == (90, 256, 0.1)
    # Keras's L2 of r has the gradient of a weight decay of 2 r.
    assert 2 * classical.reg == 2 * classical.module_reg == 1e-4
    assert 16 <= fast.epochs <= 18
    assert fast.learning_rate == pytest.approx(1.7 * fast.batch_size / (8 * 512), rel=0.01)
    architecture = config.EXPERIMENT.architecture
    assert (architecture.stages, architecture.stem) == ((3, 4, 6, 3), "imagenet")
    assert architecture.filters == (64, 256, 512, 1024, 2048)
