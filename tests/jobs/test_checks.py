"""Malformed options of submit.py are reported with a sentence."""

import pytest

from jobs.checks import (
    bucket_problems,
    data_problems,
    model_problems,
    name_problems,
    object_problems,
    pair_problems,
    pairs,
    tag_problems,
)


def test_values_stay_text() -> None:
    assert pairs("cost=007,team=a=b, note=x y,empty=") == {"cost": "007", "team": "a=b", "note": "x y", "empty": ""}
    assert pairs("") == {}


@pytest.mark.parametrize(
    ("problems", "sentence"),
    [
        (pair_problems("tags", "a=1,b"), "--tags: 'b' is not of the form name=value"),
        (pair_problems("tags", "a=1,a=2"), "--tags: 'a' is given twice"),
        (tag_problems("team=vision,aws:x=1"), "--tags: 'aws:x' begins with aws:, which is reserved"),
        (tag_problems(" AWS:cost=1"), "--tags: 'AWS:cost' begins with aws:"),
        (name_problems("masked_faces"), "--name: 'masked_faces' must consist of letters, digits and inner dashes"),
        (name_problems("a" * 47), "at most 46 characters"),
        (name_problems("-a"), "--name: '-a'"),
        (bucket_problems(None), "--bucket: required"),
        (bucket_problems("s3://my-bucket"), "without s3:// and folder"),
        (data_problems("data", ""), "--data: required, a folder or s3://bucket/prefix"),
        (data_problems("data", "http://example.org/x"), "is neither a folder nor s3://bucket/prefix"),
        (data_problems("data", "s3://bucket/"), "is neither a folder nor s3://bucket/prefix"),
        (data_problems("data", "s3://bucket"), "is neither a folder nor s3://bucket/prefix"),
        (data_problems("data", "s3://my bucket/faces"), "is neither a folder nor s3://bucket/prefix"),
        (model_problems(""), "--model: required"),
        (
            object_problems("evaluation", "./evaluation.json", "an evaluation job", "evaluation.json"),
            "--evaluation: './evaluation.json' is neither the name of an evaluation job nor s3://bucket/key/",
        ),
        (
            model_problems("s3://bucket/model.pth"),
            "neither the name of a training job nor s3://bucket/key/model.tar.gz",
        ),
    ],
)
def test_a_malformed_option_is_named(problems: list[str], sentence: str) -> None:
    assert len(problems) == 1
    assert sentence in problems[0]


def test_a_well_formed_option_is_accepted() -> None:
    assert not pair_problems("tags", "a=1,b=2")
    assert not tag_problems("a=aws:x,my-aws:b=2")
    assert not name_problems("mask-classifier-2")
    assert not bucket_problems("my-bucket.2")
    assert not data_problems("data", "../faces") + data_problems("data", "s3://bucket/faces")
    assert not data_problems("data", "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint:Old_Faces/faces")
    assert not object_problems("evaluation", "s3://bucket/e.json", "an evaluation job", "evaluation.json")
    assert not model_problems("faces-261124-031500") + model_problems("s3://bucket/a/model.tar.gz")
