"""What evaluation promises: rows are joined by id, the numbers are scikit-learn's, and a mistake is one sentence."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

import evaluation
from labels import MASKED_FACES, LabelScheme
from runtime.errors import ConfigError, DataError

CLASSES = MASKED_FACES.num_classes
SCRIPT = Path(evaluation.__file__)
Labels = NDArray[np.int64]


def name_of(image: int) -> str:
    return f"{image * 7919 % 100003:040x}.jpg"


def write_table(path: Path, rows: Mapping[str, Any], header: str = "ImageID,ans") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(f"{key},{value}" for key, value in rows.items())]) + "\n")
    return path


class Case:
    """A ground truth folder and an output folder, as a person has them."""

    def __init__(self, root: Path) -> None:
        self.gt_dir, self.pred_dir = root / "gt", root / "output"

    def write(self, truths: Any, answers: Any, seed: int = 0) -> None:
        """gt.csv in order, output.csv shuffled."""
        order = np.random.default_rng(seed).permutation(len(answers))
        write_table(self.gt_dir / "gt.csv", {name_of(index): label for index, label in enumerate(truths)})
        write_table(self.pred_dir / "output.csv", {name_of(index): answers[index] for index in order})

    def run(self, *flags: str) -> dict[str, Any]:
        """Run the verb in this process; returns evaluation.json."""
        environ = {"SM_GROUND_TRUTH_DIR": str(self.gt_dir), "SM_OUTPUT_DATA_DIR": str(self.pred_dir)}
        evaluation.main(flags, environ)
        report: dict[str, Any] = json.loads((self.pred_dir / "evaluation.json").read_text())
        return report


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def random_answers(images: int, seed: int = 0, right: float = 0.4) -> tuple[Labels, Labels]:
    generator = np.random.default_rng(seed)
    truths, guesses = generator.integers(CLASSES, size=(2, images))
    return truths, np.where(generator.random(images) < right, truths, guesses)


def values_of(report: dict[str, Any]) -> dict[str, float]:
    metrics = report["multiclass_classification_metrics"]
    return {name: metric["value"] for name, metric in metrics.items() if name != "confusion_matrix"}


def spread_of(report: dict[str, Any]) -> dict[str, Any]:
    metrics = report["multiclass_classification_metrics"]
    return {name: metric["standard_deviation"] for name, metric in metrics.items() if name != "confusion_matrix"}


# The original's function


def test_rows_are_joined_by_id_and_never_by_position(case: Case) -> None:
    """The original gave 5.56 % to perfect answers in another order."""
    case.write(range(CLASSES), range(CLASSES), seed=1)
    answers = json.loads(evaluation.evaluation(case.gt_dir, str(case.pred_dir)))
    assert answers["accuracy"]["value"] == answers["f1"]["value"] == "100.00%"


def test_the_json_has_the_schema_of_the_seed(case: Case) -> None:
    truths, answers = random_answers(200)
    case.write(truths, answers)
    accuracy = sklearn_metrics.accuracy_score(truths, answers)
    f1 = sklearn_metrics.f1_score(truths, answers, average="macro")
    assert evaluation.evaluation(case.gt_dir, case.pred_dir) == json.dumps(
        {
            "accuracy": {"value": f"{accuracy * 100:.2f}%", "rank": True, "decs": True},
            "f1": {"value": f"{f1 * 100:.2f}%", "rank": False, "decs": True},
        }
    )
    legacy = json.loads(evaluation.evaluation(case.gt_dir, case.pred_dir, legacy_format=True))
    assert legacy["f1"]["value"] == f"{f1:.2f}%"
    assert legacy["accuracy"]["value"] == f"{accuracy * 100:.2f}%"


def test_evaluation_alone_writes_nothing(case: Case) -> None:
    case.write([1, 2], [1, 2])
    evaluation.evaluation(case.gt_dir, case.pred_dir)
    assert [path.name for path in case.pred_dir.iterdir()] == ["output.csv"]


# The verb


def test_the_originals_command_prints_the_json_and_a_line_and_leaves_a_report(case: Case) -> None:
    truths, answers = random_answers(300)
    case.write(truths, answers)
    environ = {"SM_GROUND_TRUTH_DIR": str(case.gt_dir), "SM_OUTPUT_DATA_DIR": str(case.pred_dir)}
    process = subprocess.run([sys.executable, SCRIPT], env=environ, capture_output=True, text=True, check=True)
    first, second = process.stdout.splitlines()
    assert first == evaluation.evaluation(case.gt_dir, case.pred_dir)
    line = dict(pair.split("=") for pair in second.rstrip(";").split("; "))
    report = json.loads((case.pred_dir / "evaluation.json").read_text())
    assert list(line) == ["macro_f1", "accuracy"] + [
        f"{task.name}_{score}" for task in MASKED_FACES.tasks for score in ("accuracy", "macro_f1")
    ]
    assert line == {name: f"{values_of(report)[name]:.4f}" for name in line}
    assert process.stderr == ""


def test_a_mistake_is_one_sentence_in_the_failure_file_and_leaves_nothing(case: Case, tmp_path: Path) -> None:
    case.write([1, 2], [1, 18])
    environ = {
        "SM_GROUND_TRUTH_DIR": str(case.gt_dir),
        "SM_OUTPUT_DATA_DIR": str(case.pred_dir),
        "SM_OUTPUT_DIR": str(tmp_path),
    }
    process = subprocess.run([sys.executable, SCRIPT], env=environ, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr == (tmp_path / "failure").read_text() + "\n"
    assert process.stderr.count("\n") == 1
    assert [path.name for path in case.pred_dir.iterdir()] == ["output.csv"]


def test_help_names_every_flag_and_loads_no_heavy_module() -> None:
    check = (
        "import contextlib, sys, evaluation\n"
        "with contextlib.suppress(SystemExit): evaluation.main(['--help'], {})\n"
        "sys.exit(str({'torch', 'pandas', 'sklearn'} & set(sys.modules) or 0))"
    )
    process = subprocess.run([sys.executable, "-c", check], cwd=SCRIPT.parent, capture_output=True, text=True)
    assert process.stderr == "0\n"
    for flag in ("--gt-dir", "--output-dir", "--legacy-format", "--bootstrap", "--persons", "--seed"):
        assert flag in process.stdout


def test_a_wrong_flag_is_refused_before_anything_is_read(case: Case) -> None:
    with pytest.raises(ConfigError, match="bootstrap"):
        case.run("--bootstrap", "-1")


def test_flags_overrule_the_environment(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.write([0, 1], [0, 2])
    flags = ["--gt_dir", str(case.gt_dir), "--output-dir", str(case.pred_dir), "--legacy_format", "--bootstrap", "0"]
    evaluation.main(flags, {"SM_GROUND_TRUTH_DIR": str(tmp_path / "elsewhere")})
    assert '"value": "0.33%"' in capsys.readouterr().out


# evaluation.json


def test_every_value_is_that_of_scikit_learn(case: Case) -> None:
    truths, answers = random_answers(500)
    case.write(truths, answers)
    values = values_of(case.run("--bootstrap", "0"))
    constant = np.full(500, np.bincount(truths).argmax())
    expected = {"macro_f1": sklearn_metrics.f1_score(truths, answers, average="macro")}
    for suffix, given in (("", answers), ("_best_constant_classifier", constant)):
        weighted: dict[str, Any] = {"average": "weighted", "zero_division": 0.0}
        expected[f"accuracy{suffix}"] = sklearn_metrics.accuracy_score(truths, given)
        expected[f"weighted_recall{suffix}"] = sklearn_metrics.recall_score(truths, given, **weighted)
        expected[f"weighted_precision{suffix}"] = sklearn_metrics.precision_score(truths, given, **weighted)
        for name, beta in (("f0_5", 0.5), ("f1", 1.0), ("f2", 2.0)):
            score = sklearn_metrics.fbeta_score(truths, given, beta=beta, **weighted)
            expected[f"weighted_{name}{suffix}"] = score
    for position, task in enumerate(MASKED_FACES.tasks):
        truth = [MASKED_FACES.decode(label)[position] for label in truths]
        answer = [MASKED_FACES.decode(label)[position] for label in answers]
        expected[f"{task.name}_accuracy"] = sklearn_metrics.accuracy_score(truth, answer)
        expected[f"{task.name}_macro_f1"] = sklearn_metrics.f1_score(truth, answer, average="macro")
    assert values == pytest.approx(expected)


def test_values_are_those_of_sagemakers_own_example() -> None:
    """Developer guide, Model Quality Metrics, multiclass: rows are the truth. (Its constant classifier answers "1".)"""
    values = evaluation.statistics(np.array([[1180, 510], [268, 138]]), LabelScheme("two", ("0", "1")))
    assert values["accuracy"] == pytest.approx(0.6288167938931297)
    assert values["weighted_recall"] == pytest.approx(0.6288167938931297)
    assert values["weighted_precision"] == pytest.approx(0.6983172269629505)
    assert values["weighted_f0_5"] == pytest.approx(0.6803947317178771)
    assert values["weighted_f1"] == pytest.approx(0.6571162346664904)
    assert values["weighted_f2"] == pytest.approx(0.6384024354394601)


def test_the_confusion_matrix_is_nested_by_truth_then_answer(case: Case) -> None:
    truths, answers = random_answers(300)
    case.write(truths, answers)
    confusion = case.run("--bootstrap", "0")["multiclass_classification_metrics"]["confusion_matrix"]
    names = [str(label) for label in range(CLASSES)]
    assert list(confusion) == names
    assert all(list(row) == names for row in confusion.values())
    expected = sklearn_metrics.confusion_matrix(truths, answers, labels=range(CLASSES))
    assert [list(row.values()) for row in confusion.values()] == expected.tolist()


def test_sagemaker_can_read_the_report(case: Case) -> None:
    """Its readers take the first group, and in it a value and a standard deviation for all but the matrix."""
    truths, answers = random_answers(100)
    case.write(truths, answers)
    report = case.run()
    assert next(iter(report)) == "multiclass_classification_metrics"
    for name, metric in report["multiclass_classification_metrics"].items():
        if name != "confusion_matrix":
            assert set(metric) == {"value", "standard_deviation"}
            assert isinstance(metric["value"], float)
            assert isinstance(metric["standard_deviation"], float)


def test_details_say_what_the_numbers_rest_on(case: Case) -> None:
    truths, answers = random_answers(200)
    case.write(truths, answers)
    details = case.run("--seed", "7", "--bootstrap", "20")["details"]
    support = np.bincount(truths, minlength=CLASSES)
    assert details["pictures"] == 200
    assert details["unanswered"] == 0
    assert details["persons"] is None
    assert (details["resampled"], details["resamples"], details["seed"]) == ("pictures", 20, 7)
    assert [row["name"] for row in details["classes"]] == list(MASKED_FACES.classes)
    assert [row["support"] for row in details["classes"]] == support.tolist()
    f1 = sklearn_metrics.f1_score(truths, answers, labels=range(CLASSES), average=None)
    assert [row["f1"] for row in details["classes"]] == pytest.approx(f1)
    assert details["versions"]["numpy"] == np.__version__


# Unanswered images


def test_an_unanswered_image_is_wrong_and_costs_no_class_precision(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    truths, answers = random_answers(300)
    gaps = np.arange(300) % 10 == 0
    case.write(truths, ["" if gap else f"{answer}.0" for gap, answer in zip(gaps, answers, strict=True)])
    report = case.run()
    values, with_gaps = values_of(report), np.where(gaps, -1, answers)
    known: dict[str, Any] = {"labels": range(CLASSES), "zero_division": 0.0}
    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truths, with_gaps))
    assert values["accuracy"] == pytest.approx(values["weighted_recall"])
    assert values["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(truths, with_gaps, average="macro", **known))
    assert values["weighted_precision"] == pytest.approx(
        sklearn_metrics.precision_score(truths, with_gaps, average="weighted", **known)
    )
    confusion = report["multiclass_classification_metrics"]["confusion_matrix"]
    assert sum(row["unanswered"] for row in confusion.values()) == 30
    assert sum(sum(row.values()) for row in confusion.values()) == 300
    assert "unanswered" not in confusion
    assert report["details"]["unanswered"] == 30
    assert capsys.readouterr().out.endswith("unanswered=30;\n")


def test_answers_that_are_all_empty_score_zero(case: Case) -> None:
    case.write([1, 2, 3], ["", "", ""])
    values = values_of(case.run())
    assert values["accuracy"] == values["macro_f1"] == values["mask_accuracy"] == 0.0


# The bootstrap


def write_persons(case: Case, images: int, each: int) -> None:
    persons = {name_of(index): f"{index // each:06}" for index in range(images)}
    write_table(case.gt_dir / "persons.csv", persons | {"of-training.jpg": "000999"}, "ImageID,id")


def test_the_standard_deviation_over_images_is_the_binomial_one(case: Case) -> None:
    truths, answers = random_answers(800)
    case.write(truths, answers)
    report = case.run("--bootstrap", "4000")
    accuracy = values_of(report)["accuracy"]
    assert spread_of(report)["accuracy"] == pytest.approx((accuracy * (1 - accuracy) / 800) ** 0.5, rel=0.05)


def test_images_of_one_person_count_as_one_when_they_are_alike(case: Case) -> None:
    """7 equal images of each of 100 persons say no more than 1 would: sqrt(7) times the deviation over images."""
    truths, answers = (np.repeat(column, 7) for column in random_answers(100))
    case.write(truths, answers)
    over_images = case.run("--bootstrap", "4000")
    write_persons(case, 700, 7)
    over_persons = case.run("--bootstrap", "4000")
    assert over_persons["details"]["resampled"] == "persons"
    assert over_persons["details"]["persons"] == 100
    ratio = spread_of(over_persons)["accuracy"] / spread_of(over_images)["accuracy"]
    assert ratio == pytest.approx(7**0.5, rel=0.07)


def test_every_standard_deviation_is_that_of_a_plain_loop(case: Case) -> None:
    truths, answers = random_answers(210)
    case.write(truths, answers)
    write_persons(case, 210, 7)
    spread = spread_of(case.run("--bootstrap", "50", "--seed", "3"))
    generator = np.random.default_rng(3)
    f1, age = [], []
    for _ in range(50):
        drawn = [person * 7 + image for person in generator.integers(30, size=30) for image in range(7)]
        f1.append(sklearn_metrics.f1_score(truths[drawn], answers[drawn], average="macro"))
        age.append(sklearn_metrics.accuracy_score(truths[drawn] % 3, answers[drawn] % 3))
    assert spread["macro_f1"] == pytest.approx(np.std(f1, ddof=1))
    assert spread["age_accuracy"] == pytest.approx(np.std(age, ddof=1))


def test_batches_of_resamples_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(*random_answers(60))
    whole = spread_of(case.run("--bootstrap", "40"))
    monkeypatch.setattr(evaluation, "STACK_ENTRIES", 7 * CLASSES**2)
    assert spread_of(case.run("--bootstrap", "40")) == pytest.approx(whole)


def test_the_seed_alone_decides_the_standard_deviation(case: Case) -> None:
    case.write(*random_answers(60))
    assert case.run("--seed", "1") == case.run("--seed", "1")
    assert spread_of(case.run("--seed", "1")) != spread_of(case.run("--seed", "2"))


@pytest.mark.parametrize(("images", "resamples"), [(20, "0"), (20, "1"), (1, "100")])
def test_without_a_bootstrap_the_standard_deviation_is_the_text_nan(case: Case, images: int, resamples: str) -> None:
    case.write(*random_answers(images))
    report = case.run("--bootstrap", resamples)
    assert set(spread_of(report).values()) == {"NaN"}
    assert report["details"]["resampled"] is None
    assert report["details"]["resamples"] == 0


# Where persons come from


def test_persons_are_read_from_a_column_of_gt_csv(case: Case) -> None:
    case.write([0, 1, 2, 3], [0, 1, 2, 4])
    for column in ("id", "person"):
        rows = {name_of(index): f"{index},{'ab'[index % 2]}" for index in range(4)}
        write_table(case.gt_dir / "gt.csv", rows, f"ImageID,ans,{column}")
        assert case.run("--bootstrap", "10")["details"]["persons"] == 2


def test_a_named_persons_file_overrules_what_lies_beside_gt_csv(case: Case, tmp_path: Path) -> None:
    case.write([0, 1, 2, 3], [0, 1, 2, 4])
    write_persons(case, 4, 2)
    file = write_table(tmp_path / "who.csv", {name_of(index): index for index in range(4)}, "ImageID,person")
    assert case.run("--persons", str(file))["details"]["persons"] == 4
    assert case.run()["details"]["persons"] == 2


def test_an_image_without_a_person_is_refused(case: Case) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    write_table(case.gt_dir / "persons.csv", {name_of(0): "a", name_of(1): ""}, "ImageID,id")
    with pytest.raises(DataError, match=rf"names no person for 2 images \({name_of(1)}, {name_of(2)}\)"):
        case.run()
    with pytest.raises(DataError, match=r"there is no who\.csv, expected columns ImageID and person or id"):
        case.run("--persons", "who.csv")


# Other label schemes


PETS = LabelScheme("folders", ("cat", "dog", "fish"))


def write_scheme(case: Case, scheme: LabelScheme) -> None:
    (case.pred_dir / "scheme.json").write_text(json.dumps(scheme.to_dict()))


@pytest.mark.parametrize("truths", [["cat", "dog", "fish", "dog"], [0, 1, 2, 1]])
@pytest.mark.parametrize("answers", [["cat", "dog", "dog", ""], [0, 1, 1, ""]])
def test_classes_of_another_scheme_are_names_or_numbers(case: Case, truths: list[Any], answers: list[Any]) -> None:
    case.write(truths, answers)
    write_scheme(case, PETS)
    report = case.run()
    assert values_of(report)["accuracy"] == 0.5
    assert [row["name"] for row in report["details"]["classes"]] == ["cat", "dog", "fish"]
    assert report["details"]["scheme"] == "folders"
    assert not any(name.startswith("mask_") for name in values_of(report))


def test_a_class_folder_named_like_a_number_is_never_taken_for_another_class(case: Case) -> None:
    names = tuple(sorted(str(number) for number in range(12)))  # 0, 1, 10, 11, 2, ...: "10" is class 2
    case.write(names, range(12))
    write_scheme(case, LabelScheme("folders", names))
    assert values_of(case.run())["accuracy"] == 1.0


def test_a_scheme_with_tasks_is_scored_by_task(case: Case) -> None:
    case.write([0, 17], [0, 16])
    write_scheme(case, MASKED_FACES)
    assert values_of(case.run())["gender_accuracy"] == 1.0


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"name": "x"}', '{"name": "x", "classes": 3, "tasks": []}'])
def test_a_damaged_scheme_is_refused(case: Case, text: str) -> None:
    case.write([0, 1], [0, 1])
    (case.pred_dir / "scheme.json").write_text(text)
    with pytest.raises(DataError, match=r"scheme\.json is no label scheme, expected what inference\.py writes"):
        case.run()


# Mistakes


def breaking(name: str) -> Callable[[Case], object]:
    """One way to spoil a good case, by name."""
    three = {name_of(index): index for index in range(3)}
    ways: dict[str, Callable[[Case], object]] = {
        "no gt.csv": lambda case: (case.gt_dir / "gt.csv").rename(case.gt_dir / "truth.csv"),
        "no output.csv": lambda case: (case.pred_dir / "output.csv").rename(case.pred_dir / "answers.csv"),
        "empty folder": lambda case: (case.gt_dir / "gt.csv").unlink(),
        "empty file": lambda case: (case.gt_dir / "gt.csv").write_bytes(b""),
        "only a header": lambda case: write_table(case.pred_dir / "output.csv", {}),
        "other columns": lambda case: write_table(case.pred_dir / "output.csv", three, "image,label"),
        "no ans": lambda case: write_table(case.gt_dir / "gt.csv", three, "ImageID,label"),
        "missing": lambda case: write_table(case.pred_dir / "output.csv", {name_of(0): 0}),
        "unknown": lambda case: write_table(case.pred_dir / "output.csv", three | {f"{n}.jpg": 0 for n in range(4)}),
        "twice": lambda case: (case.pred_dir / "output.csv").write_text("ImageID,ans\na.jpg,1\na.jpg,1\n"),
        "cut off": lambda case: (case.pred_dir / "output.csv").write_text("ImageID,ans\na.jpg,1\nb.j"),
        "too wide": lambda case: (case.pred_dir / "output.csv").write_text("ImageID,ans\na.jpg,1,2\n"),
        "no id": lambda case: (case.pred_dir / "output.csv").write_text("ImageID,ans\n,1\n"),
        "quotes": lambda case: (case.pred_dir / "output.csv").write_text('ImageID,ans\n"a.jpg"x,1\n'),
        "bytes": lambda case: (case.pred_dir / "output.csv").write_bytes(b"\xff\xfe\x00"),
        "18": lambda case: write_table(case.pred_dir / "output.csv", three | {name_of(2): 18}),
        "-1": lambda case: write_table(case.gt_dir / "gt.csv", three | {name_of(2): -1}),
        "1.5": lambda case: write_table(case.gt_dir / "gt.csv", three | {name_of(2): 1.5}),
        "no truth": lambda case: write_table(case.gt_dir / "gt.csv", three | {name_of(2): ""}),
        "mixture": lambda case: write_table(
            case.gt_dir / "gt.csv",
            {key: f'"{MASKED_FACES.classes[0]}"' if value else 0 for key, value in three.items()},
        ),
    }
    return ways[name]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no gt.csv", "there is no gt.csv, expected columns ImageID and ans: {gt}/gt.csv"),
        ("no output.csv", "there is no output.csv, expected columns ImageID and ans: {out}/output.csv"),
        ("empty folder", "SM_GROUND_TRUTH_DIR is empty, expected gt.csv: {gt}"),
        ("empty file", "gt.csv starts with '', expected ImageID and ans: {gt}/gt.csv"),
        ("only a header", "output.csv has no rows, expected one for each image: {out}/output.csv"),
        ("other columns", "output.csv starts with 'image,label', expected ImageID and ans: {out}/output.csv"),
        ("no ans", "gt.csv starts with 'ImageID,label', expected ImageID and ans: {gt}/gt.csv"),
        (
            "missing",
            f"output.csv has no row for 2 images ({name_of(1)}, {name_of(2)}), "
            "expected all that gt.csv lists: {out}/output.csv",
        ),
        (
            "unknown",
            "output.csv has rows for 4 images (0.jpg, 1.jpg, 2.jpg, ...), "
            "expected only what gt.csv lists: {out}/output.csv",
        ),
        ("twice", "output.csv has several rows for 1 image (a.jpg), expected one for each: {out}/output.csv"),
        ("cut off", "row 2 of output.csv does not fill the 2 columns of its header: {out}/output.csv"),
        ("too wide", "row 1 of output.csv does not fill the 2 columns of its header: {out}/output.csv"),
        ("no id", "row 1 of output.csv does not fill the 2 columns of its header: {out}/output.csv"),
        ("quotes", "output.csv cannot be read as csv in UTF-8 (',' expected after '\"'): {out}/output.csv"),
        ("18", "column ans holds '18', expected only numbers from 0 to 17 or only class names: {out}/output.csv"),
        ("-1", "column ans holds '-1', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv"),
        ("1.5", "column ans holds '1.5', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv"),
        ("no truth", "column ans holds '', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv"),
        (
            "mixture",
            "column ans mixes class numbers and names, "
            "expected only numbers from 0 to 17 or only class names: {gt}/gt.csv",
        ),
    ],
)
def test_a_mistake_in_the_tables_is_one_sentence(case: Case, name: str, sentence: str) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    breaking(name)(case)
    with pytest.raises(DataError) as error:
        case.run()
    assert str(error.value) == sentence.format(gt=case.gt_dir, out=case.pred_dir)
    assert not (case.pred_dir / "evaluation.json").exists()


def test_a_file_that_is_no_text_is_refused(case: Case) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    breaking("bytes")(case)
    with pytest.raises(DataError, match=r"output\.csv cannot be read as csv in UTF-8"):
        case.run()


def test_the_report_of_before_survives_a_mistake(case: Case) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    before = case.run()
    breaking("18")(case)
    with pytest.raises(DataError):
        case.run()
    assert json.loads((case.pred_dir / "evaluation.json").read_text()) == before


def test_tables_from_windows_and_excel_are_read(case: Case) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    for path in (case.gt_dir / "gt.csv", case.pred_dir / "output.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",", b", "))
    assert values_of(case.run())["accuracy"] == 1.0


def test_further_columns_are_ignored(case: Case) -> None:
    case.write([0, 1], [0, 1])
    rows = {name_of(index): f"{index},read,0.5" for index in range(2)}
    write_table(case.pred_dir / "output.csv", rows, "ImageID,ans,status,probability")
    assert values_of(case.run())["accuracy"] == 1.0
