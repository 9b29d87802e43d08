"""`submit.py push`: the image goes to ECR with the git commit as its tag; and the image that a job runs."""

import base64
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.aws import Aws, AwsError
from jobs.common import Connection, JobLocation
from jobs.request_parts import image_uri, registry
from runtime.arguments import option
from runtime.errors import JobError

HOME = Path(__file__).resolve().parents[2]
STDERR = 2
LITE = "-lite"  # at the end of the name of the lite image in Docker, and of its tag in the repository
_OCI = "application/vnd.oci."
_IN_THE_IMAGE = ("code", "container", "pyproject.toml", "Dockerfile")


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The image."""

    lite: bool = option(False, "push the lite image, whose name and tag end with -lite")
    local_image: str = option("mask-classifier", "name of the image in Docker")
    repository: str = option("mask-classifier", "ECR repository; created if it does not exist")
    tag: str | None = option(None, "tag in the repository; default: the git commit")
    kms_key: str | None = option(None, "KMS key that encrypts a new repository")


def push_command(connection: Connection, options: PushOptions) -> None:
    """Push the image and print its address."""
    print(push(Aws(connection), options))


def job_image(aws: Aws, location: JobLocation, *, lite: bool = False) -> str:
    """Return the image that a job runs: the one given, else that of this git commit."""
    return location.image or image_uri(location, aws.region, commit_tag() + (LITE if lite else ""))


def push(aws: Aws, options: PushOptions) -> str:
    """Push the local image and return its address; raise JobError if Docker, git or AWS fails."""
    ending = LITE if options.lite else ""
    local = options.local_image + ending
    _run("docker", "image", "inspect", "--format", "{{.Id}}", local, hint=f"build it with `make image{ending}`")
    tag = (options.tag or commit_tag()) + ending
    host = registry(str(aws.call("sts", "GetCallerIdentity")["Account"]), aws.region)
    _create_repository(aws, options)
    target = f"{host}/{options.repository}:{tag}"
    _log_in(aws, host)
    _run("docker", "tag", local, target)
    _run("docker", "push", target, quiet=False)
    _warn_of_format(aws, options.repository, tag)
    return target


def commit_tag(home: Path = HOME) -> str:
    """Return the first 12 digits of the git commit, followed by -dirty if files of the image have changed since."""
    hint = "name the image with --image, or its tag with --tag"
    commit = _run("git", "-C", str(home), "rev-parse", "--short=12", "HEAD", hint=hint)
    changes = _run("git", "-C", str(home), "status", "--porcelain", "--", *_IN_THE_IMAGE, hint=hint)
    return f"{commit}-dirty" if changes else commit


def _create_repository(aws: Aws, options: PushOptions) -> None:
    """Create the ECR repository if it does not exist."""
    if aws.find("ecr", "DescribeRepositories", repositoryNames=[options.repository]) is not None:
        return
    encryption = {"encryptionType": "KMS", "kmsKey": options.kms_key} if options.kms_key else {}
    aws.call(
        "ecr",
        "CreateRepository",
        repositoryName=options.repository,
        imageScanningConfiguration={"scanOnPush": True},
        encryptionConfiguration=encryption or {"encryptionType": "AES256"},
    )
    by_hand = f"`aws ecr delete-repository --repository-name {options.repository}` removes it"
    print(f"created the repository {options.repository}; {by_hand}", file=sys.stderr)


def _warn_of_format(aws: Aws, repository: str, tag: str) -> None:
    """Warn that SageMaker creates no model from what was pushed, before a training job is paid for."""
    try:
        response = aws.call("ecr", "DescribeImages", repositoryName=repository, imageIds=[{"imageTag": tag}])
    except AwsError:  # the image is in the repository anyway
        return
    media_type = str(response["imageDetails"][0].get("imageManifestMediaType"))
    if media_type.startswith(_OCI):
        print(
            f"warning: SageMaker trains with an image of type {media_type}, but creates no model from it; "
            "`make image` builds one that it accepts",
            file=sys.stderr,
        )


def _log_in(aws: Aws, host: str) -> None:
    """Log Docker in with a password that is valid for 12 hours; it goes through a pipe, never on a command line."""
    token = aws.call("ecr", "GetAuthorizationToken")["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    _run("docker", "login", "--username", user, "--password-stdin", host, secret=password)


def _run(*words: str, hint: str = "", secret: str | None = None, quiet: bool = True) -> str:
    """Run a command without a shell and return its output; raise JobError with its last line."""
    program = shutil.which(words[0])
    if program is None:
        raise JobError(f"{words[0]} is not installed{'; ' + hint if hint else ''}")
    done = subprocess.run(  # noqa: S603  a list of words, without a shell
        [program, *words[1:]],
        input=secret,
        stdout=subprocess.PIPE if quiet else STDERR,  # stdout is for the address of the image
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise JobError(f"`{' '.join(words[:3])} ...` failed: {last}{'; ' + hint if hint else ''}")
    return (done.stdout or "").strip()
