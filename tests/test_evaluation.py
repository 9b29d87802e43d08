"""evaluation.py: the scores equal scikit-learn's, SageMaker can read the report, and a mistake is one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

import evaluation
import metrics
from labels import MASKED_FACES, LabelScheme
from runtime.errors import ConfigError, DataError
from support.prediction_tables import PredictionTables, image_name, write_table

CLASSES = MASKED_FACES.num_classes
SCRIPT = Path(evaluation.__file__)
Labels = NDArray[np.int64]


class Case(PredictionTables):
    """A ground truth folder and an output folder, as users have them."""

    def run(self, *flags: str) -> dict[str, Any]:
        """Run the command in this process and return evaluation.json."""
        environ = {"SM_GROUND_TRUTH_DIR": str(self.gt_dir), "SM_OUTPUT_DATA_DIR": str(self.pred_dir)}
        evaluation.main(flags, environ)
        report: dict[str, Any] = json.loads((self.pred_dir / "evaluation.json").read_text())
        return report


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def random_predictions(images: int, seed: int = 0, right: float = 0.4) -> tuple[Labels, Labels]:
    generator = np.random.default_rng(seed)
    ground_truth, guesses = generator.integers(CLASSES, size=(2, images))
    return ground_truth, np.where(generator.random(images) < right, ground_truth, guesses)


def values_of(report: dict[str, Any]) -> dict[str, float]:
    metrics = report["multiclass_classification_metrics"]
    return {name: metric["value"] for name, metric in metrics.items() if name != "confusion_matrix"}


def spread_of(report: dict[str, Any]) -> dict[str, Any]:
    metrics = report["multiclass_classification_metrics"]
    return {name: metric["standard_deviation"] for name, metric in metrics.items() if name != "confusion_matrix"}


# The original's function


def test_rows_are_joined_by_id_and_never_by_position(case: Case) -> None:
    """The original gave 5.56 % to perfect predictions in another order."""
    case.write(range(CLASSES), range(CLASSES), seed=1)
    found = json.loads(evaluation.evaluation(case.gt_dir, str(case.pred_dir)))
    assert found["accuracy"]["value"] == found["f1"]["value"] == "100.00%"


def test_the_json_is_that_of_the_original(case: Case) -> None:
    ground_truth, predictions = random_predictions(200)
    case.write(ground_truth, predictions)
    accuracy = sklearn_metrics.accuracy_score(ground_truth, predictions)
    f1 = sklearn_metrics.f1_score(ground_truth, predictions, average="macro")
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


# The command


def test_the_originals_command_prints_the_json_and_a_line_and_leaves_a_report(case: Case) -> None:
    ground_truth, predictions = random_predictions(300)
    case.write(ground_truth, predictions)
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


def test_a_mistake_is_one_sentence_in_the_failure_file_and_nothing_is_written(case: Case, tmp_path: Path) -> None:
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


def test_an_invalid_flag_is_rejected_before_any_file_is_read(case: Case) -> None:
    with pytest.raises(ConfigError, match="bootstrap"):
        case.run("--bootstrap", "-1")


def test_flags_override_the_environment(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.write([0, 1], [0, 2])
    flags = ["--gt_dir", str(case.gt_dir), "--output-dir", str(case.pred_dir), "--legacy_format", "--bootstrap", "0"]
    evaluation.main(flags, {"SM_GROUND_TRUTH_DIR": str(tmp_path / "elsewhere")})
    assert '"value": "0.33%"' in capsys.readouterr().out


def test_a_missing_folder_is_named_by_the_variable_that_gave_it(case: Case, tmp_path: Path) -> None:
    case.write([0, 1], [0, 1])
    with pytest.raises(DataError, match=f"^SM_PREDICTION_DIR does not exist, .*: {tmp_path}/missing$"):
        case.run("--pred-dir", str(tmp_path / "missing"))
    with pytest.raises(DataError, match=f"^SM_OUTPUT_DATA_DIR does not exist, .*: {tmp_path}/missing$"):
        case.run("--output-dir", str(tmp_path / "missing"))


# evaluation.json


def test_every_value_is_that_of_scikit_learn(case: Case) -> None:
    ground_truth, predictions = random_predictions(500)
    case.write(ground_truth, predictions)
    values = values_of(case.run("--bootstrap", "0"))
    constant = np.full(500, np.bincount(ground_truth).argmax())
    expected = {"macro_f1": sklearn_metrics.f1_score(ground_truth, predictions, average="macro")}
    for suffix, given in (("", predictions), ("_best_constant_classifier", constant)):
        weighted: dict[str, Any] = {"average": "weighted", "zero_division": 0.0}
        expected[f"accuracy{suffix}"] = sklearn_metrics.accuracy_score(ground_truth, given)
        expected[f"weighted_recall{suffix}"] = sklearn_metrics.recall_score(ground_truth, given, **weighted)
        expected[f"weighted_precision{suffix}"] = sklearn_metrics.precision_score(ground_truth, given, **weighted)
        for name, beta in (("f0_5", 0.5), ("f1", 1.0), ("f2", 2.0)):
            score = sklearn_metrics.fbeta_score(ground_truth, given, beta=beta, **weighted)
            expected[f"weighted_{name}{suffix}"] = score
    for position, task in enumerate(MASKED_FACES.tasks):
        task_labels = [MASKED_FACES.decode(label)[position] for label in ground_truth]
        task_predictions = [MASKED_FACES.decode(label)[position] for label in predictions]
        expected[f"{task.name}_accuracy"] = sklearn_metrics.accuracy_score(task_labels, task_predictions)
        expected[f"{task.name}_macro_f1"] = sklearn_metrics.f1_score(task_labels, task_predictions, average="macro")
    assert values == pytest.approx(expected)


def test_values_are_those_of_sagemakers_own_example() -> None:
    """Developer guide, Model Quality Metrics, multiclass: rows are the ground truth, its constant classifier is "1"."""
    values = evaluation.statistics(np.array([[1180, 510], [268, 138]]), LabelScheme("two", ("0", "1")))
    assert values["accuracy"] == pytest.approx(0.6288167938931297)
    assert values["weighted_recall"] == pytest.approx(0.6288167938931297)
    assert values["weighted_precision"] == pytest.approx(0.6983172269629505)
    assert values["weighted_f0_5"] == pytest.approx(0.6803947317178771)
    assert values["weighted_f1"] == pytest.approx(0.6571162346664904)
    assert values["weighted_f2"] == pytest.approx(0.6384024354394601)


def test_the_confusion_matrix_is_nested_by_ground_truth_then_prediction(case: Case) -> None:
    ground_truth, predictions = random_predictions(300)
    case.write(ground_truth, predictions)
    confusion = case.run("--bootstrap", "0")["multiclass_classification_metrics"]["confusion_matrix"]
    names = [str(label) for label in range(CLASSES)]
    assert list(confusion) == names
    assert all(list(row) == names for row in confusion.values())
    expected = sklearn_metrics.confusion_matrix(ground_truth, predictions, labels=range(CLASSES))
    assert [list(row.values()) for row in confusion.values()] == expected.tolist()


def test_sagemaker_can_read_the_report(case: Case) -> None:
    """Its readers take the first group: a value and a standard deviation for everything but the matrix."""
    ground_truth, predictions = random_predictions(100)
    case.write(ground_truth, predictions)
    report = case.run()
    assert next(iter(report)) == "multiclass_classification_metrics"
    for name, metric in report["multiclass_classification_metrics"].items():
        if name != "confusion_matrix":
            assert set(metric) == {"value", "standard_deviation"}
            assert isinstance(metric["value"], float)
            assert isinstance(metric["standard_deviation"], float)


def test_details_name_the_basis_of_the_metrics(case: Case) -> None:
    ground_truth, predictions = random_predictions(200)
    case.write(ground_truth, predictions)
    details = case.run("--seed", "7", "--bootstrap", "20")["details"]
    support = np.bincount(ground_truth, minlength=CLASSES)
    assert details["pictures"] == 200
    assert details["unanswered"] == 0
    assert details["persons"] is None
    assert (details["resampled"], details["resamples"], details["seed"]) == ("pictures", 20, 7)
    assert [row["name"] for row in details["classes"]] == list(MASKED_FACES.classes)
    assert [row["support"] for row in details["classes"]] == support.tolist()
    f1 = sklearn_metrics.f1_score(ground_truth, predictions, labels=range(CLASSES), average=None)
    assert [row["f1"] for row in details["classes"]] == pytest.approx(f1)
    assert details["versions"]["numpy"] == np.__version__


# Images without a prediction


def test_an_image_without_a_prediction_is_wrong_and_lowers_no_class_precision(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    ground_truth, predictions = random_predictions(300)
    gaps = np.arange(300) % 10 == 0
    case.write(
        ground_truth, ["" if gap else f"{predicted}.0" for gap, predicted in zip(gaps, predictions, strict=True)]
    )
    report = case.run()
    values, with_gaps = values_of(report), np.where(gaps, -1, predictions)
    known: dict[str, Any] = {"labels": range(CLASSES), "zero_division": 0.0}
    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(ground_truth, with_gaps))
    assert values["accuracy"] == pytest.approx(values["weighted_recall"])
    assert values["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(ground_truth, with_gaps, average="macro", **known)
    )
    assert values["weighted_precision"] == pytest.approx(
        sklearn_metrics.precision_score(ground_truth, with_gaps, average="weighted", **known)
    )
    confusion = report["multiclass_classification_metrics"]["confusion_matrix"]
    assert sum(row["unanswered"] for row in confusion.values()) == 30
    assert sum(sum(row.values()) for row in confusion.values()) == 300
    assert "unanswered" not in confusion
    assert report["details"]["unanswered"] == 30
    assert capsys.readouterr().out.endswith("unanswered=30;\n")


def test_predictions_that_are_all_empty_score_zero(case: Case) -> None:
    case.write([1, 2, 3], ["", "", ""])
    values = values_of(case.run())
    assert values["accuracy"] == values["macro_f1"] == values["mask_accuracy"] == 0.0


# The bootstrap


def test_the_standard_deviation_over_images_is_the_binomial_one(case: Case) -> None:
    ground_truth, predictions = random_predictions(800)
    case.write(ground_truth, predictions)
    report = case.run("--bootstrap", "4000")
    accuracy = values_of(report)["accuracy"]
    assert spread_of(report)["accuracy"] == pytest.approx((accuracy * (1 - accuracy) / 800) ** 0.5, rel=0.05)


def test_equal_images_of_one_person_count_as_one_image(case: Case) -> None:
    """With 7 equal images of each of 100 persons, the deviation is sqrt(7) times that over images."""
    ground_truth, predictions = (np.repeat(column, 7) for column in random_predictions(100))
    case.write(ground_truth, predictions)
    over_images = case.run("--bootstrap", "4000")
    case.write_persons(700, each=7)
    over_persons = case.run("--bootstrap", "4000")
    assert over_persons["details"]["resampled"] == "persons"
    assert over_persons["details"]["persons"] == 100
    ratio = spread_of(over_persons)["accuracy"] / spread_of(over_images)["accuracy"]
    assert ratio == pytest.approx(7**0.5, rel=0.07)


def test_every_standard_deviation_is_that_of_a_plain_loop(case: Case) -> None:
    ground_truth, predictions = random_predictions(210)
    case.write(ground_truth, predictions)
    case.write_persons(210, each=7)
    spread = spread_of(case.run("--bootstrap", "50", "--seed", "3"))
    generator = np.random.default_rng(3)
    f1, age = [], []
    for _ in range(50):
        drawn = [person * 7 + image for person in generator.integers(30, size=30) for image in range(7)]
        f1.append(sklearn_metrics.f1_score(ground_truth[drawn], predictions[drawn], average="macro"))
        age.append(sklearn_metrics.accuracy_score(ground_truth[drawn] % 3, predictions[drawn] % 3))
    assert spread["macro_f1"] == pytest.approx(np.std(f1, ddof=1))
    assert spread["age_accuracy"] == pytest.approx(np.std(age, ddof=1))


def test_batches_of_resamples_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write(*random_predictions(60))
    whole = spread_of(case.run("--bootstrap", "40"))
    monkeypatch.setattr(evaluation, "STACK_ENTRIES", 7 * CLASSES**2)
    assert spread_of(case.run("--bootstrap", "40")) == pytest.approx(whole)


def test_the_seed_alone_decides_the_standard_deviation(case: Case) -> None:
    case.write(*random_predictions(60))
    assert case.run("--seed", "1") == case.run("--seed", "1")
    assert spread_of(case.run("--seed", "1")) != spread_of(case.run("--seed", "2"))


@pytest.mark.parametrize(("images", "resamples", "only"), [(20, "0", ""), (20, "1", "resample"), (1, "100", "image")])
def test_without_a_bootstrap_the_standard_deviation_is_the_text_nan(
    case: Case, images: int, resamples: str, only: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case.write(*random_predictions(images))
    report = case.run("--bootstrap", resamples)
    assert set(spread_of(report).values()) == {"NaN"}
    assert report["details"]["resampled"] is None
    assert report["details"]["resamples"] == 0
    said = f"warning: the metrics have no standard deviations, as there is one {only}\n"
    assert capsys.readouterr().err == (said if only else "")


def test_a_given_persons_file_overrides_the_one_beside_gt_csv(case: Case, tmp_path: Path) -> None:
    case.write([0, 1, 2, 3], [0, 1, 2, 4])
    case.write_persons(4, each=2)
    file = write_table(tmp_path / "who.csv", {image_name(index): index for index in range(4)}, "ImageID,person")
    assert case.run("--persons", str(file))["details"]["persons"] == 4
    assert case.run()["details"]["persons"] == 2


# Other label schemes


def write_scheme(case: Case, scheme: LabelScheme) -> None:
    (case.pred_dir / "scheme.json").write_text(json.dumps(scheme.to_dict()))


def test_a_scheme_without_tasks_is_scored_over_its_classes(case: Case) -> None:
    case.write(["cat", "dog", "fish", "dog"], [0, 1, 1, ""])
    write_scheme(case, LabelScheme("folders", ("cat", "dog", "fish")))
    report = case.run()
    assert values_of(report)["accuracy"] == 0.5
    assert [row["name"] for row in report["details"]["classes"]] == ["cat", "dog", "fish"]
    assert report["details"]["scheme"] == "folders"
    assert not any(name.startswith("mask_") for name in values_of(report))


def test_a_scheme_with_tasks_is_scored_by_task(case: Case) -> None:
    case.write([0, 17], [0, 16])
    write_scheme(case, MASKED_FACES)
    assert values_of(case.run())["gender_accuracy"] == 1.0


# Mistakes


def test_the_last_report_survives_a_mistake(case: Case) -> None:
    case.write([0, 1, 2], [0, 1, 2])
    before = case.run()
    case.write([0, 1, 2], [0, 1, 18])
    with pytest.raises(DataError):
        case.run()
    assert json.loads((case.pred_dir / "evaluation.json").read_text()) == before


# Confidence


def write_columns(case: Case, rows: list[str], header: str) -> None:
    """Write gt.csv with the classes 0, 1, 2, ... and output.csv with these cells after the ImageID."""
    case.write(list(range(len(rows))), list(range(len(rows))))
    write_table(case.output_csv, {image_name(index): row for index, row in enumerate(rows)}, header)


def test_the_calibration_error_comes_from_the_probabilities_of_inference(case: Case) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(CLASSES) * 0.1, 200)
    predictions = probabilities.argmax(1)
    labels = np.where(random.random(200) < 0.6, predictions, random.integers(CLASSES, size=200))
    case.write(labels, predictions)
    header = ",".join(["ImageID", "ans", *(f"probability_{label}" for label in range(CLASSES))])
    rows = {
        image_name(index): ",".join(map(str, [predictions[index], *probabilities[index].tolist()]))
        for index in range(1, 200)
    }
    write_table(case.output_csv, rows | {image_name(0): "," * CLASSES}, header)
    report = case.run("--bootstrap", "0")
    expected = metrics.calibration(labels[1:], probabilities[1:]).expected_error
    assert report["details"]["expected_calibration_error"] == pytest.approx(expected)
    assert "coverage" not in report["details"]


def test_coverage_and_precision_are_those_of_the_sure_predictions(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    write_columns(case, ["0,ok", "1,unsure", "0,ok", "3,ok", ",missing"], "ImageID,ans,status")
    details = case.run("--bootstrap", "0")["details"]
    assert (details["coverage"], details["sure_precision"]) == (3 / 5, pytest.approx(2 / 3))
    assert "coverage=0.6000; sure_precision=0.6667; unanswered=1;" in capsys.readouterr().out
    write_columns(case, ["0,unsure", "1,unsure"], "ImageID,ans,status")
    details = case.run("--bootstrap", "0")["details"]
    assert details["coverage"] == 0
    assert "sure_precision" not in details


@pytest.mark.parametrize("rows", [["0,new", "1,old"], ["0,ok", "1,"], [",ok", "1,ok"]])
def test_a_column_of_the_users_own_is_no_status(case: Case, rows: list[str]) -> None:
    write_columns(case, rows, "ImageID,ans,status")
    assert "coverage" not in case.run("--bootstrap", "0")["details"]


@pytest.mark.parametrize("cell", ["x", "nan", "1.5", ""])
def test_a_probability_that_is_none_is_a_sentence(case: Case, cell: str) -> None:
    header = ",".join(["ImageID", "ans", *(f"probability_{label}" for label in range(CLASSES))])
    write_columns(case, [f"0,{cell}" + ",0" * (CLASSES - 1)], header)
    with pytest.raises(DataError, match=r"probability .* not a number|not between 0 and 1"):
        case.run()


@pytest.mark.parametrize("count", [1, CLASSES - 1, CLASSES + 1])
def test_probabilities_of_other_classes_are_rejected(case: Case, count: int) -> None:
    """Those of a model with other classes, whose scheme.json was lost, would be scored as masked faces."""
    header = ",".join(["ImageID", "ans", *(f"probability_{label}" for label in range(count))])
    write_columns(case, ["0" + ",0.01" * count], header)
    with pytest.raises(DataError, match=rf"has {count} columns of probabilities, expected probability_0 to .*_17"):
        case.run()
