"""Checks of the options of submit.py: each returns a sentence for every problem, none if there is none."""

import re

from sagemaker_limits import NAME_LENGTH

_STAMP = "-261124-031500123"  # appended to a name, to make it unique
_S3_BUCKET = "s3://[a-zA-Z0-9._:-]+"  # also old names of buckets, and ARNs of access points


def pairs(text: str) -> dict[str, str]:
    """Return `name=value,name=value` as a dict; values stay text, so that 007 stays 007."""
    return {name.strip(): value for name, _, value in (part.partition("=") for part in text.split(",") if part)}


def name_problems(name: str, *, flag: str = "name", most: int = NAME_LENGTH - len(_STAMP)) -> list[str]:
    """Return a sentence if SageMaker rejects the name, or the name with the time appended."""
    if re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", name) and len(name) <= most:
        return []
    return [f"--{flag}: {name!r} must consist of letters, digits and inner dashes, at most {most} characters"]


def bucket_problems(bucket: str | None) -> list[str]:
    """Return a sentence if there is no bucket, or a name that no bucket can have."""
    if bucket is None:
        return ["--bucket: required, an S3 bucket of yours; `submit.py setup` creates one"]
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        return []
    return [f"--bucket: {bucket!r} is not the name of a bucket, such as my-bucket, without s3:// and folder"]


def prefix_problems(prefix: str) -> list[str]:
    """Return a sentence unless it is a folder in a bucket, without slashes around it."""
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)*", prefix):
        return []
    return [f"--prefix: {prefix!r} is not of the form folder or folder/folder"]


def data_problems(flag: str, data: str) -> list[str]:
    """Return a sentence unless it is a local folder, which may be missing, or s3://bucket/prefix."""
    if not data:
        return [f"--{flag}: required, a folder or s3://bucket/prefix"]
    return (
        []
        if is_s3_folder(data) or "://" not in data
        else [f"--{flag}: {data!r} is neither a folder nor s3://bucket/prefix"]
    )


def model_problems(model: str, *, flag: str = "model") -> list[str]:
    """Return a sentence unless it is the name of a job or s3://bucket/key.tar.gz."""
    return object_problems(flag, model, "a training job", "model.tar.gz")


def object_problems(flag: str, text: str, job: str, file: str) -> list[str]:
    """Return a sentence unless it is the name of a job or the URI of an object, with the ending of `file`."""
    if not text:
        return [f"--{flag}: required, {job} or s3://bucket/key/{file}"]
    ending = re.escape(file[file.index(".") :])
    if re.fullmatch(rf"{_S3_BUCKET}/.+{ending}|[a-zA-Z0-9-]+", text):
        return []
    return [f"--{flag}: {text!r} is neither the name of {job} nor s3://bucket/key/{file}"]


def pair_problems(flag: str, text: str) -> list[str]:
    """Return a sentence for each part that is not name=value, and for each name given twice."""
    parts = [part for part in text.split(",") if part]
    problems = [f"--{flag}: {part!r} is not of the form name=value" for part in parts if not part.partition("=")[1]]
    names = [part.partition("=")[0].strip() for part in parts]
    return problems + [f"--{flag}: {name!r} is given twice" for name in sorted(set(names)) if names.count(name) > 1]


def tag_problems(text: str) -> list[str]:
    """Return a sentence for each tag that is not name=value, is given twice, or has a reserved name."""
    reserved = [name for name in pairs(text) if name.lower().startswith("aws:")]
    remedy = "begins with aws:, which is reserved; choose another name"
    return pair_problems("tags", text) + [f"--tags: {name!r} {remedy}" for name in reserved]


def is_s3_folder(text: str) -> bool:
    """Return whether it is s3://bucket/prefix; without a prefix, a job could read a whole bucket by mistake."""
    return bool(re.fullmatch(rf"{_S3_BUCKET}/.*[^/].*", text))
