"""Is the job right, and fast, on the GPU of this machine?

    python tests/benchmarks/gpu_check.py right     four minutes: results, bits, memory
    python tests/benchmarks/gpu_check.py fast      four minutes: speed, serving
    python tests/benchmarks/gpu_check.py           everything, 25 minutes
    python tests/benchmarks/gpu_check.py memory    a part by its name; --list names them all

It needs a checkout, a GPU, and a Python with torch 2.10 or newer; the lock file is not needed, and images are drawn.
Each part is a process of its own with a time limit. After each part result.json and result.md are written, so a run
that is cut keeps what it has. Exit code: 0 if every part ran and met its bars, 1 if not, 2 without a GPU.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_parts import plan
from benchmarks.gpu_parts.check import MET, MISSED, UNJUDGED
from benchmarks.gpu_parts.table import markdown

ROOT = Path(__file__).resolve().parents[2]
RUN_PART = Path(__file__).with_name("gpu_parts") / "run_part.py"
PASSED, CUT, FAILED, NOT_JUDGED = "passed", "cut", "failed", "numbers not judged"
NO_GPU = 2  # exit code


class Driver:
    """Runs parts one after the other and writes what they found after each."""

    def __init__(self, folder: Path, form: str, seconds: float, *, judge_values: bool, command: str) -> None:
        self.folder, self.form, self.judge_values = folder, form, judge_values
        self.ends = time.monotonic() + seconds
        self.record: dict[str, Any] = {"command": command, "form": form, "judges_values": judge_values, "parts": []}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, parts: list[plan.Part]) -> int:
        """Run the parts, stop early if the environment does not pass, and return the exit code."""
        for part in parts:
            found = self._run_part(part)
            self.record["parts"].append(found)
            self._save()
            print(f"{part.name}: {found['result']}, {found['seconds']:.0f} s {found['reason']}".rstrip(), flush=True)
            if found["no_gpu"]:
                print(f"gpu-check: {found['no_gpu']}", file=sys.stderr)
                return NO_GPU
            if part.name == "environment" and found["result"] not in (PASSED, NOT_JUDGED):
                break
        good = [found["result"] in (PASSED, NOT_JUDGED) for found in self.record["parts"]]
        return 0 if len(good) == len(parts) and all(good) else 1

    def _run_part(self, part: plan.Part) -> dict[str, Any]:
        """Run a part in a process of its own, for its limit at most, and return what it found."""
        started, file = time.monotonic(), self.folder / f"{part.name}.json"
        file.unlink(missing_ok=True)
        limit = min(part.limit(self.form), self.ends - started)
        line = [sys.executable, str(RUN_PART), part.name, "--file", str(file), "--form", self.form]
        line += ["--seconds", f"{limit:.0f}"] + ([] if self.judge_values else ["--no-values"])
        log = self.folder / f"{part.name}.log"
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch, log.open("w") as output:
            paths = os.pathsep.join(str(ROOT / name) for name in ("code", "container", "tests"))
            environ = os.environ | {"PYTHONPATH": paths, "TMPDIR": scratch}  # of a part that is cut, nothing is left
            environ["PYTHONSAFEPATH"] = "1"  # the files beside a script do not hide modules of the same name in code/
            code = _run_for(limit, line, environ, output.fileno()) if limit > 0 else None
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"no_gpu": "", "rows": []}
        result, reason = ("no GPU", "") if found["no_gpu"] else self._result(code, found["rows"], log, limit)
        taken = {"seconds": round(time.monotonic() - started, 1), "exit_code": code}
        return {"name": part.name, "about": part.about, "result": result, "reason": reason, **taken, **found}

    def _result(self, code: int | None, rows: list[dict[str, Any]], log: Path, limit: float) -> tuple[str, str]:
        """Return the result of a part and the reason, which is empty if it passed."""
        missed = [row["name"] for row in rows if row["result"] == MISSED]
        if code is None:
            return CUT, f"not done within {max(0, limit):.0f} s" + (f"; missed: {', '.join(missed)}" if missed else "")
        if code:
            last = [text for text in log.read_text(errors="replace").splitlines() if text.strip()][-1:]
            return FAILED, f"exit code {code}: {''.join(last)[:200]}"
        if missed:
            return MISSED, ", ".join(missed)
        if any(row["result"] in (MET, UNJUDGED) for row in rows):
            return PASSED if self.judge_values else NOT_JUDGED, ""
        return "skipped", "; ".join(row["reason"] for row in rows if row["reason"]) or "nothing was checked"

    def _save(self) -> None:
        for name, text in (("result.json", json.dumps(self.record, indent=1) + "\n"), ("result.md", self.table)):
            temporary = self.folder / f".{name}"
            temporary.write_text(text)
            temporary.replace(self.folder / name)

    @property
    def table(self) -> str:
        return markdown(self.record)


def _run_for(seconds: float, line: list[str], environ: dict[str, str], output: int) -> int | None:
    """Run a command with all that it starts for some seconds at most; returns its exit code, None if it was cut."""
    with subprocess.Popen(line, env=environ, stdout=output, stderr=output, start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["all"], help="right, fast, all, or parts by name")
    parser.add_argument("--output", type=Path, default=Path("out/gpu-check"), help="folder for the results")
    parser.add_argument(
        "--form", choices=("tiny", "short", "long"), help="how much a part checks; default: the group's"
    )
    parser.add_argument("--no-values", action="store_true", help="judge no computed number: for the stand-in for CUDA")
    parser.add_argument("--list", action="store_true", help="list the parts")
    options = parser.parse_args(words)
    if options.list:
        for part in plan.PARTS:
            print(f"{part.name:12} {part.group:6} {part.short:4} s {part.long:4} s  {part.about}")
        return 0
    try:
        parts, form, seconds = plan.chosen(options.parts)
    except plan.UnknownPartError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return NO_GPU
    form = options.form or form
    if form == "tiny":
        seconds = len(parts) * plan.TINY_SECONDS
    if options.no_values:
        print("--no-values: no computed number is judged, so nothing is shown about results or speed", flush=True)
    command = shlex.join(["python", "tests/benchmarks/gpu_check.py", *(sys.argv[1:] if words is None else words)])
    driver = Driver(options.output, form, seconds, judge_values=not options.no_values, command=command)
    code = driver.run(parts)
    print(f"\n{driver.table}\nresults: {options.output}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
