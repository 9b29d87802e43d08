"""`submit.py deploy --async`: requests wait in a queue, and the number of instances follows them, down to none.

Two policies are needed: target tracking follows the backlog of each instance, and has none to divide by where there is
no instance. So the first one is started by a step, when an alarm sees a backlog without capacity.
"""

from dataclasses import dataclass, replace
from typing import Any

from jobs.aws import Aws
from jobs.common import SecureJobLocation
from jobs.plan import Plan
from jobs.request_parts import VARIANT, Call, Request, given, partition
from runtime.arguments import option
from sagemaker_limits import INSTANCES

_IN_FLIGHT = 16  # requests that an instance gets at a time, as those of a batch transform
_BACKLOG = 5.0  # requests that wait for each instance, above which another is started
_SCALE_OUT_SECONDS, _SCALE_IN_SECONDS = 300, 600  # between two changes; an instance takes minutes to start
_SERVICE = "application-autoscaling"


@dataclass(frozen=True, kw_only=True)
class AsyncOptions:
    """An asynchronous endpoint: requests and responses are files in S3."""

    async_: bool = option(False, "queue requests; their images and responses are in S3")
    min_: int | None = option(
        None, "fewest instances, with --async; 0: none, and no cost, while nothing waits", minimum=0, maximum=INSTANCES
    )
    max_: int | None = option(
        None, "most instances, with --min; default: --instance-count", minimum=1, maximum=INSTANCES
    )

    def problems(self) -> list[str]:
        """Return a sentence for each option that does not fit another one."""
        if self.min_ is not None and not self.async_:
            return ["--min: only an asynchronous endpoint changes its number of instances; pass --async"]
        if self.max_ is not None and self.min_ is None:
            return ["--max: without --min the number of instances does not change; pass --min, such as --min 0"]
        return []

    def conflicts(self, instance_count: int, *, serverless: bool) -> list[str]:
        """Return a sentence for each option that does not fit the instances of the endpoint."""
        if self.async_ and serverless:
            return ["--async: a serverless endpoint has no queue; leave out --async or --serverless"]
        if self.min_ is not None and not self.min_ <= instance_count <= self.most(instance_count):
            return [
                f"--instance-count {instance_count} is not between --min {self.min_} and --max "
                f"{self.most(instance_count)}; change one of them"
            ]
        return []

    def most(self, instance_count: int) -> int:
        """Return the largest number of instances."""
        return instance_count if self.max_ is None else self.max_


def make_async(
    plan: Plan, location: SecureJobLocation, options: AsyncOptions, instance_count: int, region: str
) -> Plan:
    """Return the plan of an endpoint with a queue in S3, and with scaling once it is in service."""
    config = {"AsyncInferenceConfig": async_config(plan.job, location)}
    calls = tuple(
        replace(call, request=call.request | config) if call.operation == "CreateEndpointConfig" else call
        for call in plan.calls
    )
    most = f"{options.min_} to {options.most(instance_count)} instances, as many as the requests that wait need"
    scales = (("scales", most),) if options.min_ is not None else ()
    more = (*plan.more, *scales, ("example", example(plan.job, location)))
    return replace(plan, calls=calls, more=more, then=scaling(plan.job, region, options, instance_count))


def async_config(job: str, location: SecureJobLocation) -> Request:
    """Return the AsyncInferenceConfig: where responses and failures are written."""
    output = {
        "S3OutputPath": location.uri("async", job, "responses"),
        "S3FailurePath": location.uri("async", job, "failures"),
        "KmsKeyId": location.kms_key,
    }
    return {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": _IN_FLIGHT},
        "OutputConfig": given(output),
    }


def example(job: str, location: SecureJobLocation) -> str:
    """Return the commands that send an image."""
    image = location.uri("async", job, "requests", "face.jpg")
    return (
        f"aws s3 cp face.jpg {image} && aws sagemaker-runtime invoke-endpoint-async --endpoint-name {job} "
        f"--content-type image/jpeg --input-location {image}"
    )


def scaling(job: str, region: str, options: AsyncOptions, instance_count: int) -> tuple[Call, ...]:
    """Return the requests that make the number of instances follow the backlog; the endpoint must be in service."""
    if options.min_ is None:
        return ()
    target = _target(job)
    capacity = {"MinCapacity": options.min_, "MaxCapacity": options.most(instance_count)}
    register = Call("RegisterScalableTarget", target | capacity, ("DeregisterScalableTarget", target), _SERVICE)
    tracking = {
        "TargetValue": _BACKLOG,
        "CustomizedMetricSpecification": _metric(job, "ApproximateBacklogSizePerInstance") | {"Statistic": "Average"},
        "ScaleOutCooldown": _SCALE_OUT_SECONDS,
        "ScaleInCooldown": _SCALE_IN_SECONDS,
    }
    calls = [register, _policy(job, "backlog", "TargetTrackingScaling", tracking)]
    if options.min_ == 0:
        step = {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": _SCALE_OUT_SECONDS,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        }
        calls += [_policy(job, "first-instance", "StepScaling", step), _alarm(job, region)]
    return tuple(calls)


def remove_scaling(aws: Aws, job: str) -> list[str]:
    """Delete what `scaling` has created for an endpoint; return what was there.

    SageMaker may be deleting the scalable target with its policies at the same time, because the endpoint is deleted.
    """
    target, removed = _target(job), []
    found = _look(aws, _SERVICE, "DescribeScalingPolicies", **target)
    for policy in found.get("ScalingPolicies", []):
        aws.find(_SERVICE, "DeleteScalingPolicy", PolicyName=policy["PolicyName"], **target)
        removed.append(f"ScalingPolicy {policy['PolicyName']}")
    resource = {"ServiceNamespace": target["ServiceNamespace"], "ResourceIds": [target["ResourceId"]]}
    if _look(aws, _SERVICE, "DescribeScalableTargets", **resource).get("ScalableTargets"):
        aws.find(_SERVICE, "DeregisterScalableTarget", **target)
        removed.append("ScalableTarget")
    if _look(aws, "cloudwatch", "DescribeAlarms", AlarmNames=[_alarm_name(job)]).get("MetricAlarms"):
        aws.find("cloudwatch", "DeleteAlarms", AlarmNames=[_alarm_name(job)])
        removed.append("Alarm")
    return removed


def _look(aws: Aws, service: str, operation: str, **request: Any) -> dict[str, Any]:
    """Return the response to a question, empty with a warning without the permission."""
    return (
        aws.find_if_permitted("what follows the endpoint's backlog is not removed", service, operation, **request) or {}
    )


def _target(job: str) -> dict[str, str]:
    return {
        "ResourceId": f"endpoint/{job}/variant/{VARIANT}",
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def _metric(job: str, name: str) -> Request:
    return {
        "MetricName": name,
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": job}],
    }


def _policy(job: str, name: str, kind: str, configuration: Request) -> Call:
    """Return PutScalingPolicy of a kind, `TargetTrackingScaling` or `StepScaling`."""
    policy = {"PolicyName": name} | _target(job)
    request = policy | {"PolicyType": kind, f"{kind.removesuffix('Scaling')}ScalingPolicyConfiguration": configuration}
    return Call("PutScalingPolicy", request, ("DeleteScalingPolicy", policy), _SERVICE)


def _alarm(job: str, region: str) -> Call:
    """Return PutMetricAlarm, which carries out the policy of the call before it."""
    placeholder = f"arn:{partition(region)}:autoscaling:{region}:123456789012:scalingPolicy:placeholder"
    request = _metric(job, "HasBacklogWithoutCapacity") | {
        "AlarmName": _alarm_name(job),
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [placeholder],
    }
    undo = ("DeleteAlarms", {"AlarmNames": [_alarm_name(job)]})
    return Call("PutMetricAlarm", request, undo, "cloudwatch", lambda policy: {"AlarmActions": [policy["PolicyARN"]]})


def _alarm_name(job: str) -> str:
    return f"{job}-backlog-without-capacity"
