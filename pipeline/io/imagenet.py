"""ImageNet (ILSVRC 2012) as it is distributed."""

from collections import Counter
from pathlib import Path

from pipeline.errors import UserError, one_line
from pipeline.files.reading import read_lines
from pipeline.io.imagefiles import list_images
from pipeline.io.imagefolders import TRAIN, class_names
from pipeline.io.photographfolder import VAL, names_of_photographs

KAGGLE = "ILSVRC/Data/CLS-LOC"  # where Kaggle's archive has train and val
WORDS = "LOC_synset_mapping.txt"  # a WordNet id and its words on each line
VAL_LABELS = "LOC_val_solution.csv"  # a picture's name, a comma, its class's id and boxes


def find_imagenet(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Finds the pictures in `{train,val}/<WordNet id>/`, or in the layout of Kaggle's archive.

    In Kaggle's, `LOC_val_solution.csv` has the classes of the validation pictures, which lie in one
    folder. Its test pictures have none and are left out.

    Args:
        root: the data set's folder.

    Returns:
        The file of each picture by the name to pack it under, `{train,val}/<WordNet id>/<file>`;
        and what the classes are called, by WordNet id: the first of their words, with the id where
        two have the same; nothing where there is no `LOC_synset_mapping.txt`.

    Raises:
        UserError: the folder is laid out in another way, or a class has no words, or a validation
            picture no class.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; name the data set's with --dataset-path")
    data = root / KAGGLE if (root / KAGGLE).is_dir() else root
    if not (data / TRAIN).is_dir():
        raise UserError(f"{data} has no folder train: it must have train and val, or be Kaggle's")
    ids = class_names(data / TRAIN)
    if (data / VAL).is_dir() and not class_names(data / VAL):
        training = names_of_photographs(data / TRAIN)
        pictures = {f"{TRAIN}/{name}": file for name, file in training.items()}
        pictures |= _flat_val(data / VAL, root / VAL_LABELS, set(ids))
    else:
        pictures = names_of_photographs(data, (VAL,))
    return pictures, _titles(root / WORDS, ids)


def _flat_val(folder: Path, labels: Path, ids: set[str]) -> dict[str, str]:
    class_of = {}
    for number, line in enumerate(read_lines(labels)[1:], start=2):
        name, _, prediction = line.partition(",")
        wordnet_id, *_ = [*prediction.split(), ""]
        if wordnet_id not in ids:
            raise UserError(f"{labels}, line {number}: expected a picture and the id of its class")
        class_of[name] = wordnet_id
    pictures = {}
    for file in sorted(list_images(folder)):
        wordnet_id = class_of.get(Path(file).stem)
        if wordnet_id is None:
            raise UserError(f"{file} has no class in {labels}")
        pictures[f"{VAL}/{wordnet_id}/{Path(file).name}"] = file
    if missing := len(class_of) - len(pictures):
        print(one_line(f"note: pictures of {labels} that are not in {folder}: {missing:,}"))
    return pictures


def _titles(path: Path, ids: tuple[str, ...]) -> dict[str, str]:
    if not path.exists():
        return {}
    words = dict(line.split(maxsplit=1) for line in read_lines(path) if " " in line.strip())
    if missing := [wordnet_id for wordnet_id in ids if wordnet_id not in words]:
        raise UserError(f"{path} has no words for {missing[0]}")
    first = {wordnet_id: words[wordnet_id].split(",")[0].strip() for wordnet_id in ids}
    count = Counter(first.values())
    return {
        wordnet_id: word if count[word] == 1 else f"{word} ({wordnet_id})"
        for wordnet_id, word in first.items()
    }
