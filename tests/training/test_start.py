"""What a run keeps is settled when it starts, whatever the environment holds."""

import pytest
import torch

from config import TrainConfig
from training.start import Kept, settle
from training.workers import Workers


@pytest.mark.parametrize("text", ["", "2,1", " 2 ", "many", "-1", "0"])
def test_any_list_of_openmp_threads_lets_a_run_start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    args, left_out = settle(TrainConfig(), Workers(), torch.device("cpu"), Kept())
    assert (args.parts, left_out) == (1, [])


def test_the_first_number_of_openmp_limits_the_threads_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr("training.start.cpu_count", lambda: 16)
    for text in ("3,1", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        settle(TrainConfig(parts=2), Workers(), torch.device("cpu"), Kept())
    assert found == [3, 8]
