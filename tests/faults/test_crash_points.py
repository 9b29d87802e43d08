"""A crash before, within or after any file operation of a save leaves the newest committed state.

First a real process ends there. Then the power fails: of everything that was not synced, any part may be missing.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from data.images import Preparation
from description import Description
from labels import MASKED_FACES
from model_files import load, publish
from runtime.errors import ModelError
from runtime.files import replacing
from support.recorded_disk import Operation, after_power_cut, record
from training.checkpoint import Checkpoints

TESTS = Path(__file__).parents[1]
CODE = TESTS.parent / "code"

# One process imports torch once and forks a child for each crash: child number n ends at moment n of its save.
PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {code!r}]
import torch
from training.checkpoint import Checkpoints
from support.recorded_disk import intercepted

def in_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def save(folder, step):
    checkpoints = Checkpoints(folder, {{}})
    checkpoints.load()
    checkpoints.save(step, 0, {{"step": step, "weights": torch.full((500,), float(step))}})
    checkpoints.wait()

def crash_at(point, folder):
    count = 0
    def moment(operation, when):
        nonlocal count
        if count == point:
            Path(sys.argv[1], "moment").write_text(f"{{when}} {{operation.kind}} {{operation.name}}")
            os._exit(137)
        count += 1
    with intercepted(folder, moment):
        save(folder, 3)

for point in range(1000):
    folder = Path(sys.argv[1], str(point))
    for step in (1, 2):  # the crash is that of the save after them, which also removes the first
        assert in_child(lambda: save(folder, step)) == 0
    code = in_child(lambda: crash_at(point, folder))
    moment = Path(sys.argv[1], "moment").read_text() if code else "no crash"
    loaded = Checkpoints(folder, {{}}).load()
    is_whole = bool((loaded["weights"] == loaded["step"]).all())
    left = [path.name for path in folder.glob(".*")]
    print(json.dumps([moment, code, loaded["step"], is_whole, left]), flush=True)
    if code == 0:
        break
"""


def test_a_process_that_ends_at_any_file_operation_of_a_save_leaves_the_newest_committed_state(tmp_path: Path) -> None:
    program = PROGRAM.format(tests=str(TESTS), code=str(CODE))
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert "warning" not in done.stderr, "everything committed is intact"
    assert rows[-1][:3] == ["no crash", 0, 3]
    assert len(rows) > 30, "create, write, sync, chmod, rename, sync the folder, twice, and two removals"
    for moment, code, step, is_whole, left in rows[:-1]:
        assert code == 137, moment
        assert step in (2, 3), moment
        assert is_whole, moment
        assert left == [], f"{moment}: the next start removes temporary files"
    steps = [row[2] for row in rows]
    assert steps == sorted(steps), "from one moment on it is the new one"
    assert {2, 3} == set(steps)


# with the power gone


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def layouts(folder: Path, work: Callable[[], object]) -> Iterator[tuple[bool, str]]:
    """Create in `folder`, one after the other, every state that a power cut during or after `work` may leave.

    Yields whether `work` was complete, and a description.
    """
    before = contents(folder) if folder.exists() else {}
    operations: list[Operation] = record(folder, work)
    for count in range(len(operations) + 1):
        last = f"after {operations[count - 1]}"[:200] if count else "at first"
        for left in after_power_cut(before, operations[:count]):
            shutil.rmtree(folder)
            folder.mkdir()
            for name, content in left.items():
                (folder / name).write_bytes(content)
            yield count == len(operations), last


def test_a_checkpoint_survives_a_power_cut_at_any_moment_of_a_save(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, {})

    def save(step: int) -> None:
        checkpoints.save(step, 0, {"step": step, "weights": torch.full((500,), float(step))})
        checkpoints.wait()

    save(1)
    save(2)
    tried, steps = 0, set()
    for is_complete, when in layouts(folder, lambda: save(3)):
        loaded = Checkpoints(folder, {}).load()
        assert loaded is not None, when
        assert loaded["step"] in ((3,) if is_complete else (2, 3)), when
        assert (loaded["weights"] == loaded["step"]).all(), when
        tried += 1
        steps.add(loaded["step"])
    assert steps == {2, 3}
    assert tried > 40


def test_the_first_checkpoint_of_all_is_there_or_not_after_a_power_cut(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, {})

    def save() -> None:
        checkpoints.save(1, 0, {"step": 1})
        checkpoints.wait()

    found = [(is_complete, Checkpoints(folder, {}).load()) for is_complete, _ in layouts(folder, save)]
    assert {loaded["step"] for is_complete, loaded in found if is_complete and loaded} == {1}
    assert all(loaded in (None, {"step": 1}) for _, loaded in found)
    assert all(loaded for is_complete, loaded in found if is_complete)


def test_a_new_folder_is_synced_into_the_one_above_it(tmp_path: Path) -> None:
    def save() -> None:
        with replacing(tmp_path / "new" / "newer" / "file") as file:
            file.write("x")

    operations = [(operation.kind, operation.name) for operation in record(tmp_path, save)]
    for made, above in (("new", "."), ("new/newer", "new")):
        assert ("sync_folder", above) in operations[operations.index(("mkdir", made)) :]


def test_after_a_power_cut_a_published_model_is_the_old_one_the_new_one_or_rejected(tmp_path: Path) -> None:
    description = Description("TinyModel", "factored", MASKED_FACES, Preparation((32, 24)))
    model = description.build()
    state = model.state_dict()

    def publish_filled(value: float) -> None:
        publish(tmp_path / "model", {name: torch.full_like(part, value) for name, part in state.items()}, description)

    publish_filled(1)
    outcomes = set()
    for is_complete, when in layouts(tmp_path / "model", lambda: publish_filled(2)):
        try:
            found = float(next(iter(load(tmp_path / "model")[0].parameters())).flatten()[0].detach())
        except ModelError:
            found = None
        assert found == 2 or not is_complete, when
        outcomes.add(found)
    assert outcomes == {1, 2, None}
