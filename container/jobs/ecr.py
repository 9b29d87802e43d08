"""Push the image to ECR: the repository is made if it is absent, the tag is the git commit."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path

from jobs.aws import Aws, AwsError
from jobs.common import Push
from jobs.instances import registry
from runtime.errors import JobError

HOME = Path(__file__).resolve().parents[2]
STDERR = 2
_OCI = "application/vnd.oci."
_IN_THE_IMAGE = ("code", "container", "Dockerfile")


def push(aws: Aws, options: Push) -> str:
    """Push the local image and return its address; raises JobError where Docker, git or AWS do not go along."""
    _run("docker", "image", "inspect", "--format", "{{.Id}}", options.local_image, hint="build it with `make image`")
    tag = options.tag or commit_tag()
    host = registry(str(aws.call("sts", "GetCallerIdentity")["Account"]), aws.region)
    _make_repository(aws, options)
    target = f"{host}/{options.repository}:{tag}"
    _log_in(aws, host)
    _run("docker", "tag", options.local_image, target)
    _run("docker", "push", target, quiet=False)
    _warn_of_format(aws, options.repository, tag)
    return target


def commit_tag(home: Path = HOME) -> str:
    """The first 12 digits of the git commit, with -dirty behind if what goes into the image has changed since."""
    hint = "name the image with --image, or its tag with --tag"
    commit = _run("git", "-C", str(home), "rev-parse", "--short=12", "HEAD", hint=hint)
    changes = _run("git", "-C", str(home), "status", "--porcelain", "--", *_IN_THE_IMAGE, hint=hint)
    return f"{commit}-dirty" if changes else commit


def _make_repository(aws: Aws, options: Push) -> None:
    try:
        aws.call("ecr", "DescribeRepositories", repositoryNames=[options.repository])
    except AwsError as error:
        if not error.is_absent:
            raise
        encryption = {"encryptionType": "KMS", "kmsKey": options.kms_key} if options.kms_key else {}
        aws.call(
            "ecr",
            "CreateRepository",
            repositoryName=options.repository,
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration=encryption or {"encryptionType": "AES256"},
        )
        by_hand = f"`aws ecr delete-repository --repository-name {options.repository}` removes it"
        print(f"made the repository {options.repository}; {by_hand}", file=sys.stderr)


def _warn_of_format(aws: Aws, repository: str, tag: str) -> None:
    """Say that SageMaker makes no model of what was pushed, before a job that trains one is paid for."""
    try:
        answer = aws.call("ecr", "DescribeImages", repositoryName=repository, imageIds=[{"imageTag": tag}])
    except AwsError:  # the image is there all the same
        return
    media_type = str(answer["imageDetails"][0].get("imageManifestMediaType"))
    if media_type.startswith(_OCI):
        print(
            f"warning: SageMaker trains with an image of type {media_type}, but makes no model of it; "
            "`make image` builds one that it takes",
            file=sys.stderr,
        )


def _log_in(aws: Aws, host: str) -> None:
    """Hand Docker a password that holds for 12 hours, through a pipe: it is never on a command line."""
    token = aws.call("ecr", "GetAuthorizationToken")["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    _run("docker", "login", "--username", user, "--password-stdin", host, secret=password)


def _run(*words: str, hint: str = "", secret: str | None = None, quiet: bool = True) -> str:
    """Run a command without a shell and return what it printed; raises JobError with its last line."""
    program = shutil.which(words[0])
    if program is None:
        raise JobError(f"{words[0]} is not installed{'; ' + hint if hint else ''}")
    done = subprocess.run(  # noqa: S603  a list of words, none of which a shell ever sees
        [program, *words[1:]],
        input=secret,
        stdout=subprocess.PIPE if quiet else STDERR,  # stdout is for the address of the image
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise JobError(f"`{' '.join(words[:3])} ...` failed: {said}{'; ' + hint if hint else ''}")
    return (done.stdout or "").strip()
