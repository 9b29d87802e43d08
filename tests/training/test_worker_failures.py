"""Of all that workers say when one has ended, the cause is reported."""

import signal

import pytest

from runtime.errors import WorkerLost
from training.worker_failures import Ending, find_cause, first_lost, was_stopped

GLOO = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1"
)
LOST = Ending("worker 0", WorkerLost.exit_code, "WorkerLost: worker 2 was lost", 1)
CLOSED = Ending("worker 1", 1, GLOO, 2)
KILLED = Ending("worker 2", -signal.SIGKILL)
SAID = Ending("worker 3", 2, "ConfigError: --lr is too high", 5)
SAID_EARLIER = Ending("worker 4", 1, "DataError: x.jpg", 4)
OURS = Ending("worker 5", -signal.SIGKILL, killed_by_us=True)
WELL = Ending("worker 6", 0)
STUCK = Ending("worker 8", -signal.SIGKILL, "WorkerLost: worker 2 was lost", 3, killed_by_us=True)


@pytest.mark.parametrize(
    ("endings", "text", "exit_code"),
    [
        ([WELL, LOST, CLOSED, KILLED, SAID, SAID_EARLIER], "DataError: x.jpg", 1),
        ([LOST, KILLED, SAID], "ConfigError: --lr is too high", 2),
        ([LOST, CLOSED, OURS, KILLED], "TrainingError: worker 2 was killed (SIGKILL), which the kernel does", 1),
        ([STUCK, KILLED], "TrainingError: worker 2 was killed (SIGKILL), which the kernel does", 1),
        ([CLOSED, Ending("worker 7", 9), KILLED], "TrainingError: worker 2 was killed", 1),
        ([CLOSED, Ending("worker 7", 9)], "TrainingError: worker 7 ended with exit code 9 and no message", 1),
        ([Ending("worker 7", -signal.SIGBUS)], "TrainingError: worker 7 was killed (SIGBUS), which happens when", 1),
        ([Ending("worker 7", -signal.SIGSEGV)], "TrainingError: worker 7 was killed (SIGSEGV); a restart resumes", 1),
        ([Ending("worker 7", -99)], "TrainingError: worker 7 was killed (signal 99); a restart resumes", 1),
    ],
)
def test_the_cause_is_what_a_worker_says_about_itself_or_who_was_killed(
    endings: list[Ending], text: str, exit_code: int
) -> None:
    for order in (endings, endings[::-1]):
        cause = find_cause(order)
        assert cause is not None
        assert cause.text.startswith(text)
        assert cause.exit_code == exit_code


def test_a_lost_connection_is_never_the_cause() -> None:
    assert find_cause([LOST, CLOSED, OURS, STUCK, WELL]) is None
    assert first_lost([CLOSED, LOST, OURS]) == LOST.sentence
    assert first_lost([OURS]) == ""


def test_workers_that_sigterm_ended_were_stopped() -> None:
    term = Ending("worker 7", -signal.SIGTERM), Ending("worker 8", 128 + signal.SIGTERM)
    assert was_stopped([*term, LOST, WELL])
    assert not was_stopped([*term, KILLED])
    assert not was_stopped([LOST, WELL])
