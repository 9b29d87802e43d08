"""`submit.py deploy --expires 8h`: a schedule deletes the endpoint once, so that a forgotten one does not cost."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from jobs.aws import Aws
from jobs.common import SecureJobLocation
from jobs.plan import Plan
from jobs.request_parts import Call, partition
from runtime.arguments import option

ROLE_ENDING = "-expiry"  # after the name of the job's role: the role that the scheduler assumes

_TIME = re.compile(r"([1-9]\d{0,3})([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
_FEWEST = timedelta(minutes=15)  # an endpoint cannot be deleted while it is created
_MOST = timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class ExpiryOptions:
    """The end of the endpoint."""

    expires: str = option("", "time after which the endpoint is deleted, such as 30m, 8h or 7d")

    def problems(self) -> list[str]:
        """Return a sentence for what is not a time, or too short or long."""
        if not self.expires:
            return []
        if not _TIME.fullmatch(self.expires):
            return [f"--expires: {self.expires!r} is not a time such as 30m, 8h or 7d"]
        if _FEWEST <= self.after <= _MOST:
            return []
        return [f"--expires: {self.expires} is out of range, expected 15m to 365d"]

    @property
    def after(self) -> timedelta:
        """Return the time between the deployment and the deletion."""
        number, unit = self.expires[:-1], self.expires[-1:]
        return timedelta(minutes=int(number) * _MINUTES[unit])


def make_expiring(
    plan: Plan, location: SecureJobLocation, options: ExpiryOptions, most_instances: int, region: str
) -> Plan:
    """Return the plan of an endpoint that a schedule deletes, and what `most_instances` cost until then at most.

    The schedule is created before the endpoint, so that no endpoint exists without it.
    """
    end = datetime.now(UTC) + options.after
    *before, create = plan.calls
    return replace(
        plan,
        calls=(*before, schedule(plan.job, location, end, region), create),
        longest=f"until {end:%Y-%m-%d %H:%M} UTC, when it is deleted, or `submit.py remove {plan.job}`",
        instance_hours=options.after.total_seconds() / 3600 * most_instances,
    )


def schedule(job: str, location: SecureJobLocation, end: datetime, region: str) -> Call:
    """Return CreateSchedule: DeleteEndpoint once at `end` (UTC); then the schedule deletes itself."""
    request = {
        "Name": job,
        "Description": f"deletes the endpoint {job}",
        "ScheduleExpression": f"at({end:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": f"arn:{partition(region)}:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": f"{location.role}{ROLE_ENDING}",
            "Input": json.dumps({"EndpointName": job}),
        },
    }
    return Call("CreateSchedule", request, ("DeleteSchedule", {"Name": job}), "scheduler")


def find_end(aws: Aws, job: str) -> datetime | None:
    """Return when the endpoint is deleted, None if no schedule does that; without the permission to look, warn."""
    warning = "whether a schedule deletes the endpoint is not known"
    found = aws.find_if_permitted(warning, "scheduler", "GetSchedule", Name=job)
    expression = re.fullmatch(r"at\((.*)\)", str(found["ScheduleExpression"])) if found else None
    return datetime.fromisoformat(expression[1]).replace(tzinfo=UTC) if expression else None


def remove_schedule(aws: Aws, job: str) -> list[str]:
    """Delete the schedule of an endpoint; return what was there."""
    if find_end(aws, job) is None:
        return []
    aws.find("scheduler", "DeleteSchedule", Name=job)
    return ["Schedule"]
