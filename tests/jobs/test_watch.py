"""A job is watched to its end; on a terminal a line shows its progress, and its failure begins with the reason."""

import io
import sys
import time
from datetime import UTC, datetime

import pytest

from jobs.aws import AwsError
from jobs.job import JobFailed
from jobs.watch import ProgressLine, wait
from support.fake_aws import ABSENT, DONE, FakeAws, folds_of, training


def test_waiting_ends_with_the_job_and_prints_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [training("InProgress", "Starting"), training("InProgress"), training("InProgress"), DONE]
    aws = FakeAws(DescribeTrainingJob=steps)
    assert wait(aws, "faces", 0)[0].status == "Completed"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "InProgress  Starting",
        "InProgress  Training",
        "Completed  Completed",
    ]
    assert all(line.startswith("0:00:0") for line in lines)


def test_a_failed_job_begins_with_its_reason() -> None:
    reason = "AlgorithmError: ConfigError: unknown criterion 'focl', exit code: 2"
    aws = FakeAws(DescribeTrainingJob=training("Failed", "Failed", FailureReason=reason))
    with pytest.raises(JobFailed) as caught:
        wait(aws, "faces", 0)
    assert str(caught.value).startswith(reason)
    assert "`submit.py logs faces`" in str(caught.value)


def test_a_failed_evaluation_gives_its_exit_message() -> None:
    facts = {"ProcessingJobStatus": "Failed", "ExitMessage": "DataError: no gt.csv"}
    with pytest.raises(JobFailed, match=r"^DataError: no gt.csv; processing job"):
        wait(FakeAws(DescribeProcessingJob=facts), "faces", 0)


def test_an_endpoint_that_failed_says_how_to_remove_what_remains() -> None:
    aws = FakeAws(DescribeEndpoint={"EndpointStatus": "Failed", "FailureReason": "no capacity"})
    with pytest.raises(JobFailed, match=r"^no capacity; .*`submit.py remove faces` removes what remains"):
        wait(aws, "faces", 0)


def test_a_stopped_job_says_why() -> None:
    aws = FakeAws(DescribeTrainingJob=training("Stopped", "MaxRuntimeExceeded"))
    with pytest.raises(JobFailed, match=r"before its end \(MaxRuntimeExceeded\); `submit.py download` fetches"):
        wait(aws, "faces", 0)


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_did_not_complete_says_how_it_is_resumed_even_if_it_was_itself(status: str) -> None:
    checkpoints = {"S3Uri": "s3://b/mask-classifier/checkpoints/faces-0/"}
    aws = FakeAws(DescribeTrainingJob=training(status, status, CheckpointConfig=checkpoints))
    with pytest.raises(JobFailed, match=r"[;,] `submit.py train --data DATA --resume-from faces-0` resumes it$"):
        wait(aws, "faces-1", 0)


def test_waiting_continues_when_the_network_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    away = AwsError("AWS cannot be reached", "unreachable")
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), away, away, DONE])
    assert wait(aws, "faces", 0)[0].status == "Completed"
    assert capsys.readouterr().err.count("still waiting: AWS cannot be reached") == 2


def test_all_folds_are_waited_for_and_the_reasons_of_those_that_failed_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost, broken = (training("Failed", "Failed", FailureReason=reason) for reason in ("spot is lost", "no memory"))
    steps = {"faces-fold-1": [training("InProgress"), lost], "faces-fold-2": [training("InProgress"), DONE]}
    aws = folds_of("faces", steps | {"faces-fold-3": [broken]})
    with pytest.raises(JobFailed, match=r"^spot is lost; training job 'faces-fold-1' failed.*; no memory; .*fold-3"):
        wait(aws, "faces", 0)
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.startswith("training job")] == [
        f"training job 'faces-fold-{number}':" for number in (1, 2, 3)
    ]
    assert [job.name for job in wait(folds_of("faces", {"faces-fold-1": [DONE]}), "faces", 0)] == ["faces-fold-1"]
    done = folds_of("faces", {f"faces-fold-{number}": [DONE] for number in (1, 2)})
    assert [job.status for job in wait(done, "faces", 0)] == ["Completed", "Completed"]


def test_credentials_that_expire_while_folds_are_waited_for_remind_of_all_of_them() -> None:
    runs = training("InProgress")
    aws = folds_of("faces", {"faces-fold-1": [runs, runs, runs, EXPIRED], "faces-fold-2": [DONE]})
    with pytest.raises(AwsError, match=r"have expired; .*fold-1.*; other folds may be .*`submit.py stop faces`"):
        wait(aws, "faces", 0)


EXPIRED = AwsError("the AWS credentials have expired", "ExpiredToken")
THROTTLED = AwsError("AWS throttles these requests", "ThrottlingException", 400)
REMINDER = "training job 'faces' is still running; `submit.py stop faces` stops it, `submit.py wait faces` watches it"


def test_credentials_that_expire_end_the_waiting_with_a_reminder_that_the_job_costs() -> None:
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), EXPIRED])
    with pytest.raises(AwsError, match=f"^the AWS credentials have expired; {REMINDER}; it costs until") as ended:
        wait(aws, "faces", 0)
    assert ended.value.code == "ExpiredToken"


def test_throttling_is_waited_out_with_a_reminder_that_the_job_costs(capsys: pytest.CaptureFixture[str]) -> None:
    wait(FakeAws(DescribeTrainingJob=[training("InProgress"), THROTTLED, DONE]), "faces", 0)
    assert f"still waiting: AWS throttles these requests; {REMINDER}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [EXPIRED, THROTTLED])
def test_an_error_before_the_first_state_says_that_the_job_may_be_running(error: AwsError) -> None:
    commands = "`submit.py wait faces` watches it, `submit.py stop faces` stops it"
    with pytest.raises(AwsError, match=f"^{error}; 'faces' may be running, which costs: {commands}$"):
        wait(FakeAws(DescribeTrainingJob=error), "faces", 0)


def test_an_endpoint_that_is_not_watched_any_more_is_removed_not_stopped() -> None:
    aws = FakeAws(DescribeEndpoint=[{"EndpointStatus": "Creating"}, EXPIRED])
    with pytest.raises(AwsError, match=r"endpoint 'faces' is still running; `submit.py remove faces` removes it"):
        wait(aws, "faces", 0)


def test_an_endpoint_that_is_deleted_meanwhile_is_not_said_to_be_running() -> None:
    aws = FakeAws(DescribeEndpoint=[{"EndpointStatus": "Deleting"}, ABSENT])
    with pytest.raises(AwsError, match=r"^endpoint 'faces' was deleted while this command waited for it$"):
        wait(aws, "faces", 0)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(capsys: pytest.CaptureFixture[str]) -> None:
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        wait(aws, "faces", 0)
    assert "training job 'faces' is still running; `submit.py stop faces` stops it" in capsys.readouterr().err


def test_it_sleeps_between_two_requests_for_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    wait(FakeAws(DescribeTrainingJob=[training("InProgress"), training("InProgress"), DONE]), "faces", 7.5)
    assert slept == [7.5, 7.5]


class Terminal(io.StringIO):
    """A terminal that keeps what is printed."""

    def isatty(self) -> bool:
        return True


def watched_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_file_gets_lines_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine({"epochs": "30"}) as progress:
        progress.state("InProgress  Training")
        progress.state("InProgress  Training")
        progress.log("epoch=3; val_f1=0.7312;")
        progress.state("Completed")
    printed = capsys.readouterr()
    assert printed.out == "epoch=3; val_f1=0.7312;\n"
    assert printed.err == "0:00:00  InProgress  Training\n0:00:00  Completed\n"


def test_a_terminal_shows_the_epochs_so_far_and_the_newest_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine({"epochs": '"30"'}) as progress:
        progress.state("InProgress", started=datetime.fromtimestamp(time.time() - 120, UTC))
        progress.log("epoch=12; train_loss=0.6; val_loss=0.512; val_f1=0.8125;")
        progress.log("a line without an epoch")
        shown = terminal.getvalue().split("\r")[-1]
    assert "12/30 [02:0" in shown
    assert "<03:0" in shown  # 18 epochs more, at the speed since training began
    assert "val_loss=0.512; val_f1=0.8125;" in shown
    assert capsys.readouterr().out.splitlines() == [
        "epoch=12; train_loss=0.6; val_loss=0.512; val_f1=0.8125;",
        "a line without an epoch",
    ]


@pytest.mark.parametrize("hyperparameters", [None, {"epochs": "many"}])
def test_a_job_without_epochs_shows_the_time_and_its_state(
    monkeypatch: pytest.MonkeyPatch, hyperparameters: dict[str, str] | None
) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine(hyperparameters) as progress:
        progress.state("InProgress  Processing")
        assert terminal.getvalue().split("\r")[-1].strip() == "00:00  InProgress  Processing"


def test_without_epochs_the_default_of_training_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine({}) as progress:
        progress.state("InProgress  epoch=1;")
        assert " 1/1 [" in terminal.getvalue().split("\r")[-1]
