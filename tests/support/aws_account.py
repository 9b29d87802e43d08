"""An empty AWS account at moto's server, which speaks AWS's protocol, and what has been asked of it.

tests/aws/conftest.py makes its fixtures known.
"""

import functools
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer

import submit
from jobs.account import SetupOptions, policies

ACCOUNT, REGION = "123456789012", "eu-west-1"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mask-classifier:abc"
LOADER = create_loader()  # reads SageMaker's large description once, not once for each command
IAM_NAMES = {
    **{"HeadBucket": "ListBucket", "HeadObject": "GetObject", "ListObjectsV2": "ListBucket"},
    **dict.fromkeys(("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"), "PutObject"),
}


@pytest.fixture(scope="session")  # as `client` keeps its address
def server() -> Iterator[str]:
    """moto's server on a free port of the loopback; returns its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def calls(server: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """An empty account at the server; returns the set where each call is noted as an IAM action."""
    httpx.post(f"{server}/moto-api/reset").raise_for_status()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    variables = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_ENDPOINT_URL": server,
        "AWS_REGION": REGION,
        "SAGEMAKER_ROLE": f"arn:aws:iam::{ACCOUNT}:role/mask-classifier-sagemaker",
        "SAGEMAKER_BUCKET": "my-bucket",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return note_calls(monkeypatch)


def note_calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    noted: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        service, operation = model.service_model.service_name, model.name
        if operation == "GetCallerIdentity":  # which needs no permission
            return
        noted.add(f"{service}:{IAM_NAMES.get(operation, operation)}")

    create = boto3.Session

    def session(**options: Any) -> Any:
        core = botocore.session.Session()
        core.register_component("data_loader", LOADER)
        created = create(botocore_session=core, **options)
        created.events.register("before-call", note)
        return created

    monkeypatch.setattr(boto3, "Session", session)
    return noted


@pytest.fixture
def run(calls: set[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command as a user would; return the lines that it prints to stdout."""

    def run(*words: str) -> list[str]:
        submit.main(words, os.environ)
        return capsys.readouterr().out.splitlines()

    return run


@functools.cache
def client(service: str) -> Any:
    """The server's own client, whose calls are not noted."""
    return boto3.client(service, region_name=REGION)


@pytest.fixture
def ready(run: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """An account after `setup` and `push`."""
    run("setup")
    client("ecr").create_repository(repositoryName="mask-classifier")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:0"}, "layers": []}
    client("ecr").put_image(repositoryName="mask-classifier", imageManifest=json.dumps(manifest), imageTag="abc")
    return run


def allowed_to_submitters(*, expiry: bool = False) -> set[str]:
    """Return the actions of the policy for users who submit jobs."""
    options = SetupOptions(bucket="my-bucket", expiry=expiry)
    statements = policies(options, ACCOUNT, REGION)["submitter"]["Statement"]
    actions = [entry["Action"] if isinstance(entry["Action"], list) else [entry["Action"]] for entry in statements]
    return {action for some in actions for action in some}


def put(uri: str, body: bytes) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def archive(**files: str) -> bytes:
    """Return a .tar.gz as SageMaker packs a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
