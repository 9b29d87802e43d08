"""A label table is read as it is written, spreadsheet damage included, and what contradicts itself is rejected."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.label_table import read_label_table
from data.layout import UNLISTED
from data.readers import read_dataset
from data.samples import Samples
from data.split import split_samples
from data.summary import find_warnings
from runtime.errors import DataError
from support.label_tables import LABELS, PETS, folder, named

UMLAUT = "\N{LATIN SMALL LETTER O WITH DIAERESIS}"

PLAIN = "path,label\ncat/1.jpg,cat\ncat/2.jpg,cat\ndog/1.jpg,dog\ndog/2.jpg,dog\n"
EXPECTED = {name: name[:3] for name in PETS}
SAME = {
    "plain": PLAIN,
    "another order of rows and columns": "label,path\ndog,dog/2.jpg\ncat,cat/1.jpg\ndog,dog/1.jpg\ncat,cat/2.jpg\n",
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "semicolons of Excel in Europe": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "tabs": PLAIN.replace(",", "\t"),
    "no line ending after the last row": PLAIN.rstrip(),
    "line endings of an old Mac": PLAIN.replace("\n", "\r"),
    "quotes": PLAIN.replace("cat/1.jpg", '"cat/1.jpg"').replace(",dog", ',"dog"'),
    "blanks, upper case and empty rows": PLAIN.replace("path,label", "Path , Label").replace(",cat", ", cat ")
    + "\n,\n",
    "empty columns on the right": PLAIN.replace("\n", ",,\n").replace("label,,", "label"),
    "backslashes and dots": PLAIN.replace("cat/1", "cat\\1").replace("dog/1", "./dog//1"),
    "repeated rows": PLAIN + "dog/1.jpg,dog\n",
}


@pytest.mark.parametrize("table", SAME.values(), ids=SAME)
def test_spreadsheets_and_editors_change_nothing(tmp_path: Path, table: str | bytes) -> None:
    samples = read_label_table(folder(tmp_path, table))
    assert named(samples) == EXPECTED
    assert samples.table["path"].tolist() == list(PETS)
    assert split_samples(samples, 0.5, 1).equals(split_samples(read_label_table(folder(tmp_path, PLAIN)), 0.5, 1))


def test_labels_are_text_that_no_one_reads_as_a_number_or_as_missing(tmp_path: Path) -> None:
    labels = ["0012", "1.0", "NA", "null", "1e3", "TRUE", "a|b"]
    names = [f"{number}.jpg" for number in range(len(labels))]
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, labels, strict=True))
    samples = read_label_table(folder(tmp_path, "path,label\n" + rows, *names))
    assert list(named(samples).values()) == labels
    lines = [json.dumps({"path": name, "label": label}) for name, label in zip(names, labels, strict=True)]
    lines[1] = '{"path": "1.jpg", "label": 1.0}'
    (tmp_path / "labels.csv").unlink()
    again = read_label_table(folder(tmp_path, "\ufeff" + "\n\n".join(lines), *names, file="labels.jsonl"))
    assert again.table.equals(samples.table)
    assert again.scheme == samples.scheme


def test_both_unicode_forms_are_the_same_name(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", UMLAUT)
    table = f"path,label\n{decomposed}.jpg,{UMLAUT}\nb.jpg,{decomposed}\nc.jpg,x\n"
    samples = read_label_table(folder(tmp_path, table, f"{UMLAUT}.jpg", "b.jpg", "c.jpg"))
    assert samples.scheme.classes == ("x", UMLAUT)
    assert all(path.exists() for path in samples.paths)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LABELS, min_size=2, max_size=8), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_any_table_that_pandas_writes_is_read_back(
    tmp_path: Path, labels: list[str], delimiter: str, ending: str
) -> None:
    if len(set(labels)) < 2:
        return
    names = [f"{number}.jpg" for number in range(len(labels))]
    folder(tmp_path, "", *names)
    frame = pd.DataFrame({"label": labels, "path": names, "group": labels[::-1]})
    frame.to_csv(tmp_path / "labels.csv", sep=delimiter, lineterminator=ending, index=False)
    samples = read_label_table(tmp_path)
    assert named(samples) == dict(zip(names, labels, strict=True))
    assert samples.table["person"].tolist() == [labels[-1 - int(name[:-4])] for name in samples.table["path"]]


def test_groups_stay_together_and_a_given_split_is_kept(tmp_path: Path) -> None:
    table = "path,label,group\ncat/1.jpg,cat,7\ncat/2.jpg,cat,\ndog/1.jpg,dog,7\ndog/2.jpg,dog,8\n"
    samples = read_label_table(folder(tmp_path, table))
    assert samples.table["person"].tolist() == ["7", "cat/2.jpg", "7", "8"]
    assert samples.has_groups
    table = "path,label,split\ncat/1.jpg,cat,Train\ncat/2.jpg,cat,valid\ndog/1.jpg,dog,train\ndog/2.jpg,cow,test\n"
    samples = read_label_table(folder(tmp_path, table))
    assert split_samples(samples, 0.2, 42).tolist() == ["train", "val", "train"]
    assert samples.scheme.classes == ("cat", "dog")
    assert not samples.ignored.get(UNLISTED)
    assert samples.notes == [
        f"1 rows of labels.csv are of the part test, which is left alone: {tmp_path / 'labels.csv'}"
    ]


def test_a_table_of_nothing_but_test_images_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^all rows of labels\.csv are of the part test, expected some of train: "):
        read_label_table(folder(tmp_path, "path,label,split\ncat/1.jpg,cat,test\ndog/1.jpg,dog,test\n"))


def test_what_the_owner_may_not_know_is_a_warning(tmp_path: Path) -> None:
    table = "path,label,Group \ncat/1.jpg,1,a\ngone.jpg,1.0,b\ndog/1.jpg,1,c\ndog/1.jpg,1,c\n"
    warnings = find_warnings(read_label_table(folder(tmp_path, table.replace("Group", "photographer"))))
    for part in (
        "images without a row in the table ignored: 2 (cat/2.jpg, dog/2.jpg); add rows for them",
        "columns of labels.csv ignored: 'photographer'; known are path, label, split, group, weight",
        "images of labels.csv that do not exist: 1 (gone.jpg); --on-bad-image decides",
        "1 rows of labels.csv repeat another one and count once",
        "classes of labels.csv that a spreadsheet reads as the same number: '1' and '1.0'; if they are one class",
        "classes named by numbers are not their own class numbers: 1 is class 0",
    ):
        assert any(part in warning for warning in warnings), part


REJECTED = {
    "cat/1.jpg,cat\ncat/1.jpg,dog": "rows 2 and 3 of labels.csv contradict each other about 'cat/1.jpg': label ",
    "cat/1.jpg,cat\n../x.jpg,dog": "row 3 of labels.csv has the path '../x.jpg', expected a path inside the folder",
    "cat/1.jpg,cat\ncat/../../x.jpg,dog": "row 3 of labels.csv has the path 'cat/../../x.jpg'",
    "/etc/x.jpg,cat": "row 2 of labels.csv has the path '/etc/x.jpg'",
    "C:\\x.jpg,cat": "row 2 of labels.csv has the path",
    "s3://bucket/x.jpg,cat": "row 2 of labels.csv has the path 's3://bucket/x.jpg'",
    "cat/1.jpg,": "row 2 of labels.csv has no label",
    ",cat": "row 2 of labels.csv has no path",
    "cat/1.jpg,cat,dog": "row 2 of labels.csv has 3 columns, its header has 2; put names with the delimiter in quotes",
    "cat/1.jpg": "row 2 of labels.csv has 1 columns, its header has 2",
    "cat/1.jpg,cat": "labels.csv has 1 classes; at least 2 are needed, found 'cat'",
    "a.jpg,cat\nb.jpg,dog": r"none of the 2 images of labels.csv exists \(a.jpg, b.jpg\)",
    "": "labels.csv has no rows",
    'cat/1.jpg,"c"at': "labels.csv cannot be read as csv",
}


@pytest.mark.parametrize("rows", REJECTED)
def test_rows_that_cannot_be_meant_are_rejected_by_number(tmp_path: Path, rows: str) -> None:
    with pytest.raises(DataError, match=f"^{REJECTED[rows]}.*: {tmp_path}/labels.csv$"):
        read_label_table(folder(tmp_path, f"path,label\n{rows}\n"))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            "image,class\n1.jpg,cat\n",
            "has the columns image, class, expected path and label, too; rename",
        ),
        ("cat/1.jpg,cat\ncat/2.jpg,cat\n", "starts with the image 'cat/1.jpg', expected a row of column names above"),
        ('path,label\n"1.jpg,cat\n', "cannot be read as csv .*; look for a quote that is not closed"),
        (
            f"path,label,more\n1.jpg,cat,{'x' * 200_000}\n",
            "expected pairs of quotes and cells of at most 131072 characters",
        ),
        ("path,label,label\n1.jpg,cat,dog\n", "has the column 'label' more than once"),
        (
            "path,label,split\ncat/1.jpg,cat,dev\n",
            "row 2 of labels.csv has the split 'dev', expected train, val or test",
        ),
        ("path,label,split\ncat/1.jpg,cat,\n", "row 2 of labels.csv has the split ''"),
        (f"path,label\n1.jpg,{UMLAUT}\n".encode("cp1252"), "is not UTF-8 .*; save it as `CSV UTF-8`"),
    ],
)
def test_a_table_that_is_none_is_rejected_with_what_to_do(tmp_path: Path, table: str | bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_label_table(folder(tmp_path, table))


def test_a_weight_is_kept_with_its_image(tmp_path: Path) -> None:
    table = PLAIN.replace("label\n", "label,weight\n").replace(",dog", ",dog,0").replace(",cat", ",cat, 2.5 ")
    samples = read_label_table(folder(tmp_path, table))
    assert samples.weights is not None
    assert samples.weights.tolist() == [2.5, 2.5, 0, 0]
    unweighted = read_label_table(folder(tmp_path, PLAIN))
    assert unweighted.weights is None
    other = read_label_table(folder(tmp_path, table.replace("2.5", "2")))
    assert len({found.fingerprint() for found in (samples, unweighted, other)}) == 3


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "", "0,5", "1e10", "heavy"])
def test_a_weight_that_is_no_number_from_zero_on_is_rejected(tmp_path: Path, weight: str) -> None:
    table = f'path,label,weight\ncat/1.jpg,cat,1\ndog/1.jpg,dog,"{weight}"\n'
    with pytest.raises(DataError, match=f"row 3 of labels.csv has the weight '{weight}', expected a number from 0 to "):
        read_label_table(folder(tmp_path, table))


def test_an_image_has_one_weight(tmp_path: Path) -> None:
    table = "path,label,weight\ncat/1.jpg,cat,1\ndog/1.jpg,dog,2\ncat/1.jpg,cat,3\n"
    with pytest.raises(DataError, match=r"rows 2 and 4 .* about 'cat/1.jpg': weight 1.0 and 3.0"):
        read_label_table(folder(tmp_path, table))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[1]", "row 1 of labels.jsonl is not an object"),
        ("{", "row 1 of labels.jsonl is not JSON"),
        ('{"path": "cat/1.jpg", "label": {}}', "row 1 of labels.jsonl has label {}, expected text"),
        (
            '{"path": "cat/1.jpg", "label": "\\ud83d\\ude00"}\n{"path": "cat/2.jpg", "label": "\\uD83D"}',
            r"row 2 of labels.jsonl contains '\\ud83d', half of a character, expected text in Unicode",
        ),
    ],
)
def test_a_line_that_is_no_row_is_rejected(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_label_table(folder(tmp_path, line, file="labels.jsonl"))


def test_true_and_false_are_the_text_that_is_in_the_file(tmp_path: Path) -> None:
    lines = [json.dumps({"path": name, "label": name.startswith("cat")}) for name in PETS]
    assert set(named(read_label_table(folder(tmp_path, "\n".join(lines), file="labels.jsonl"))).values()) == {
        "true",
        "false",
    }
    flags = [json.dumps({"path": name, "label:cat": name in PETS[:2], "label:old": False}) for name in PETS]
    samples = read_label_table(folder(tmp_path, "\n".join(flags), file="labels.jsonl"))
    assert samples.table["label"].tolist() == ["0", "0", "|", "|"]


def test_a_lst_of_the_built_in_algorithm_is_read(tmp_path: Path) -> None:
    lines = ("5\t1\tcat/1.jpg", "1000\t0\tdog/1.jpg", "22\t1\tcat/2.jpg")
    samples = read_label_table(folder(tmp_path, "\r\n".join(lines), file="train.lst"))
    assert named(samples) == {"cat/1.jpg": "1", "cat/2.jpg": "1", "dog/1.jpg": "0"}
    with pytest.raises(DataError, match=r"row 1 of train\.lst has 4 columns, expected index, label and path with tabs"):
        read_label_table(folder(tmp_path, "5\t1\t0\tcat/1.jpg", file="train.lst"))
    with pytest.raises(DataError, match=r"contains labels\.csv and train\.lst, expected one table"):
        read_label_table(folder(tmp_path, PLAIN))


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "train.lst", "out.manifest"])
def test_a_broken_link_to_the_labels_is_not_ignored(tmp_path: Path, name: str) -> None:
    folder(tmp_path, PLAIN).joinpath("labels.csv").unlink()
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(DataError, match=rf"^{name} is a broken link, expected a file; repair or remove it: "):
        read_dataset("auto", tmp_path, "SM_CHANNEL_TRAIN")


def test_two_tables_are_rejected(tmp_path: Path) -> None:
    folder(tmp_path, PLAIN, file="labels.parquet")
    with pytest.raises(DataError, match=r"contains labels.csv and labels.parquet, expected one table"):
        read_label_table(folder(tmp_path, PLAIN))


def test_the_order_of_rows_changes_neither_table_nor_split_nor_fingerprint(tmp_path: Path) -> None:
    draw = random.Random(3)
    names = [f"{number:02}.jpg" for number in range(40)]
    rows = [f"{name},{draw.choice('abc')},g{draw.randrange(12)}\n" for name in names]
    found = []
    for _ in range(3):
        samples = read_label_table(folder(tmp_path, "path,label,group\n" + "".join(rows), *names))
        found.append((samples.table.to_csv(), samples.fingerprint(), split_samples(samples, 0.25, 5).tolist()))
        draw.shuffle(rows)
    assert found[0] == found[1] == found[2]
    regrouped = Samples(samples.root, samples.table.assign(person="g0"), samples.scheme)
    assert regrouped.fingerprint() != samples.fingerprint()
    assert np.bincount(samples.labels).all()
