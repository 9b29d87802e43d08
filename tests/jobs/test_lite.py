"""The archive of an exported model: the same bytes for the same model, and only where it can be computed."""

import os
import tarfile
from pathlib import Path

import pytest

from description import DESCRIPTION
from engines.onnx_metadata import MODEL_ONNX
from jobs.endpoint import EndpointOptions
from jobs.lite import ARCHIVE, FILES, pack
from jobs.transform import TransformOptions
from model_folder import ARCHIVE as MODEL_ARCHIVE
from model_folder import WEIGHTS
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import DryRunCommand


def test_the_files_have_the_names_that_the_server_looks_for() -> None:
    assert (*FILES, ARCHIVE) == (DESCRIPTION, WEIGHTS, MODEL_ONNX, MODEL_ARCHIVE)


def test_the_bytes_of_an_archive_depend_on_the_content_alone(tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors", "model.onnx", "exp"):
        (tmp_path / name).write_text(name)
    pack(tmp_path, tmp_path / "1.tar.gz")
    os.utime(tmp_path / "model.onnx", (1, 1))
    (tmp_path / "model.json").chmod(0o600)
    pack(tmp_path, tmp_path / "2.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "1.tar.gz", "r:gz") as tar:
        assert tar.getnames() == ["model.json", "model.safetensors", "model.onnx"]
        assert {member.mode for member in tar} == {0o644}


@pytest.mark.parametrize("options", [EndpointOptions, TransformOptions])
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.inf2.xlarge"])
def test_an_instance_whose_accelerator_would_be_idle_is_refused_by_name(
    options: type[EndpointOptions | TransformOptions], instance_type: str
) -> None:
    words = ("--model", "faces-1", "--lite", "--instance-type", instance_type)
    with pytest.raises(ConfigError, match=f"{instance_type} has an accelerator, and the lite image computes on CPUs"):
        parse("submit.py", words, {}, options)


@pytest.mark.parametrize(("words", "instance"), [((), "ml.g5.xlarge"), (("--lite",), "ml.c5.xlarge")])
@pytest.mark.parametrize("options", [EndpointOptions, TransformOptions])
def test_the_instance_fits_the_image_by_default(
    options: type[EndpointOptions | TransformOptions], words: tuple[str, ...], instance: str
) -> None:
    data = ("--data", "faces") if options is TransformOptions else ()
    (parsed,) = parse("submit.py", ("--model", "faces-1", *data, *words), {}, options)
    assert parsed.instance == instance


def test_a_dry_run_exports_nothing_and_shows_a_placeholder(dry_run: DryRunCommand) -> None:
    requests, printed = dry_run("deploy", "--model", "faces-1", "--lite")
    uri = "s3://my-bucket/mask-classifier/lite/faces-1-digest/model.tar.gz"
    assert requests["CreateModel"]["PrimaryContainer"]["ModelDataUrl"] == uri
    assert f"the model is not exported, so its place in S3 is a placeholder: {uri}" in printed
    assert "runs on  1 x ml.c5.xlarge" in printed
