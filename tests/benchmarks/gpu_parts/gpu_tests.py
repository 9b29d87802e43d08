"""The tests that are marked gpu, in one run of pytest without plugins."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu_parts.check import Check

ROOT = Path(__file__).resolve().parents[3]


def run(check: Check) -> None:
    """Run them; each must pass, and none may be skipped."""
    files = marked_files()
    report = check.file.with_name("gpu-tests.xml")
    report.unlink(missing_ok=True)
    line = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
    # Without pytest's own assert on the stand-in: it would print tensors of garbage, which takes endless memory.
    line += [] if check.judge_values else ["--assert=plain", "-p", "gpu.standin.values_off"]
    done = subprocess.run(line, cwd=ROOT)
    check.holds("pytest ran", done.returncode in (0, 1) and report.exists(), f"exit code {done.returncode}")
    if report.exists():
        judge(check, report)


def marked_files() -> list[str]:
    """Return the test files with a test that is marked gpu, but not those that run on the stand-in.

    Files without such a test may need what is not installed here.
    """
    paths = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "gpu")
    return [str(path) for path in paths if "\n@pytest.mark.gpu\n" in path.read_text()]


def judge(check: Check, report: Path) -> None:
    """Judge the tests in a report of pytest: how many passed, and which did not."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
    passed = [case for case in cases if not {child.tag for child in case} & {"failure", "error", "skipped"}]
    check.computes("tests that passed", 0 < len(passed) == len(cases), f"{len(passed)} of {len(cases)}", "all")
    for case in cases:
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                reason = (child.get("message") or "").splitlines() or [""]
                check.computes(case.get("name", ""), False, f"{child.tag}: {reason[0][:150]}", "passes")
