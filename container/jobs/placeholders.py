"""Placeholders with which a dry run needs no AWS account: a role, a bucket and a region."""

from collections.abc import Mapping
from dataclasses import fields

import boto3
from botocore.exceptions import BotoCoreError

from jobs.common import Connection, DryRun, Words
from runtime.arguments import Schema, flag_of, peek

PLACEHOLDERS = {
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/placeholder",
    "SAGEMAKER_BUCKET": "placeholder-bucket",
    "AWS_REGION": "us-east-1",
}


def placeholders(words: Words, environ: Mapping[str, str], schema: Schema) -> tuple[dict[str, str], str]:
    """Return variables for what a dry run needs and nobody gave, and a sentence that names them.

    `words` are the flags of a command, `schema` its options. Both are empty if it is no dry run, or nothing is missing.
    """
    if not peek(words, {}, DryRun).dry_run:
        return {}, ""
    missing: dict[str, str] = {}
    for cls in schema:
        given = peek(words, environ, cls)
        for field in fields(cls):
            variable = field.metadata.get("variable", "")
            if variable in PLACEHOLDERS and getattr(given, field.name) is None and not _in_profile(given):
                missing[variable] = flag_of(field.name)
    variables = {variable: PLACEHOLDERS[variable] for variable in missing}
    listed = "; ".join(f"{flag} {variables[variable]}" for variable, flag in missing.items())
    return variables, f"dry run with placeholders for what is not given: {listed}" if listed else ""


def _in_profile(given: object) -> bool:
    """Return whether options are a connection whose region is that of the profile."""
    if not isinstance(given, Connection):
        return False
    try:
        return boto3.Session(profile_name=given.profile).region_name is not None
    except BotoCoreError:  # an unknown profile, which is reported when it is used
        return True
