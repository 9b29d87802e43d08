"""What a flag of submit.py must look like: each check returns sentences, none when all is well."""

import re

_STAMP = "-261124-031500123"  # what is added to a name to make a job's own


def pairs(text: str) -> dict[str, str]:
    """`name=value,name=value` as a dict; values stay text, so that 007 stays 007."""
    return {name.strip(): value for name, _, value in (part.partition("=") for part in text.split(",") if part)}


def name_problems(name: str, *, flag: str = "name", most: int = 63 - len(_STAMP)) -> list[str]:
    """A sentence if SageMaker would not take the name, or would not with the time added."""
    if re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", name) and len(name) <= most:
        return []
    return [f"--{flag}: {name!r} may hold letters, digits and inner dashes, at most {most} characters"]


def bucket_problems(bucket: str | None) -> list[str]:
    """A sentence if there is no bucket, or it cannot be the name of one."""
    if bucket is None:
        return ["--bucket: needed, an S3 bucket of yours; `submit.py setup` makes one"]
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        return []
    return [f"--bucket: {bucket!r} is not the name of a bucket, such as my-bucket, without s3:// and folder"]


def prefix_problems(prefix: str) -> list[str]:
    """A sentence if it is no folder in a bucket, without slashes around it."""
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)*", prefix):
        return []
    return [f"--prefix: {prefix!r} is not of the form folder or folder/folder"]


def data_problems(flag: str, data: str) -> list[str]:
    """A sentence if it is neither a local folder nor s3://bucket/prefix; a missing folder is found later."""
    if not data:
        return [f"--{flag}: needed, a folder or s3://bucket/prefix"]
    return (
        []
        if is_s3_folder(data) or "://" not in data
        else [f"--{flag}: {data!r} is neither a folder nor s3://bucket/prefix"]
    )


def model_problems(model: str) -> list[str]:
    """A sentence if it is neither the name of a job nor s3://bucket/key."""
    if not model:
        return ["--model: needed, a training job or s3://bucket/key/model.tar.gz"]
    if re.fullmatch(r"s3://[^/]+/.+\.tar\.gz|[a-zA-Z0-9-]+", model):
        return []
    return [f"--model: {model!r} is neither the name of a training job nor s3://bucket/key/model.tar.gz"]


def pair_problems(flag: str, text: str) -> list[str]:
    """A sentence for each part that is not name=value, and for a name given twice."""
    parts = [part for part in text.split(",") if part]
    problems = [f"--{flag}: {part!r} is not of the form name=value" for part in parts if not part.partition("=")[1]]
    names = [part.partition("=")[0].strip() for part in parts]
    return problems + [f"--{flag}: {name!r} is given twice" for name in sorted(set(names)) if names.count(name) > 1]


def is_s3_folder(text: str) -> bool:
    """Whether it is s3://bucket/prefix; the prefix keeps a job from reading a whole bucket by mistake."""
    return bool(re.fullmatch(r"s3://[^/]+/.*[^/].*", text))
