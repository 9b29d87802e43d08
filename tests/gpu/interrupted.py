"""A training on the stand-in that is killed once and resumed."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from gpu.standin.run import ROOT, Done, Settings, run_on_standin, standin_environ
from support.processes import Process, wait_until


def train_killed_once(
    command: Sequence[str | Path], environ: Mapping[str, str], counters: Path, **gpu: Unpack[Settings]
) -> Done:
    """Kill the command after the checkpoint of a step in SM_CHECKPOINT_DIR; return how the second one ended."""
    full = os.environ | standin_environ(counters, **gpu) | dict(environ)
    checkpoints = Path(environ["SM_CHECKPOINT_DIR"])
    with Process(command, cwd=ROOT, env=full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_until(lambda: any(checkpoints.glob("step-*[1-9].json")) or process.poll() is not None, seconds=300)
        process.kill()
        output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    return run_on_standin(command, environ, **gpu)
