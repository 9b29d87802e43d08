"""The image goes to ECR under the git commit; the password is never on a command line."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from jobs import ecr
from jobs.aws import Aws
from jobs.common import Connection
from jobs.ecr import PushOptions, commit_tag, job_image, push
from runtime.errors import JobError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
OPTIONS = PushOptions(local_image="mask-classifier", tag="abc")


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws(Connection(region="eu-west-1"))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `docker` on the PATH that notes each command and its standard input, and fails at one of them."""

    def make(fails_at: str = "nothing") -> Path:
        notes, program = tmp_path / "notes", tmp_path / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {notes}\n'
            f'if [ "$1" = login ]; then cat >> {tmp_path}/password; fi\n'
            f'if [ "$1" = {fails_at} ]; then echo first >&2; echo "denied: no such thing" >&2; exit 1; fi\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return notes

    return make


def test_the_image_is_tagged_and_pushed_after_a_login(
    aws: Aws, docker: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = docker()
    target = f"{REGISTRY}/mask-classifier:abc"
    assert push(aws, OPTIONS) == target
    assert notes.read_text().splitlines() == [
        "image inspect --format {{.Id}} mask-classifier",
        f"login --username AWS --password-stdin {REGISTRY}",
        f"tag mask-classifier {target}",
        f"push {target}",
    ]
    password = (tmp_path / "password").read_text()
    assert password
    assert password not in notes.read_text()
    assert "created the repository mask-classifier" in capsys.readouterr().err


def test_the_lite_image_is_pushed_beside_the_other(aws: Aws, docker: Callable[..., Path]) -> None:
    notes = docker()
    target = f"{REGISTRY}/mask-classifier:abc-lite"
    assert push(aws, replace(OPTIONS, lite=True)) == target
    inspected, _, *rest = notes.read_text().splitlines()
    assert inspected == "image inspect --format {{.Id}} mask-classifier-lite"
    assert rest == [f"tag mask-classifier-lite {target}", f"push {target}"]


def test_a_lite_image_that_was_not_built_is_named_with_its_command(aws: Aws, docker: Callable[..., Path]) -> None:
    docker("image")
    with pytest.raises(JobError, match="build it with `make image-lite`"):
        push(aws, replace(OPTIONS, lite=True))


@pytest.mark.parametrize(
    ("media_type", "is_warned"),
    [
        ("application/vnd.oci.image.index.v1+json", True),
        ("application/vnd.oci.image.manifest.v1+json", True),
        ("application/vnd.docker.distribution.manifest.v2+json", False),
    ],
)
def test_an_image_from_which_sagemaker_creates_no_model_gets_a_warning(
    aws: Aws,
    docker: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    media_type: str,
    is_warned: bool,
) -> None:
    docker()
    call = aws.call

    def described(service: str, operation: str, **request: Any) -> Any:
        if operation == "DescribeImages":
            assert request == {"repositoryName": "mask-classifier", "imageIds": [{"imageTag": "abc"}]}
            return {"imageDetails": [{"imageManifestMediaType": media_type}]}
        return call(service, operation, **request)

    monkeypatch.setattr(aws, "call", described)
    push(aws, OPTIONS)
    sentence = f"warning: SageMaker trains with an image of type {media_type}, but creates no model from it"
    assert (sentence in capsys.readouterr().err) is is_warned


def test_the_repository_is_created_once_and_scans_what_is_pushed(aws: Aws, docker: Callable[..., Path]) -> None:
    docker()
    push(aws, OPTIONS)
    push(aws, OPTIONS)
    (repository,) = aws.call("ecr", "DescribeRepositories")["repositories"]
    assert repository["repositoryName"] == "mask-classifier"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_a_key_encrypts_the_new_repository(aws: Aws, docker: Callable[..., Path]) -> None:
    docker()
    push(aws, PushOptions(tag="abc", kms_key="arn:aws:kms:eu-west-1:123456789012:key/abc"))
    (repository,) = aws.call("ecr", "DescribeRepositories")["repositories"]
    assert repository["encryptionConfiguration"]["encryptionType"] == "KMS"


@pytest.mark.parametrize(
    ("fails_at", "sentence"),
    [
        ("image", "`docker image inspect ...` failed: denied: no such thing; build it with `make image`"),
        ("login", "`docker login --username ...` failed: denied: no such thing"),
        ("push", f"`docker push {REGISTRY}/mask-classifier:abc ...` failed: denied: no such thing"),
    ],
)
def test_an_error_of_docker_is_reported_with_its_last_line(
    aws: Aws, docker: Callable[..., Path], fails_at: str, sentence: str
) -> None:
    docker(fails_at)
    with pytest.raises(JobError) as caught:
        push(aws, OPTIONS)
    assert str(caught.value) == sentence


def test_no_repository_is_created_for_an_image_that_does_not_exist(aws: Aws, docker: Callable[..., Path]) -> None:
    docker("image")
    with pytest.raises(JobError):
        push(aws, OPTIONS)
    assert aws.call("ecr", "DescribeRepositories")["repositories"] == []


def test_a_missing_docker_is_an_error(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(JobError, match="docker is not installed; build it"):
        push(aws, OPTIONS)


@pytest.mark.parametrize("name", ["code/new.py", "pyproject.toml"])
def test_the_tag_is_the_commit_and_shows_whether_the_image_has_changed_since(tmp_path: Path, name: str) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text("1")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    commit = git("rev-parse", "HEAD")[:12]
    (tmp_path / "README.md").write_text("not in the image")
    assert commit_tag(tmp_path) == commit
    (tmp_path / name).write_text("2")
    assert commit_tag(tmp_path) == f"{commit}-dirty"


def test_without_a_commit_the_tag_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(JobError, match="name the image with --image, or its tag with --tag"):
        commit_tag(tmp_path)


def test_a_job_runs_the_image_of_the_commit_unless_another_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecr, "commit_tag", lambda: "0123456789ab")
    assert job_image(FakeAws(), LOCATION) == f"{REGISTRY}/mask-classifier:0123456789ab"
    assert job_image(FakeAws(), LOCATION, lite=True) == f"{REGISTRY}/mask-classifier:0123456789ab-lite"
    assert job_image(FakeAws(), replace(LOCATION, image="other:1"), lite=True) == "other:1"
    assert job_image(FakeAws(), replace(LOCATION, image="other:1")) == "other:1"
