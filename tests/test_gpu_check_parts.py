"""The parts of `make gpu-check` on the CPU: what they compare passes there, and a fault put in on purpose misses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu_parts import bits, compare, gpu_tests, networks, optimizer, workers
from benchmarks.gpu_parts.check import MET, MISSED, NOTED, SKIPPED, UNJUDGED, Check
from benchmarks.gpu_parts.speed import CASES
from data.batch_transforms import normalize
from optimization import create_optimizer


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(tmp_path / "found.json", form="tiny", device="cpu")


def found(check: Check) -> dict[str, str]:
    return {row.name: row.result for row in check.rows}


@pytest.mark.parametrize(("value", "result"), [(1.0, MET), (2.0, MET), (2.1, MISSED), (float("nan"), MISSED)])
def test_a_number_is_judged_by_its_bar_and_nan_misses_every_bar(check: Check, value: float, result: str) -> None:
    check.at_most("most", value, 2)
    check.at_least("least", -value, -2)
    assert found(check) == {"most": result, "least": result}


def test_without_values_only_what_needs_no_number_is_judged(tmp_path: Path) -> None:
    check = Check(tmp_path / "found.json", judge_values=False)
    check.at_most("number", 9, 2)
    check.computes("computed", False)
    check.holds("ran", False)
    check.note("seconds", 1)
    assert found(check) == {"number": UNJUDGED, "computed": UNJUDGED, "ran": MISSED, "seconds": NOTED}


def test_what_no_time_is_left_for_is_skipped_by_name(tmp_path: Path) -> None:
    check = Check(tmp_path / "found.json", seconds=5)
    assert list(check.while_time(("one", "two"), 1, "network")) == ["one", "two"]
    assert list(check.while_time(("three",), 60, "network")) == []
    assert found(check) == {"network three": SKIPPED}


def test_the_comparison_passes_for_the_cpu_itself(check: Check) -> None:
    compare.run(check)
    assert set(found(check).values()) == {MET}
    assert len(check.rows) > 10


def test_the_comparison_notices_an_augmentation_that_is_off_by_a_thousandth(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def off(*arguments: Any) -> torch.Tensor:
        calls.append(0)
        return normalize(*arguments) * (1 + 1e-3 * (len(calls) % 2))

    monkeypatch.setattr("data.base_augmentation.normalize", off)
    compare.compare_augmentations(check, torch.device("cpu"))
    assert found(check)["augment, BaseAugmentation"] == MISSED


def test_the_comparison_notices_a_gradient_with_the_bits_of_tf32(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds each factor to 10 bits; here it is the last of the calls, which stands for the GPU's."""
    exact, calls = compare.gradient_of, []

    def rounded(trainer: Any, *arguments: Any) -> torch.Tensor:
        calls.append(0)
        if len(calls) == compare.ORDERS + 2:
            trainer.model.load_state_dict(
                {name: _ten_bits(value) for name, value in trainer.model.state_dict().items()}
            )
        return exact(trainer, *arguments)

    monkeypatch.setattr(compare, "gradient_of", rounded)
    compare.compare_gradient(check, torch.device("cpu"), "TinyModel")
    assert [row.result for row in check.rows] == [MISSED]


def _ten_bits(value: torch.Tensor) -> torch.Tensor:
    return (value.view(torch.int32) & ~0x1FFF).view(torch.float32) if value.dtype == torch.float32 else value


def test_the_optimizer_part_passes_for_sgd_and_notices_other_momentum(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer.run(check)
    assert set(found(check).values()) == {MET}

    def other(name: str, model: nn.Module, **options: Any) -> torch.optim.Optimizer:
        made = create_optimizer(name, model, **options)
        for group in made.param_groups:
            group["momentum"] *= 1.001
        return made

    monkeypatch.setattr(optimizer, "create_optimizer", other)
    optimizer.run(check)
    assert check.rows[-4].result == MISSED


def test_the_two_processes_of_bits_do_the_same_items_in_another_order() -> None:
    items = bits.items_of("long", "cuda")
    assert sorted(map(str, bits.swapped(items))) == sorted(map(str, items))
    assert all(one != other for one, other in zip(items[:-1], bits.swapped(items), strict=False))
    assert {item.model for item in items if item.steps > 1} == {*bits.FAMILIES}
    assert {item.model for item in items} >= {"resnet152", "densenet121", "vit_l_16"}


def test_bits_are_equal_only_if_both_digests_are_and_what_does_not_fit_is_skipped(check: Check) -> None:
    line = {"item": "n", "digest": "a" * 64, "moved": True, "error": ""}
    bits.judge(check, "same", line, line)
    bits.judge(check, "other", line, line | {"digest": "b" * 64})
    bits.judge(check, "still", line, line | {"moved": False})
    bits.judge(check, "large", *[line | {"error": "OutOfMemoryError: 9 GiB"}] * 2)
    bits.judge(check, "broken", line, line | {"error": "RuntimeError: no engine"})
    results = found(check)
    assert (results["same"], results["other"], results["large"]) == (MET, MISSED, SKIPPED)
    assert results["still: the loss is finite and the weights change"] == MISSED
    assert results["broken: runs"] == MISSED


def test_two_workers_have_to_leave_the_files_of_one(check: Check) -> None:
    workers.judge(check, "same", ("a", "b"), ("a", "b"))
    workers.judge(check, "other metrics", ("a", "b"), ("a", "c"))
    assert found(check) == {"same: two workers": MET, "other metrics: two workers": MISSED}


def test_parts_are_measured_against_the_whole_batch(check: Check) -> None:
    workers.measure_parts(check, torch.device("cpu"), CASES["tiny"][0])
    ratios = {row.name.split(": ")[1]: row.value for row in check.rows if " / " in row.name}
    assert ratios.keys() == {"2 parts / 1 part", "4 parts / 1 part"}
    assert all(isinstance(ratio, float) and ratio > 0 for ratio in ratios.values())


def test_the_hash_of_a_network_changes_with_any_bit_of_it() -> None:
    trainer = networks.trainer_of(torch.device("cpu"), resize=(32, 24), ema_decay=0.9)
    batch = networks.batch_of(torch.device("cpu"), 4, (32, 24))
    losses = [trainer.step(batch, 0, 0)[0]]
    before = networks.digest(trainer, losses)
    assert networks.digest(trainer, losses) == before
    for tensor in networks.tensors(trainer):
        if tensor.dtype == torch.float32 and tensor.numel() > 1:
            kept, flat = tensor.clone(), tensor.detach().flatten()[:1]
            with torch.no_grad():
                tensor.copy_(torch.nextafter(tensor, tensor + 1))
            assert networks.digest(trainer, losses) != before, flat
            with torch.no_grad():
                tensor.copy_(kept)
            break


def test_the_files_with_tests_for_a_gpu_are_found() -> None:
    names = {Path(path).name for path in gpu_tests.marked_files()}
    assert {"test_trainer.py", "test_loader.py", "test_optimization.py"} <= names
    assert "test_gpu_check.py" not in names


@pytest.mark.parametrize(("body", "expected"), [("assert True", MET), ("assert False", MISSED)])
def test_a_gpu_test_that_fails_is_named(check: Check, tmp_path: Path, body: str, expected: str) -> None:
    (tmp_path / "test_one.py").write_text(f"def test_it():\n    {body}\n")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "test_one.py"]
    subprocess.run(line, cwd=tmp_path, capture_output=True)
    gpu_tests.judge(check, tmp_path / "report.xml")
    assert found(check)["tests that passed"] == expected
    assert ("test_it" in found(check)) == (expected == MISSED)
