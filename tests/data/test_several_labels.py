"""Several labels are read from texts, columns and manifests alike; a name with `|` stays one class if it looks so."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.label_table import read_label_table
from data.manifest import read_manifest
from data.samples import Samples
from data.several_labels import apply_task, look_like_several, match_task
from data.split import split_samples
from data.validation import add_validation
from dataset import create_dataset
from labels import MULTI, SINGLE, LabelScheme, join_labels
from runtime.errors import ConfigError, DataError
from support.label_tables import PETS, folder

SETS = {"cat/1.jpg": ["cat", "tree"], "cat/2.jpg": ["cat"], "dog/1.jpg": [], "dog/2.jpg": ["dog", "tree"]}
TEXTS = "path,label\n" + "".join(f"{name},{join_labels(found)}\n" for name, found in SETS.items())
COLUMNS = "path,label:tree,Label: cat,label:dog\n" + "".join(
    f"{name},{int('tree' in found)},{float('cat' in found)},{'dog' in found}\n" for name, found in SETS.items()
)


def sets(samples: Samples) -> dict[str, list[str]]:
    """Return the names of the classes of every image."""
    names = samples.scheme.classes
    return {
        path: [name for name, flag in zip(names, row, strict=True) if flag]
        for path, row in zip(samples.table["path"], samples.labels, strict=True)
    }


def read(root: Path, table: str, task: str = "auto", file: str = "labels.csv") -> Samples:
    return apply_task(read_label_table(folder(root, table, file=file)), task)


def manifest(root: Path) -> Samples:
    numbers = {"cat": 1, "dog": 3, "tree": 12}
    lines = []
    for name, found in SETS.items():
        metadata = {
            "class-map": {str(numbers[label]): label for label in found},
            "confidence-map": {str(numbers[label]): 0.9 for label in found},
            "type": "groundtruth/image-classification-multilabel",
            "human-annotated": "yes",
        }
        row = {
            "source-ref": f"s3://pets/{name}",
            "seen": [numbers[label] for label in found],
            "seen-metadata": metadata,
        }
        lines.append(json.dumps(row))
    return read_manifest(folder(root, "\n".join(lines), file="output.manifest"))


def test_texts_columns_and_manifests_say_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"path": list(SETS), **{f"label:{c}": [c in s for s in SETS.values()] for c in ("cat", "dog", "tree")}}
    )
    folder(tmp_path / "parquet", TEXTS)
    (tmp_path / "parquet/labels.csv").unlink()
    frame.to_parquet(tmp_path / "parquet/labels.parquet")
    lines = [
        json.dumps(
            {
                "path": name,
                "label:cat": int("cat" in found),
                "label:dog": int("dog" in found),
                "label:tree": int("tree" in found),
            }
        )
        for name, found in SETS.items()
    ]
    lists = [json.dumps({"path": name, "label": [*found]}) for name, found in SETS.items()]
    folder(tmp_path / "parquet-lists", TEXTS)
    (tmp_path / "parquet-lists/labels.csv").unlink()
    frame = pd.DataFrame({"path": list(SETS), "label": [[*found] for found in SETS.values()]})
    frame.to_parquet(tmp_path / "parquet-lists/labels.parquet")
    found = [
        read(tmp_path / "lists", "\n".join(lists), file="labels.jsonl"),
        apply_task(read_label_table(tmp_path / "parquet-lists"), "auto"),
        read(tmp_path / "texts", TEXTS),
        read(tmp_path / "columns", COLUMNS),
        read(tmp_path / "lines", "\n".join(lines), file="labels.jsonl"),
        read_label_table(tmp_path / "parquet"),
        manifest(tmp_path / "manifest"),
    ]
    for samples in found:
        assert samples.scheme == LabelScheme("labels", ("cat", "dog", "tree"), kind=MULTI)
        assert sets(samples) == SETS
        assert samples.table["label"].tolist() == ["0|2", "0", "|", "1|2"]
        assert samples.class_counts().tolist() == [2, 1, 2]


def test_lists_are_several_labels_even_if_each_has_one(tmp_path: Path) -> None:
    lines = '{"path": "cat/1.jpg", "label": ["cat"]}\n{"path": "dog/1.jpg", "label": ["dog"]}'
    assert sets(read(tmp_path, lines, file="labels.jsonl")) == {"cat/1.jpg": ["cat"], "dog/1.jpg": ["dog"]}


@pytest.mark.parametrize("label", ["TV|radio", " ", None, ["cat"]])
def test_a_list_holds_texts_that_are_one_label_each(tmp_path: Path, label: object) -> None:
    line = json.dumps({"path": "cat/1.jpg", "label": ["dog", label]})
    with pytest.raises(DataError, match=r"row 1 of labels.jsonl has the label .* expected text without \|"):
        read(tmp_path, line, file="labels.jsonl")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["cat|dog", "dog"], True),
        (["cat|dog", "dog|tree"], True),
        (["cat|", "dog"], True),
        (["|", "a"], True),
        (["TV|radio", "phone"], False),
        (["a|b", "c|d"], False),
        (["a", "b"], False),
    ],
)
def test_texts_are_several_labels_if_a_part_is_met_again(texts: list[str], expected: bool) -> None:
    assert look_like_several(texts) is expected


def test_names_with_a_bar_stay_single_classes_and_a_note_says_how_to_change_that(tmp_path: Path) -> None:
    table = "path,label\ncat/1.jpg,TV|radio\ncat/2.jpg,phone\n"
    samples = read(tmp_path, table)
    assert samples.scheme == LabelScheme("labels", ("TV|radio", "phone"))
    assert match_task(read_label_table(tmp_path), samples).scheme == samples.scheme
    assert any(
        "are single classes: TV|radio; for several labels pass --task multilabel" in note for note in samples.notes
    )
    assert read(tmp_path, table, "multilabel").scheme.classes == ("TV", "phone", "radio")
    assert read(tmp_path, TEXTS, "single").scheme.kind == SINGLE


def test_a_task_that_the_data_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--task single: the images have several labels each"):
        read(tmp_path, COLUMNS, "single")
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(ConfigError, match="--task multilabel: the images have one label each, expected a label table"):
        create_dataset("ImageFolderDataset", tmp_path, task="multilabel")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (COLUMNS.replace("True", "2"), r"row 5 of labels\.csv has '2' in 'label:dog', expected 0 or 1"),
        (
            COLUMNS.replace("label:dog", "label:a|b"),
            r"has the column 'label:a\|b', expected label: and the name of a class",
        ),
        (COLUMNS.replace("label:dog", "label:"), "has the column 'label:', expected label: and the name"),
        (COLUMNS.replace("label:dog", "label:cat"), "has the column 'label:cat' more than once"),
        (
            COLUMNS.replace("label:dog", "label"),
            "has a column label and columns such as label:cat, expected one of both",
        ),
    ],
)
def test_columns_that_cannot_be_meant_are_rejected(tmp_path: Path, table: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, table)


def test_validation_is_read_as_training_and_may_have_fewer_classes_in_another_order(tmp_path: Path) -> None:
    train = read(tmp_path / "train", TEXTS)
    val = match_task(read_label_table(folder(tmp_path / "val", "path,label\ncat/1.jpg,tree\ncat/2.jpg,dog\n")), train)
    both = add_validation(train, val)
    assert both.labels[-2:].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert both.labels[:4].tolist() == train.labels.tolist()


@pytest.mark.parametrize(
    ("table", "other", "sentence"),
    [
        (COLUMNS, None, "the images for training have several labels each, and those for validation one label; "),
        (None, COLUMNS, "the images for training have one label each, and those for validation several labels; "),
    ],
)
def test_validation_with_the_other_kind_of_labels_is_rejected_without_an_option_that_nobody_gave(
    tmp_path: Path, table: str | None, other: str | None, sentence: str
) -> None:
    roots = tmp_path / "train", tmp_path / "val"
    for root, text in zip(roots, (table, other), strict=True):
        folder(root, text or "path,label\n")
        if text is None:
            (root / "labels.csv").unlink()
    with pytest.raises(DataError, match=f"^{sentence}label both in the same way: {roots[1]}$"):
        create_dataset("auto", roots[0], validation_dir=roots[1])


def planted_samples(images: int, group_size: int) -> Samples:
    draw = np.random.default_rng(4)
    flags = draw.random((images, 6)) < np.array((0.5, 0.3, 0.2, 0.1, 0.05, 0.02))
    cells = [join_labels(np.flatnonzero(row).tolist()) for row in flags]
    paths = [f"{number:04}.jpg" for number in range(images)]
    people = [f"g{number // group_size}" for number in range(images)] if group_size > 1 else paths
    table = pd.DataFrame({"path": paths, "person": people, "label": cells})
    return Samples(Path("root"), table, LabelScheme("labels", tuple("abcdef"), kind=MULTI))


@pytest.mark.parametrize("group_size", [1, 4])
def test_every_class_gets_its_share_of_validation_and_groups_stay_together(group_size: int) -> None:
    samples = planted_samples(600, group_size)
    split = split_samples(samples, 0.25, 7)
    share = samples.class_counts(np.flatnonzero(split == "val")) / samples.class_counts()
    assert np.abs(share - 0.25).max() < (0.04 if group_size == 1 else 0.08)  # 14 images of the rarest
    assert split.groupby(samples.table["person"]).nunique().max() == 1
    # by label sets, as one label is split, rare classes are further off
    single = LabelScheme("sets", tuple(sorted(set(samples.table["label"]))))
    numbers = samples.table["label"].map({name: number for number, name in enumerate(single.classes)})
    by_set = split_samples(Samples(samples.root, samples.table.assign(label=numbers), single), 0.25, 7)
    other = samples.class_counts(np.flatnonzero(by_set == "val")) / samples.class_counts()
    assert np.abs(share - 0.25).sum() < np.abs(other - 0.25).sum()


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    header, *rows = TEXTS.splitlines()
    one, other = (read(tmp_path, "\n".join([header, *order])) for order in (rows, rows[::-1]))
    assert one.table.equals(other.table)
    assert one.fingerprint() == other.fingerprint()
    assert tuple(one.table["path"]) == PETS
