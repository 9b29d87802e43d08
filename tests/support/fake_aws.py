"""An AWS that answers from lists, for tests that need no server."""

from typing import Any

from jobs.aws import AwsError

ABSENT = AwsError("AWS answered: Could not find it", "ValidationException")


class FakeAws:
    """Answers each operation from a list, the last answer for good, and notes what was asked."""

    region = "eu-west-1"

    def __init__(self, **answers: Any) -> None:
        self.answers = {name: list(given) if isinstance(given, list) else [given] for name, given in answers.items()}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, operation: str, **request: Any) -> Any:
        self.asked.append((operation, request))
        given = self.answers.get(operation, [ABSENT])
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer(request) if callable(answer) else answer

    def pages(self, service: str, operation: str, **request: Any) -> Any:
        yield self.call(service, operation, **request)


def training(status: str, step: str = "Training", message: str = "", **facts: Any) -> dict[str, Any]:
    steps = [{"Status": step, "StatusMessage": message}]
    return {"TrainingJobStatus": status, "SecondaryStatus": step, "SecondaryStatusTransitions": steps} | facts


DONE = training("Completed", "Completed")
