"""`submit.py logs`: the log of a job, from CloudWatch to the terminal, as it grows."""

import re
import sys
import time
from collections.abc import Iterator

from jobs.aws import Aws, AwsError, passing_errors
from jobs.common import Connection, JobName, Polling
from jobs.job import Job
from jobs.watch import find_to_watch, watch
from runtime.errors import JobError

_STARTED = re.compile(r"-\d{9,}(?=/|$)")  # start time of a host, after its name


def logs_command(connection: Connection, name: JobName, polling: Polling) -> None:
    """Print the log of a job to its end; raise JobFailed if the job failed."""
    follow_log(Aws(connection), name.job, polling.poll_seconds).check_end()


def follow_log(aws: Aws, name: str, poll_seconds: float) -> Job:
    """Print a job's log from its beginning to its end; return the job in its last state.

    An endpoint has no end: its log is printed so far. Raises JobError for a tuning job and a
    cross-validation, which have no log of their own.
    """
    job, *others = find_to_watch(aws, name)
    if others:
        raise JobError(f"the folds of {name!r} have a log each; give the name of one, such as: {job.name}")
    if job.kind.log_group is None:
        example = job.best_training_job or f"{name}-001-..."
        raise JobError(f"{job.title} has no log of its own; its training jobs have one, such as: {example}")
    log = JobLog(aws, job)
    job = watch(aws, job, poll_seconds, log.new_lines)
    time.sleep(poll_seconds)  # the last lines reach CloudWatch after the end
    missing = "the last lines are missing ({}); `submit.py logs {}` prints them"
    with passing_errors(lambda error: print(missing.format(error, name), file=sys.stderr)):
        for line in log.new_lines():
            print(line, flush=True)
    return job


class JobLog:
    """The log streams of one job, and the position in each."""

    def __init__(self, aws: Aws, job: Job) -> None:
        assert job.kind.log_group, f"{job.title} has no log"
        self._aws = aws
        self._group = job.kind.log_group.format(name=job.name)
        self._prefix = "" if "{name}" in job.kind.log_group else f"{job.name}/"
        self._tokens: dict[str, str] = {}  # of the next page of each stream

    def new_lines(self) -> Iterator[str]:
        """Yield the lines since the last call, with the name of the host if there are several."""
        streams = self._streams()
        for stream in streams:
            host = _STARTED.sub("", stream.removeprefix(self._prefix))
            for message in self._messages(stream):
                yield f"[{host}] {message}" if len(streams) > 1 else message

    def _streams(self) -> list[str]:
        """Return the names of the job's streams; the log group appears with the first line of the account."""
        prefix = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
        try:
            pages = list(self._aws.pages("logs", "DescribeLogStreams", logGroupName=self._group, **prefix))
        except AwsError as error:
            if error.is_absent:
                return []
            raise
        return sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])

    def _messages(self, stream: str) -> Iterator[str]:
        """Yield the messages since the last call, oldest first; at the end CloudWatch repeats the token."""
        while True:
            position: dict[str, str] = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            response = self._aws.call(
                "logs",
                "GetLogEvents",
                logGroupName=self._group,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            for event in response["events"]:
                yield event["message"]
            ended = self._tokens.get(stream) == response["nextForwardToken"]
            self._tokens[stream] = response["nextForwardToken"]
            if ended:
                return
