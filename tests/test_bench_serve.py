"""The benchmark of the server runs, and its tables say what was found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serve_load import Load
from benchmarks.serve_rows import ROWS, Found
from benchmarks.serve_table import bar_table, cpu_features, table

ROOT = Path(__file__).resolve().parent.parent


def found(per_second: float = 100.0, p99: float = 0.2, alone: float = 0.01, start: float = 1.0) -> Found:
    crowd, one = Load(per_second, 0.1, p99, 400), Load(1 / alone, alone, 2 * alone, 100)
    return Found(crowd, one, start, cpu=0.008, ceiling=125.0)


def test_the_table_has_a_row_for_each_server_with_its_medians() -> None:
    rounds = {"plain": [found(50), found(60), found(40)], "torch": [found(100), found(150), found(90)]}
    head, _, plain, torch = table(rounds).splitlines()
    cells = "| 100 ms | 200 ms | 10.0 ms | 1.0 s | 8.0 ms |"
    assert plain == f"| {ROWS['plain'].name} | 50 {cells} 0.40 |"
    assert torch == f"| {ROWS['torch'].name} | 100 (2.2 x) {cells} 0.80 |", "the median of 2, 2.5 and 2.25"
    assert plain.count("|") == head.count("|")


def test_a_bar_compares_rows_of_the_same_round() -> None:
    slow, fast = found(10, p99=2.0, alone=0.1, start=30), found(100)
    rounds = {
        "torch": [slow, fast, fast],
        "openvino": [found(12, p99=1.8, alone=0.07, start=3), found(120, p99=0.22, alone=0.007), found(114, p99=0.19)],
    }
    lines = [line.strip("| ").split(" | ") for line in bar_table(rounds).splitlines()[2:]]
    assert lines == [
        ["fp32: requests/s", "1.20", "at least 1.15", "yes"],
        ["fp32: p99", "0.95", "at most 1", "yes"],
        ["fp32: one client alone, p50", "0.70", "at most 0.8", "yes"],
        ["fp32: start to first response, seconds", "1.00", "at most 2", "yes"],
    ]


def test_a_bar_that_is_missed_says_no() -> None:
    rounds = {"torch16": [found()], "openvino16": [found(129, p99=0.21, alone=0.0066)]}
    assert [line.split()[-2] for line in bar_table(rounds).splitlines()[2:]] == ["no", "no", "no"]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_bf16 sse\n", "AMD EPYC: avx2, avx512_bf16"),
        ("Features\t: fp asimd bf16\n", "unknown CPU: asimd, bf16"),
        ("flags\t\t: fpu sse\n", "unknown CPU: none"),
    ],
)
def test_the_features_of_the_cpu_are_those_that_decide_about_speed(info: str, expected: str) -> None:
    assert cpu_features(info) == expected


@pytest.mark.slow
def test_the_benchmark_of_the_server_prints_both_tables() -> None:
    line = [sys.executable, "tests/benchmarks/bench_serve.py", "--model", "TinyModel", "--rows", "torch", "openvino"]
    options = ["--rounds", "1", "--seconds", "0.5", "--clients", "2"]
    done = subprocess.run([*line, *options], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=True)
    _, servers, bars = done.stdout.split("\n\n")
    assert [line.split(" | ")[0] for line in servers.splitlines()[2:]] == [
        f"| {ROWS[name].name}" for name in ("torch", "openvino")
    ]
    assert len(bars.splitlines()) == 6
