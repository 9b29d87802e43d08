"""An AWS that responds from lists, for tests that need no server."""

from collections.abc import Iterator
from typing import Any

from jobs.aws import Aws, AwsError

ABSENT = AwsError("AWS answered: Could not find it", "ValidationException")


class FakeAws(Aws):
    """Responds to each operation from a list, whose last response is repeated, and notes the requests.

    A response is a dict, a function of the request, or an error to raise; `otherwise` is the response to any other
    operation.
    """

    def __init__(self, *, otherwise: Any = ABSENT, **responses: Any) -> None:
        self._responses = {name: list(some) if isinstance(some, list) else [some] for name, some in responses.items()}
        self._otherwise = otherwise
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def operations(self) -> list[str]:
        """Return the operations so far, in order."""
        return [operation for operation, _ in self.asked]

    @property
    def region(self) -> str:
        return "eu-west-1"

    def client(self, service: str) -> Any:
        raise AssertionError(f"a test without a server wants to transfer files: {service}")

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        self.asked.append((operation, request))
        responses = self._responses.get(operation, [self._otherwise])
        response: Any = responses.pop(0) if len(responses) > 1 else responses[0]
        if isinstance(response, BaseException):
            raise response
        found: dict[str, Any] = response(request) if callable(response) else response
        return found

    def pages(self, service: str, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        yield self.call(service, operation, **request)


def training(status: str, step: str = "Training", message: str = "", **facts: Any) -> dict[str, Any]:
    """Return the description of a training job."""
    steps = [{"Status": step, "StatusMessage": message}]
    return {"TrainingJobStatus": status, "SecondaryStatus": step, "SecondaryStatusTransitions": steps} | facts


DONE = training("Completed", "Completed")


def folds_of(name: str, steps: dict[str, list[Any]], **responses: Any) -> FakeAws:
    """Return an AWS with the training jobs of a cross-validation: the responses for each job by its name, in order.

    The last one is repeated. A job of another name is absent.
    """
    left = {job: list(some) for job, some in steps.items()}

    def describe(request: dict[str, Any]) -> dict[str, Any]:
        job = request["TrainingJobName"]
        if job not in left:
            raise ABSENT
        response = left[job].pop(0) if len(left[job]) > 1 else left[job][0]
        if isinstance(response, BaseException):
            raise response
        number = job.removeprefix(f"{name}-fold-")
        return {**response, "HyperParameters": {"fold": f"{number}/{len(steps)}"}}

    return FakeAws(DescribeTrainingJob=describe, **responses)
