"""The log of a job, from CloudWatch to the terminal, as it grows."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from jobs.aws import Aws, AwsError
from jobs.watch import Job, find, watch
from runtime.errors import JobError

_STARTED = re.compile(r"-\d{9,}(?=/|$)")  # when a host was started, behind its name


def follow_log(aws: Aws, name: str, poll_seconds: float) -> Job:
    """Print a job's log from its beginning to its end, which is waited for; returns the job as it ended.

    Of an endpoint, which has no end, the log is printed as far as it goes. Raises JobError for a tuning job.
    """
    job = find(aws, name)
    if job.kind.log_group is None:
        best = job.facts.get("BestTrainingJob", {}).get("TrainingJobName", f"{name}-001-...")
        raise JobError(f"{job.title} has no log of its own, its training jobs have, such as: {best}")
    log = JobLog(aws, job)
    job = watch(aws, job, poll_seconds, log.new_lines)
    time.sleep(poll_seconds)  # the last lines reach CloudWatch after the end
    try:
        for line in log.new_lines():
            print(line, flush=True)
    except AwsError as error:
        if not error.is_passing:
            raise
        print(f"the last lines are missing ({error}); `submit.py logs {name}` prints them", file=sys.stderr)
    return job


class JobLog:
    """The streams of one job, and how far each was read."""

    def __init__(self, aws: Aws, job: Job) -> None:
        assert job.kind.log_group, f"{job.title} has no log"
        self._aws = aws
        self._group = job.kind.log_group.format(name=job.name)
        self._prefix = "" if "{name}" in job.kind.log_group else f"{job.name}/"
        self._places: dict[str, str] = {}

    def new_lines(self) -> Iterator[str]:
        """What came since the last look. Of several hosts, each line says which."""
        streams = self._streams()
        for stream in streams:
            host = _STARTED.sub("", stream.removeprefix(self._prefix))
            for message in self._events(stream):
                yield f"[{host}] {message}" if len(streams) > 1 else message

    def _streams(self) -> list[str]:
        prefix = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
        try:
            pages = list(self._aws.pages("logs", "DescribeLogStreams", logGroupName=self._group, **prefix))
        except AwsError as error:
            if error.is_absent:  # the group is made with the account's first line
                return []
            raise
        return sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])

    def _events(self, stream: str) -> Iterator[str]:
        """Messages since the last look, oldest first; CloudWatch repeats the token where a stream ends."""
        while True:
            request: dict[str, Any] = {
                "logGroupName": self._group, "logStreamName": stream, "startFromHead": True
            }  # fmt: skip
            if stream in self._places:
                request["nextToken"] = self._places[stream]
            answer = self._aws.call("logs", "GetLogEvents", **request)
            for event in answer["events"]:
                yield event["message"]
            ended = self._places.get(stream) == answer["nextForwardToken"]
            self._places[stream] = answer["nextForwardToken"]
            if ended:
                return
