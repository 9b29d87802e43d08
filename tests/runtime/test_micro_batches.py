"""Without memory for a batch, its parts get smaller until they fit, and the work is done from its beginning."""

import pytest
import torch

from runtime.errors import DeviceError
from runtime.micro_batches import MicroBatches


def device_with(images: int, batch: int, calls: list[int]) -> object:
    def work(parts: int) -> str:
        calls.append(parts)
        if -(-batch // parts) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nGPU 0 has ...")
        return "done"

    return work


@pytest.mark.parametrize(
    ("images", "batch", "expected"),
    [(64, 64, [1]), (32, 64, [1, 2]), (5, 64, [1, 2, 4, 8, 16]), (1, 6, [1, 2, 4, 6]), (2, 7, [1, 2, 4])],
)
def test_parts_double_until_they_fit(
    images: int, batch: int, expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    parts = MicroBatches()
    assert parts.run(device_with(images, batch, calls), batch) == "done"  # type: ignore[arg-type]
    assert calls == expected
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(expected) - 1, "each halving is said once"
    calls.clear()
    parts.run(device_with(images, batch, calls), batch)  # type: ignore[arg-type]
    assert calls == expected[-1:], "and it stays"


def test_what_is_held_in_vain_is_given_back_before_each_new_try(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))
    MicroBatches().run(device_with(5, 20, []), 20)  # type: ignore[arg-type]
    assert len(given_back) == 2


def test_a_single_image_that_does_not_fit_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match=r"single image \(CUDA out of memory\. Tried to allocate 20 MiB\.\)"):
        MicroBatches().run(device_with(0, 8, []), 8)  # type: ignore[arg-type]


def test_other_errors_are_not_taken_for_it() -> None:
    def work(parts: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        MicroBatches().run(work, 8)


def test_what_a_failed_attempt_held_is_let_go_before_the_next() -> None:
    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def work(parts: int) -> int:
        already = Held.alive
        held = Held()
        if parts < 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        del held
        return already

    assert MicroBatches().run(work, 8) == 0
