"""Runs that were stopped or killed, and whose checkpoints are in their run folder, where no later run looks for them.

With SM_CHECKPOINT_DIR, as make and SageMaker set it, the same command resumes.
"""

import re
import shlex
import sys
from pathlib import Path

from training.checkpoint import IN_RUN_FOLDER
from training.start import read_kept

REPORT = "report"  # folder in the run folder, written at the end of a run
_LAST_FILE = "report.html"  # of a report


def mention_unfinished(run_dir: Path) -> None:
    """Warn of the newest unfinished run in a run folder or its successors (exp2, ...), and say how to resume it."""
    if found := find_unfinished(run_dir):
        print(
            f"warning: this run starts from scratch, and an earlier one is not finished; to resume that one, add "
            f"{resume_flag(found[-1])}",
            file=sys.stderr,
        )


def find_unfinished(run_dir: Path) -> list[Path]:
    """Return the checkpoint folders of runs that took a step and have no report, the newest last."""
    pattern = re.compile(re.escape(run_dir.name) + r"\d*")
    runs = [run for run in run_dir.parent.glob("*") if pattern.fullmatch(run.name)]
    folders = [run / IN_RUN_FOLDER for run in runs if not (run / REPORT / _LAST_FILE).exists()]
    started = [folder for folder in folders if read_kept(folder).fingerprint]
    return sorted(started, key=lambda folder: folder.stat().st_mtime)


def resume_flag(folder: Path) -> str:
    """Return the words of a command line that resume the run with these checkpoints."""
    return f"--checkpoint-dir {shlex.quote(str(folder))}"
