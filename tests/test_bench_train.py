"""The tables that the benchmark of training prints are those of its README."""

from pathlib import Path

from benchmarks.legs import Rate
from benchmarks.train_table import inference_row, ratio_with_cpu, training_row, training_table, worker_table

README = (Path(__file__).parent / "benchmarks" / "README.md").read_text()
RATES = {
    "Base original": Rate(1000.0, 0.1, 500.0),
    "Base cold": Rate(2040.0, 0.1, 1200.0),
    "Base warm": Rate(860.0, 0.1, 600.0),
    "Base later": Rate(33_400.0, 0.1, 20_000.0),
}


def test_a_row_divides_each_way_by_the_usual_pipeline() -> None:
    assert training_row("loader", RATES, "Base ") == "| loader | 2.0 | 0.86 | 33 | |"


def test_a_network_is_also_divided_by_its_ceiling() -> None:
    rates = {name.removeprefix("Base "): rate for name, rate in RATES.items()} | {"ceiling": Rate(35_000.0, 0, 1.0)}
    assert training_row("TinyModel, bf16", rates) == "| TinyModel, bf16 | 2.0 | 0.86 | 33 | 0.95 |"


def test_batch_inference_has_one_epoch() -> None:
    row = inference_row("batch inference", {"ours": Rate(1500.0, 0, 1.0), "original": Rate(1000.0, 0, 1.0)})
    assert row == "| batch inference | 1.5 | | | |"


def test_the_table_of_training_is_that_of_the_readme() -> None:
    head, line = training_table([]).splitlines()
    assert f"{head}\n{line}\n" in README


def test_the_table_of_workers_is_that_of_the_readme() -> None:
    cells = {"2 workers / 1 worker, both in 2 parts": ratio_with_cpu(RATES, "Base cold", "Base original")}
    head, line, row = worker_table({"TinyModel, bf16": cells, "resnet18, bf16": cells}).splitlines()
    assert f"{head}\n{line}\n" in README
    assert row == "| 2 workers / 1 worker, both in 2 parts | 2.04 (2.40) | 2.04 (2.40) |"
    assert row.partition(" | ")[0] in README
