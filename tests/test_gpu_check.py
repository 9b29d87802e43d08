"""`make gpu-check`: parts by name, limits, what a cut run keeps, and exit codes. The parts have a file of their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_parts import plan
from benchmarks.gpu_parts.check import SKIPPED
from support.making import own_environ

ROOT = Path(__file__).parents[1]
Run = Callable[..., tuple[int, dict[str, Any]]]
# What each fake part does with its `check`.
FAKE_PARTS = {
    "environment": "check.holds('driver', True)",
    "good": "check.at_most('error', 1e-6, 1e-5); check.note('speed', 7)",
    "bad": "check.at_most('error', 1e-3, 1e-5)",
    "slow": "check.holds('first', True); import time; time.sleep(60)",
    "broken": "raise RuntimeError('the card fell out')",
    "empty": "check.skip('everything', 'no reason')",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the check on fake parts; returns the exit code and result.json."""
    script = "import sys\nfrom benchmarks.gpu_parts.check import Check\nfrom pathlib import Path\n"
    script += "check = Check(Path(sys.argv[3]), judge_values='--no-values' not in sys.argv)\n"
    script += "exec({parts}[sys.argv[1]])\n"

    def run(*names: str, options: tuple[str, ...] = (), **changed: str) -> tuple[int, dict[str, Any]]:
        parts = FAKE_PARTS | changed
        (tmp_path / "run_part.py").write_text(script.format(parts=parts))
        monkeypatch.setattr(gpu_check, "RUN_PART", tmp_path / "run_part.py")
        listed = [plan.Part(name, f"about {name}", "right", 9, 3 if name == "slow" else 60) for name in parts]
        monkeypatch.setattr(plan, "PARTS", tuple(listed))
        (tmp_path / "out").mkdir(exist_ok=True)
        code = gpu_check.main(["environment", *names, "--output", str(tmp_path / "out"), *options])
        file = tmp_path / "out" / "result.json"
        return code, json.loads(file.read_text()) if file.exists() else {}

    return run


def results(record: dict[str, Any]) -> dict[str, str]:
    return {part["name"]: part["result"] for part in record["parts"]}


# ---- the driver ----


def test_a_check_whose_parts_meet_their_bars_passes(run: Run, tmp_path: Path) -> None:
    code, record = run("good")
    assert code == 0
    assert results(record) == {"environment": "passed", "good": "passed"}
    table = (tmp_path / "out" / "result.md").read_text()
    assert "| error | 1e-06 | at most 1e-05 | met |" in table


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("bad", "missed", "error"),
        ("broken", "failed", "the card fell out"),
        ("slow", "cut", "not done within 3 s"),
        ("empty", "skipped", "no reason"),
    ],
)
def test_a_part_that_shows_nothing_good_fails_the_check_and_the_others_still_run(
    run: Run, name: str, result: str, reason: str
) -> None:
    code, record = run(name, "good")
    assert code == 1
    assert results(record) == {"environment": "passed", name: result, "good": "passed"}
    (part,) = [part for part in record["parts"] if part["name"] == name]
    assert reason in part["reason"]


def test_a_part_that_is_cut_keeps_what_it_has_found(run: Run) -> None:
    _, record = run("slow")
    assert [row["name"] for row in record["parts"][1]["rows"]] == ["first"]


def test_results_are_written_after_each_part(run: Run, tmp_path: Path) -> None:
    copy = f"import shutil; shutil.copy({str(tmp_path / 'out/result.json')!r}, {str(tmp_path / 'then.json')!r})"
    run("good", "bad", bad=copy)
    assert results(json.loads((tmp_path / "then.json").read_text())) == {"environment": "passed", "good": "passed"}


def test_without_a_gpu_it_says_so_in_one_sentence_and_is_no_pass(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    code, record = run("good", environment="check.without_gpu('there is no GPU')")
    assert code == 2
    assert results(record) == {"environment": "no GPU"}
    assert capfd.readouterr().err == "gpu-check: there is no GPU\n"


def test_nothing_runs_in_an_environment_that_does_not_work(run: Run) -> None:
    code, record = run("good", environment="check.holds('cuInit', False)")
    assert code == 1
    assert results(record) == {"environment": "missed"}


def test_without_values_no_number_is_judged_and_the_check_says_so(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    code, record = run("bad", options=("--no-values",))
    assert code == 0
    assert results(record)["bad"] == "numbers not judged"
    assert capfd.readouterr().out.startswith("--no-values: no computed number is judged")


def test_what_a_cut_part_has_started_ends_with_it(
    run: Run, tmp_path: Path, new_processes: Callable[[], list[int]]
) -> None:
    run("slow", slow="import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)")
    assert new_processes() == []


def test_an_unknown_part_lists_the_choices_nearest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["memroy"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gpu-check: there is no part 'memroy' of the GPU check; choose from memory, ")
    assert all(part.name in message for part in plan.PARTS)


def test_make_passes_the_part_on_and_installs_nothing() -> None:
    """BIN is where make looks for the Python of .venv."""
    command = ["make", "--no-print-directory", "gpu-check", "PART=fats", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(command, cwd=ROOT, env=own_environ(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu-check: there is no part 'fats' of the GPU check; choose from fast, ")
    assert done.stdout == ""


# ---- the plan ----


@pytest.mark.parametrize("group", plan.GROUPS)
def test_the_limits_of_a_group_fit_into_its_time(group: str) -> None:
    parts, form, seconds = plan.chosen([group])
    assert seconds == plan.GROUPS[group]
    assert sum(part.limit(form) for part in parts) <= seconds
    assert parts[0].name == "environment"


def test_speed_is_measured_last_and_every_part_is_in_a_group() -> None:
    right, fast = ([part.name for part in plan.chosen([group])[0]] for group in ("right", "fast"))
    everything = [part.name for part in plan.chosen(["all"])[0]]
    assert everything == [part.name for part in plan.PARTS]
    only_long = {part.name for part in plan.PARTS if not part.short}
    assert [name for name in everything if name not in only_long] == right + fast[1:]


def test_a_part_by_its_name_runs_in_its_long_form_after_the_environment() -> None:
    parts, form, seconds = plan.chosen(["memory"])
    assert [part.name for part in parts] == ["environment", "memory"]
    assert form == "long"
    assert seconds == sum(part.long for part in parts)


@pytest.mark.parametrize("part", plan.PARTS, ids=lambda part: part.name)
def test_every_part_has_its_file(part: plan.Part) -> None:
    text = (ROOT / "tests/benchmarks/gpu_parts" / f"{part.module}.py").read_text()
    assert "\ndef run(check: Check) -> None:\n" in text


def test_a_part_names_the_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu_parts import run_part

    monkeypatch.setattr(run_part, "find_spec", lambda name: None if name == "pytest" else name)
    monkeypatch.setattr(sys, "argv", ["run_part.py", "gpu-tests", "--file", str(tmp_path / "found.json")])
    run_part.main()
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (row["result"], row["reason"]) == (SKIPPED, "not installed here: pytest")
