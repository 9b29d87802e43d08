"""Each kind of job: rules between flags are checked before anything costs money."""

import pytest

from jobs.job_options import Deployment, Evaluation, Registration, Training, Transform, Tuning
from runtime.arguments import parse
from runtime.errors import ConfigError

DATA = ("--data", "s3://bucket/faces")
MODEL = ("--model", "faces-261124-031500")


@pytest.mark.parametrize(
    ("schema", "flags", "sentence"),
    [
        (Training, (), "--data: needed"),
        (Training, (*DATA, "--max-wait-hours", "3"), "--max-wait-hours: 3 is less than --max-hours 12"),
        (Training, (*DATA, "--spot", "no", "--max-wait-hours", "30"), "only a spot job waits"),
        (Training, (*DATA, "--warm-pool-minutes", "30"), "a warm pool cannot be had on spot instances"),
        (Training, (*DATA, "--warm-pool-minutes", "61", "--spot", "no"), "61 is out of range"),
        (Training, (*DATA, "--max-hours", "673"), "673 is out of range"),
        (Training, (*DATA, "--name", "a_b"), "--name: 'a_b' may hold letters"),
        (Training, (*DATA, "--environment", "A"), "--environment: 'A' is not of the form name=value"),
        (Training, (*DATA, "--pretrained-data", "http://x"), "--pretrained-data: 'http://x' is neither"),
        (Training, (*DATA, "--input-mode", "Pipe"), "unknown value 'Pipe'"),
        (Training, (*DATA, "--resume-from", "s3://b/c"), "--resume-from: 's3://b/c' may hold letters"),
        (Tuning, (), "--search: needed"),
        (Tuning, ("--search", "lr=1:2", "--max-jobs", "2", "--max-parallel-jobs", "3"), "3 is more than --max-jobs 2"),
        (Tuning, ("--search", "lr"), "--search: 'lr' is not of the form name=value"),
        (Tuning, ("--search", "epochs=1:9", "--strategy", "Hyperband"), "Hyperband chooses the epochs; give the most"),
        (Transform, DATA, "--model: needed"),
        (Transform, MODEL, "--data: needed"),
        (Transform, (*DATA, *MODEL, "--concurrency", "17"), "--concurrency 17 x --max-payload-mb 6 is 102 MB"),
        (Transform, (*DATA, *MODEL, "--max-payload-mb", "101"), "101 is out of range"),
        (Evaluation, (), "--ground-truth: needed"),
        (Deployment, ("--model", "s3://bucket/x.pth"), "neither the name of a training job nor"),
        (Registration, MODEL, "--evaluation: needed"),
    ],
)
def test_what_does_not_fit_together_is_named(schema: type, flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, {}, schema)
    assert sentence in str(caught.value)


def test_a_spot_job_may_wait_as_long_as_it_trains_but_never_longer_than_28_days() -> None:
    assert Training(data="x", max_hours=5).wait_hours == 10
    assert Training(data="x", max_hours=600).wait_hours == 28 * 24
    assert Training(data="x", max_hours=5, max_wait_hours=6).wait_hours == 6


def test_16_images_of_6_mb_or_50_of_2_mb_are_on_the_way_at_most() -> None:
    for flags in (("--concurrency", "16"), ("--concurrency", "50", "--max-payload-mb", "2")):
        parse("submit.py", (*DATA, *MODEL, *flags), {}, Transform)
