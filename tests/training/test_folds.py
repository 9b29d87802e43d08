"""A fold is a process of its own: what it says, how it ends and the signals it gets are passed on."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import TrainPaths
from runtime.errors import TrainingError
from training import folds
from training.folds import Fold
from training.worker_processes import StopSignals

STUB = """
import json, os, signal, sys, time
from pathlib import Path
flags = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
run = Path(flags["--output-dir"]) / "exp"
run.mkdir(parents=True, exist_ok=True)
(run / "argv").write_text(json.dumps([sys.argv[1:], os.getsid(0) == os.getpid()]))
def finish():
    (run / "predictions.csv").write_text("")
"""
ENDS_IN_ORDER = """
def save(number, frame):
    (run / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
os.kill(os.getppid(), signal.{name})
time.sleep(600)
"""
Train = Callable[..., Fold]


@pytest.fixture
def stop() -> Iterator[StopSignals]:
    """Listen for signals to stop, and restore what was there before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    before[signal.SIGQUIT] = signal.getsignal(signal.SIGQUIT)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's; in the background, they would stay ignored
        signal.signal(number, signal.SIG_DFL)
    yield StopSignals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: StopSignals) -> Train:
    """Return a function that trains fold 2 of 3 with a program that ends with some lines."""
    script = tmp_path / "train.py"
    monkeypatch.setattr(folds, "_TRAIN", script)

    def run(lines: str, resume: str = "auto") -> Fold:
        script.write_text(STUB + lines)
        fold = Fold(2, 3, tmp_path / "cv")
        paths, words = TrainPaths(data_dir=tmp_path / "a b"), ["--lr=1", "--resize", "96", "72"]
        fold.train(paths, tmp_path / "store", words, stop, resume=resume)
        return fold

    return run


def test_a_fold_gets_its_options_its_own_folders_and_the_store_of_all(train: Train, tmp_path: Path) -> None:
    fold = train("finish()")
    (path,) = fold.predictions()
    words, has_session = json.loads((path.parent / "argv").read_text())
    own = tmp_path / "cv/fold-2"
    assert words == [
        *("--lr=1", "--resize", "96", "72", "--fold", "2/3"),
        *(f"--data-dir={tmp_path}/a b", f"--model-dir={own}/model", f"--output-dir={own}/output"),
        *(f"--checkpoint-dir={tmp_path}/cv/checkpoints/fold-2", f"--store-dir={tmp_path}/store"),
    ]
    assert has_session, "Ctrl-C reaches it once"


def test_predictions_of_an_earlier_run_do_not_count(train: Train) -> None:
    train("finish()")
    with pytest.raises(TrainingError, match="fold 2 of 3 was stopped before its end; the same command resumes"):
        train("")


@pytest.mark.parametrize("end", ["sys.exit(1)", "sys.exit(2)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_training_that_is_rejected_leaves_the_predictions_of_the_model_that_is_there(train: Train, end: str) -> None:
    publish = "(run / '../../model').mkdir(exist_ok=True); (run / '../../model/model.json').write_text({!r})\n"
    fold = train(publish.format("first") + "finish()")
    with pytest.raises((SystemExit, TrainingError)):
        train(end)
    assert [path.name for path in fold.predictions()] == ["predictions.csv"]
    with pytest.raises((SystemExit, TrainingError)):
        train(publish.format("second") + end)
    assert not fold.predictions(), "another model is there, which has not made them"
    assert not [*fold.output_dir.glob("*/earlier*")]


@pytest.mark.parametrize(("code", "remedy"), [(1, "; the same command resumes"), (2, "")])
def test_the_exit_code_of_a_training_that_fails_is_that_of_the_command(
    train: Train, code: int, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 is that of a wrong option, with which the same command would fail again."""
    with pytest.raises(SystemExit) as ended:
        train(f"sys.exit({code})")
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(f"fold 2 of 3 failed, see its message above{remedy}\n")


def test_a_training_that_the_kernel_ends_is_a_sentence(train: Train) -> None:
    with pytest.raises(TrainingError, match="fold 2 of 3 was ended by signal 9, which the kernel sends when memory"):
        train("os.kill(os.getpid(), signal.SIGKILL)")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_to_stop_is_a_sigterm_for_the_training(
    train: Train, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train(ENDS_IN_ORDER.replace("{name}", name))
    assert ended.value.code == 128 + signal.Signals[name]
    assert (tmp_path / "cv/fold-2/output/exp/saved").exists()
    assert "stopped in fold 2 of 3; the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", ENDS_IN_ORDER])
def test_a_command_that_never_resumes_is_not_said_to_resume(
    train: Train, lines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, TrainingError)) as ended:
        train(lines.replace("{name}", "SIGTERM"), resume="never")
    said = f"{capsys.readouterr().err}{ended.value}"
    assert "; the same command resumes without --resume never (RESUME=never), with which all folds are" in said
