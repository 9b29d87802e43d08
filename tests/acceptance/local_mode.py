"""SageMaker's own SDK plays SageMaker: it carries out requests of boto3 in real containers on this machine.

    .venv-acceptance/bin/python tests/acceptance/local_mode.py ROOT PORT <requests.json

Standard input holds an object of operations and requests, as `submit.py --dry-run` prints it. ROOT stands for S3: the
bucket `faces` is the folder ROOT/faces. PORT is where a server in a container can be reached. No account, no
credentials, no network. What the containers print comes out; the exit code is 1 if a job failed.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore import xform_name
from sagemaker.core.local.local_session import LocalSession

# The administrator's limits. SDK and Docker may run as two users: root in the container must reach the folders of both.
CONTAINER = {
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108  the container's
    "cap_drop": ["ALL"],
    "cap_add": ["DAC_OVERRIDE"],
    "security_opt": ["no-new-privileges:true"],
}
SDK = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def main(root: Path, port: int) -> None:
    text = sys.stdin.read().replace("s3://", f"file://{root}/")
    session = LocalSession(boto3.Session(region_name="eu-west-1"), sagemaker_config=SDK)
    session.config = {"local": {"container_root": str(root), "serving_port": port, "container_config": CONTAINER}}
    for operation, request in json.loads(text).items():
        try:
            if operation == "InvokeEndpoint":
                invoke(session, request)
            else:
                getattr(session.sagemaker_client, xform_name(operation))(**request)
        except RuntimeError as error:
            sys.exit(f"{operation}: {error}")


def invoke(session: LocalSession, request: Mapping[str, str]) -> None:
    """Send the image that `Body` names, and print the answer."""
    image = Path(request["Body"]).read_bytes()
    answer = session.sagemaker_runtime_client.invoke_endpoint(**{**request, "Body": image})
    print("answer:", answer["Body"].read().decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
