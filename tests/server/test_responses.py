"""A prediction has the format that the client accepts."""

import json
from pathlib import Path

import pytest

from calibration import UnsureThresholds
from labelling.labelling import labelling_of
from labels import MASKED_FACES, LabelScheme
from server.responses import CSV, MAX_ACCEPT, Format, Writer
from server.settings import ServeConfig
from support.serving import InProcess, csv_row, encoded_image, publish_model

GOOD = encoded_image(1)


def test_a_prediction_has_the_class_and_its_attributes(server: InProcess) -> None:
    response = server.post(encoded_image(3))
    assert response.headers["content-type"] == "application/json"
    record = response.json()
    assert list(record) == ["prediction", "label", "mask", "gender", "age", "probability"]
    label = record["prediction"]
    assert record["label"] == MASKED_FACES.classes[label]
    assert {name: record[name] for name in ("mask", "gender", "age")} == MASKED_FACES.describe(label)
    assert 1 / 18 < record["probability"] <= 1


@pytest.mark.parametrize("accept", ["application/json;verbose", "application/json; verbose=true", "*/*;verbose"])
def test_verbose_adds_every_probability_and_the_names_of_the_classes(server: InProcess, accept: str) -> None:
    record = server.post(encoded_image(3), accept=accept).json()
    assert record["labels"] == list(MASKED_FACES.classes)
    assert sum(record["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert record["probabilities"][record["prediction"]] == record["probability"] == max(record["probabilities"])


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/csv;q=0.5, application/jsonlines", "application/jsonlines"),
        ("application/json;q=0, text/csv", "text/csv; charset=utf-8"),
        ("application/json;q=0, */*", "text/csv; charset=utf-8"),
        ("*/*, application/json;q=0.1, text/*;q=0", "application/jsonlines"),
        ("text/csv, application/json", "text/csv; charset=utf-8"),
        ("text/csv;q=nan, application/jsonlines", "application/jsonlines"),
        ("application/json;q=nonsense, application/jsonlines;q=0.1", "application/jsonlines"),
    ],
)
def test_the_client_chooses_the_format(server: InProcess, accept: str, media_type: str) -> None:
    response = server.post(encoded_image(3), accept=accept)
    assert (response.status, response.headers["content-type"]) == (200, media_type)


def test_an_accept_header_longer_than_any_client_sends_is_not_parsed(server: InProcess) -> None:
    response = server.post(GOOD, accept=("*," * MAX_ACCEPT)[:MAX_ACCEPT])
    assert response.status == 200
    response = server.post(GOOD, accept=("*," * MAX_ACCEPT)[: MAX_ACCEPT + 1])
    assert (response.status, response.error) == (431, "headers_too_large")


def test_json_lines_and_csv_are_one_line_with_the_same_prediction(server: InProcess) -> None:
    record = server.post(encoded_image(3), accept="application/json;verbose").json()
    probabilities = [str(value) for value in record.pop("probabilities")]
    del record["labels"]
    lines = server.post(encoded_image(3), accept="application/jsonlines").text
    assert lines.endswith("}\n")
    assert json.loads(lines) == record
    cells = [*(str(value) for value in record.values()), ""]
    assert csv_row(server.post(encoded_image(3), accept="text/csv")) == cells
    assert csv_row(server.post(encoded_image(3), accept="text/csv;verbose")) == cells + probabilities


def test_classes_of_another_scheme_have_names_and_no_attributes(tmp_path: Path) -> None:
    scheme = LabelScheme("folders", ("cat", "d\N{LATIN SMALL LETTER O WITH DIAERESIS}g, wet"))
    with InProcess(ServeConfig(model_dir=publish_model(tmp_path / "pets", scheme), device="cpu")) as server:
        record = server.until_ready().post(GOOD).json()
        assert list(record) == ["prediction", "label", "probability"]
        assert record["label"] == scheme.classes[record["prediction"]]
        cells = csv_row(server.post(GOOD, accept="text/csv;verbose"))
    assert cells[1] == record["label"]
    assert len(cells) == 4 + 2


def test_predictions_below_the_threshold_of_their_class_are_unsure_in_all_formats(tmp_path: Path) -> None:
    scheme = LabelScheme("folders", ("cat", "dog"))
    thresholds = UnsureThresholds(0.9, (0.0, 1.01), (3, 0))
    model_dir = publish_model(tmp_path / "pets", scheme, unsure_thresholds=thresholds)
    with InProcess(ServeConfig(model_dir=model_dir, device="cpu")) as server:
        server.until_ready()
        bodies = [encoded_image(seed) for seed in range(8)]
        for body in bodies:
            record = server.post(body).json()
            assert list(record) == ["prediction", "label", "probability", "unsure"]
            assert record["unsure"] is (record["prediction"] == 1)
            assert json.loads(server.post(body, accept="application/jsonlines").text) == record
            cells = csv_row(server.post(body, accept="text/csv;verbose"))
            assert cells[3:5] == ["true" if record["unsure"] else "false", ""]
            assert len(cells) == 5 + 2
        assert {server.post(body).json()["unsure"] for body in bodies} == {True, False}
    for limits, row in ((None, b",,,empty: no bytes\n"), (thresholds, b",,,,empty: no bytes\n")):
        assert Writer(labelling_of(scheme), limits).error("empty", "no bytes", Format(CSV)).body == row
