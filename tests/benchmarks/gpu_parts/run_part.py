"""One part of the GPU check in a process of its own; gpu_check.py starts it and ends it at its limit."""

import argparse
import importlib
import os
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu_parts import plan
from benchmarks.gpu_parts.check import BLACK, Check

LEFT_TO_END_SECONDS = 3  # for the last item of a part, before it is cut


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=[part.name for part in plan.PARTS])
    parser.add_argument("--file", type=Path, required=True, help="file for what it finds")
    parser.add_argument("--form", default="long", choices=("tiny", "short", "long"), help="how much it checks")
    parser.add_argument("--seconds", type=float, default=600, help="time that the part may take")
    parser.add_argument("--no-values", action="store_true", help="judge no number that was computed")
    options = parser.parse_args()
    (part,) = [part for part in plan.PARTS if part.name == options.part]
    check = Check(
        options.file,
        form=options.form,
        judge_values=not options.no_values,
        seconds=options.seconds - LEFT_TO_END_SECONDS,
    )
    if options.no_values:
        os.environ[BLACK] = "1"
    if missing := [name for name in part.needs if find_spec(name) is None]:
        check.skip(part.name, f"not installed here: {', '.join(missing)}")
        return
    importlib.import_module(f"benchmarks.gpu_parts.{part.module}").run(check)


if __name__ == "__main__":
    main()
