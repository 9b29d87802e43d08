"""The parts that requests share: image, model, and what is left out."""

from dataclasses import replace

import pytest

from jobs.common import SecureJobLocation
from jobs.request_parts import create_model, given, image_uri, seconds
from support.job_requests import LOCATION, LOCATIONS, SECURED, TAGS, VPC, checked

ARTIFACT = "s3://my-bucket/model.tar.gz"


def test_the_image_is_in_the_registry_of_the_roles_account() -> None:
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert image_uri(LOCATION, "eu-west-1", "abc") == f"{host}/mask-classifier:abc"
    assert image_uri(LOCATION, "cn-north-1", "abc").split("/")[0].endswith(".amazonaws.com.cn")
    assert image_uri(LOCATION, "eusc-de-east-1", "abc").split("/")[0].endswith(".eusc-de-east-1.amazonaws.eu")


@pytest.mark.parametrize("location", LOCATIONS)
def test_aws_accepts_every_model(location: SecureJobLocation) -> None:
    assert checked(create_model("m-1", location, "image:tag", ARTIFACT, "A=1"))["PrimaryContainer"] == {
        "Image": "image:tag",
        "ModelDataUrl": ARTIFACT,
        "Environment": {"A": "1"},
    }


def test_the_model_runs_without_network_unless_it_is_asked_for() -> None:
    assert checked(create_model("m-1", LOCATION, "image:tag", ARTIFACT))["EnableNetworkIsolation"] is True
    connected = replace(LOCATION, network_isolation=False)
    assert checked(create_model("m-1", connected, "image:tag", ARTIFACT))["EnableNetworkIsolation"] is False


def test_a_vpc_and_tags_go_with_the_model() -> None:
    request = checked(create_model("m-1", SECURED, "image:tag", ARTIFACT))
    assert (request["VpcConfig"], request["Tags"]) == (VPC, TAGS)


def test_what_was_not_asked_for_is_left_out_but_false_and_zero_stay() -> None:
    assert given({"a": None, "b": [], "c": {}, "d": False, "e": 0, "f": ""}) == {"d": False, "e": 0, "f": ""}


def test_hours_become_whole_seconds() -> None:
    assert (seconds(1.5), seconds(1e-9)) == (5400, 1)
