"""The epoch that becomes the model is the one that the options name, also if they change when a run is resumed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from config import TrainConfig
from runtime.errors import CheckpointError
from support.drawing import draw_pets
from train import train

pytestmark = pytest.mark.usefixtures("without_report")
# the rate is too small to change a score, so the first epoch is the best one
UNCHANGING = TrainConfig(model="BaseModel", epochs=2, batch_size=4, resize=(32, 24), val_ratio=0.5, lr=1e-12)
Train = Callable[..., dict[str, float]]


@pytest.fixture
def run(tmp_path: Path) -> Train:
    pets, output, checkpoints = draw_pets(tmp_path / "pets", 8, (32, 24)), tmp_path / "output", tmp_path / "checkpoints"
    return partial(train, pets, tmp_path / "model", output_dir=output, checkpoint_dir=checkpoints)


def test_the_last_epoch_cannot_be_selected_once_only_the_best_is_kept(
    run: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run(UNCHANGING)
    assert "finished: best epoch 1 of 2;" in capsys.readouterr().out
    by_force = replace(UNCHANGING, resume="force", select="last")
    with pytest.raises(
        CheckpointError, match=r"kept the network of epoch 1, the best of 2, and has no epoch left; raise"
    ):
        run(by_force)
    run(UNCHANGING)  # the checkpoint is still that of the run
    run(replace(by_force, epochs=3))
    assert "finished: last epoch 3 of 3;" in capsys.readouterr().out


def test_a_later_epoch_is_compared_by_the_metric_of_the_resumed_run(
    run: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run(replace(UNCHANGING, epochs=1))
    assert before["accuracy"] > before["f1"], "or else nothing is shown here"
    capsys.readouterr()
    run(replace(UNCHANGING, resume="force", metric="accuracy"))
    assert "finished: best epoch 1 of 2;" in capsys.readouterr().out
