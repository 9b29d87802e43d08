"""A dry run needs no AWS account: what nobody gave is a placeholder, and is named."""

import json
from pathlib import Path

import pytest

import submit
from jobs.common import SUBMIT
from jobs.placeholders import PLACEHOLDERS, placeholders
from runtime.errors import ConfigError
from support.job_requests import ROLE

pytestmark = pytest.mark.usefixtures("offline")


def test_a_dry_run_on_a_machine_without_an_account_prints_its_requests(capsys: pytest.CaptureFixture[str]) -> None:
    submit.main(["deploy", "--model", "faces-1", "--image", "faces:1", "--dry-run"], {})
    printed = capsys.readouterr()
    assert json.loads(printed.out)["CreateModel"]["ExecutionRoleArn"] == PLACEHOLDERS["SAGEMAKER_ROLE"]
    assert printed.err.startswith("dry run with placeholders for what is not given: --region us-east-1; --role arn:aws")
    assert "; --bucket placeholder-bucket\n" in printed.err


@pytest.mark.parametrize("words", [["--dry-run"], ["--dry_run=true"], ["--dry-run", "yes", "--wait"]])
def test_only_what_is_missing_is_a_placeholder(words: list[str]) -> None:
    variables, sentence = placeholders([*words, "--role", ROLE], {"SAGEMAKER_BUCKET": "my-bucket"}, SUBMIT)
    assert variables == {"AWS_REGION": PLACEHOLDERS["AWS_REGION"]}
    assert sentence == "dry run with placeholders for what is not given: --region us-east-1"


def test_a_region_of_the_profile_is_no_placeholder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile faces]\nregion = eu-west-1\n[profile bare]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    given = ["--dry-run", "--role", ROLE, "--bucket", "my-bucket"]
    assert placeholders([*given, "--profile", "faces"], {}, SUBMIT) == ({}, "")
    assert placeholders([*given, "--profile", "nobody"], {}, SUBMIT) == ({}, "")
    assert placeholders([*given, "--profile", "bare"], {}, SUBMIT)[0].keys() == {"AWS_REGION"}


@pytest.mark.parametrize("words", [[], ["--dry-run", "no"], ["--dry-run", "maybe"]])
def test_a_job_that_is_sent_gets_no_placeholder(words: list[str]) -> None:
    assert placeholders(words, {}, SUBMIT) == ({}, "")
    with pytest.raises(ConfigError, match=r"--role: required.*--bucket: required"):
        submit.main(["deploy", "--model", "faces-1", *words], {})


def test_a_placeholder_does_not_hide_a_malformed_option() -> None:
    with pytest.raises(ConfigError, match=r"^--bucket: 's3://b' is not the name of a bucket[^;]*$"):
        submit.main(["deploy", "--model", "faces-1", "--dry-run", "--bucket", "s3://b"], {})
