"""The folds of cross-validation: each is a training in a process of its own, one after the other.

A signal to stop becomes a SIGTERM for the training that runs, which saves. A training ends with this process, even if
that is killed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from config import TrainPaths
from data.out_of_fold import PREDICTIONS_CSV
from runtime.arguments import flag_of
from runtime.errors import ConfigError, DataError, TrainingError
from runtime.json_files import read_json_object
from runtime.parent import end_with_parent
from training.worker_processes import StopSignals

_TRAIN = Path(__file__).parents[1] / "train.py"
_POLL_SECONDS = 0.05
_EARLIER = "earlier-predictions.csv"  # while the fold is trained again


class Fold:
    """One fold: its number, counted from 1, and where its files are below the folder of cross-validation."""

    def __init__(self, number: int, folds: int, folder: Path) -> None:
        self.number, self.folds = number, folds
        self.folder = folder / f"fold-{number}"
        self.model_dir, self.output_dir = self.folder / "model", self.folder / "output"
        self._description = self.model_dir / "model.json"

    @property
    def name(self) -> str:
        return f"fold {self.number} of {self.folds}"

    def predictions(self) -> list[Path]:
        """Return the predictions of its runs, the newest last; a run that is not finished has none."""
        return sorted(self.output_dir.glob(f"*/{PREDICTIONS_CSV}"), key=lambda path: path.stat().st_mtime)

    def settings(self) -> Mapping[str, Any]:
        """Return the options that its model was trained with; raises DataError if model.json does not tell them."""
        try:
            return dict(read_json_object(self._description)["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else repr(error)
            raise DataError(
                f"{self.folder.name} has no model that can be read ({reason}), expected a training that is finished; "
                "train it with the same --folds, or give the folder of the folds as --output-dir: "
                f"{self._description}"
            ) from None

    def _model_bytes(self) -> bytes | None:
        """Return what model.json holds, with the digest of the weights; None if there is none."""
        return self._description.read_bytes() if self._description.is_file() else None

    def train(
        self, paths: TrainPaths, store_dir: Path, options: Sequence[str], stop: StopSignals, *, resume: str = "auto"
    ) -> None:
        """Train the fold, or resume it, with the words `options`; a fold that is trained already takes seconds.

        `resume` is the value of --resume in `options`: never trains each fold from scratch at each start.

        Earlier predictions count no more, unless the training ends before it publishes another model, as one that is
        rejected does. Ends the process with the exit code of a training that fails, which has said why, and after a
        signal to stop. Raises TrainingError for one that a signal ended.
        """
        model, earlier = self._model_bytes(), [path.replace(path.with_name(_EARLIER)) for path in self.predictions()]
        folders = {
            "data_dir": paths.data_dir,
            "model_dir": self.model_dir,
            "output_dir": self.output_dir,
            "checkpoint_dir": (paths.checkpoint_dir or self.folder.parent / "checkpoints") / self.folder.name,
            "labels_dir": paths.labels_dir,
            "pretrained_dir": paths.pretrained_dir,
            "store_dir": store_dir,
        }
        words = [f"{flag_of(name)}={path}" for name, path in folders.items() if path]
        remedy = "the same command resumes"
        if resume == "never":
            remedy += " without --resume never (RESUME=never), with which all folds are trained from scratch again"
        print(self.name, flush=True)
        code = _run([sys.executable, str(_TRAIN), *options, "--fold", f"{self.number}/{self.folds}", *words], stop)
        keep = (code != 0 or stop.count > 0) and self._model_bytes() == model  # those of the model that is still there
        for path in earlier:
            if keep:
                path.replace(path.with_name(PREDICTIONS_CSV))
            else:
                path.unlink()
        if stop.count:
            print(f"stopped in {self.name}; {remedy}", file=sys.stderr, flush=True)
            sys.exit(128 + stop.number)
        if code < 0:
            raise TrainingError(
                f"the training of {self.name} was ended by signal {-code}, which the kernel sends when memory runs "
                f"out; {remedy}"
            )
        if code:
            then = "" if code == ConfigError.exit_code else f"; {remedy}"  # which would fail again
            print(f"{self.name} failed, see its message above{then}", file=sys.stderr, flush=True)
            sys.exit(code)
        if not self.predictions():
            raise TrainingError(f"the training of {self.name} was stopped before its end; {remedy}")


def _run(command: Sequence[str], stop: StopSignals) -> int:
    """Run a command and pass signals on; return its exit code, negative if a signal ended it.

    It has a session of its own: a Ctrl-C would reach it twice, and the second one ends it without saving.
    """
    passed_on = 0
    with subprocess.Popen(  # noqa: S603
        command, start_new_session=True, preexec_fn=partial(end_with_parent, os.getpid())
    ) as process:
        while process.poll() is None:
            if stop.count > passed_on:
                passed_on = stop.count
                process.send_signal(signal.SIGTERM)
            time.sleep(_POLL_SECONDS)
    return int(process.returncode)
