"""A template that is started early serves the next pool of this process, and no other; unused, it ends."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data import template_process
from data.decode_pool import DecodePool, SharedPixels
from data.images import Preparation, prepare
from data.profiles import read_profiles
from data.template_process import FRESH_SECONDS, start_early, take_template
from support.processes import Process, is_running, wait_until

CODE = Path(__file__).parents[2] / "code"
PREPARATION = Preparation((16, 12))


@pytest.fixture(autouse=True)
def end_all() -> Iterator[None]:
    yield
    while template_process._early:
        template_process._early.pop().close()


def started() -> template_process.TemplateProcess:
    start_early()
    return template_process._early[-1]


def test_a_pool_takes_the_template_that_was_started_early_and_the_next_one_starts_another(
    faces: Callable[..., Path],
) -> None:
    paths, early = read_profiles(faces(people=1)).paths, started()
    for is_first in (True, False):
        pool = DecodePool(paths, PREPARATION, SharedPixels.in_memory((len(paths), 16, 12, 3)), processes=2)
        assert (pool._template is early) == is_first
        pool.wait()
        assert np.array_equal(pool.pixels, np.stack([prepare(path, PREPARATION) for path in paths]))
    assert not is_running(early.pid)


def test_a_template_is_not_taken_if_it_may_have_ended_or_belongs_to_another_process() -> None:
    old, foreign, other_script = started(), started(), started()
    old.started -= FRESH_SECONDS
    foreign.parent = 1
    other_script.script = Path("other.py")
    taken = take_template()
    assert taken not in (old, foreign, other_script)
    for template in (taken, old, foreign, other_script):
        template.close()


FORKS = """# PARENT
import os, sys, time
sys.path.insert(0, sys.argv[1])
from data.template_process import _early, start_early
start_early()
if os.fork():
    print(_early[0].pid, flush=True)
    os._exit(0)
time.sleep(60)  # as the worker of a DataLoader, which inherits the socket
"""


def test_a_template_without_work_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", FORKS, str(CODE)]
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: not is_running(pid))
        os.killpg(parent.pid, 9)


def test_a_template_that_is_not_used_ends_with_the_command() -> None:
    program = "from data.template_process import _early, start_early; start_early(); print(_early[0].pid)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(CODE)}, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    wait_until(lambda: not is_running(int(done.stdout)))
