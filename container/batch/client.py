"""The client's side of batch transform: one object per request, retried as SageMaker retries."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from typing import Any

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, NewConnectionError
from urllib3.util import parse_url

from runtime.errors import DataError, JobError
from runtime.json_files import parse_json
from sagemaker_limits import BATCH_TRANSFORM_MB, DEFAULT_PAYLOAD_MB

ROUTES = ("/ping", "/invocations", "/execution-parameters")
MEDIA_TYPE = "application/x-image"
READY_SECONDS = 240.0  # about as long as SageMaker waits for the first 200 of /ping
RETRIED = (500, 502, 503, 504)
BACKOFF_SECONDS = 0.5  # before the second retry, twice as long before each further one


class ServerError(JobError):
    """The server did not start, does not respond, or has exited."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a transform: those of the user, else of the server, else SageMaker's defaults."""

    concurrency: int = 1
    payload_mb: int = DEFAULT_PAYLOAD_MB
    digest: str = ""  # of the model and how it is served, if the server sends one

    @property
    def model_sha256(self) -> str:
        """Return the sha256 of the server's model.json, with which our digest begins; empty for any other server."""
        found = re.match(r"[0-9a-f]{64}\b", self.digest)
        return found[0] if found else ""


class Endpoint:
    """A server that speaks SageMaker's protocol, at a base address such as http://127.0.0.1:8080."""

    def __init__(
        self, url: str, *, timeout_seconds: float, max_retries: int, is_alive: Callable[[], bool] = lambda: True
    ) -> None:
        """`is_alive` returns False once waiting for the server is pointless."""
        self.url = url.rstrip("/")
        self._is_alive = is_alive
        self._pool = urllib3.PoolManager(maxsize=100, block=True, timeout=timeout_seconds)
        self._retries = urllib3.Retry(
            total=max_retries,
            status_forcelist=RETRIED,
            allowed_methods=None,
            backoff_factor=BACKOFF_SECONDS / 2,
            raise_on_status=False,
            redirect=0,
        )

    def wait(self, seconds: float = READY_SECONDS) -> None:
        """Wait until /ping returns 200; raise ServerError if it does not in time."""
        ends = time.monotonic() + seconds
        while reason := self._unready():
            if not self._is_alive():
                raise ServerError("the server exited before it was ready; see its output above")
            if time.monotonic() > ends:
                raise ServerError(
                    f"/ping did not return 200 within {seconds:g} seconds ({reason}), expected a running server: "
                    f"{self.url}"
                )
            time.sleep(0.05)

    def _unready(self) -> str:
        """Return why the server is not ready, empty if it is."""
        try:
            status = self._pool.request("GET", f"{self.url}/ping", retries=False, timeout=2).status
        except HTTPError as error:
            return type(error).__name__
        return "" if status == 200 else str(status)

    def parameters(self, concurrency: int, payload_mb: int) -> Parameters:
        """Return the given parameters, those of /execution-parameters in place of 0.

        Raises ServerError if they exceed the limit of SageMaker, and if the server does not respond.
        """
        try:
            response = self._request("GET", "execution-parameters")
        except DataError as error:
            raise ServerError(f"{error} to /execution-parameters, expected parameters or a 404: {self.url}") from None
        proposed = _read_object(response.data) if response.status == 200 else {}
        found = Parameters(
            concurrency or _whole(proposed.get("MaxConcurrentTransforms"), Parameters.concurrency),
            payload_mb or _whole(proposed.get("MaxPayloadInMB"), Parameters.payload_mb),
            response.headers.get("x-model-digest", ""),
        )
        if found.concurrency * found.payload_mb > BATCH_TRANSFORM_MB:
            raise ServerError(
                f"{found.concurrency} concurrent requests of {found.payload_mb} MB exceed SageMaker's limit of "
                f"{BATCH_TRANSFORM_MB} MB; lower --max-concurrent-transforms or --max-payload-mb"
            )
        return found

    def invoke(self, body: bytes) -> bytes:
        """Return the response to one object; raise DataError without a 200, ServerError if the server is gone."""
        headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json"}
        response = self._request("POST", "invocations", body=body, headers=headers)
        if response.status != 200:
            raise DataError(f"{response.status} {responses.get(response.status, '')} ({_sentence(response.data)})")
        return response.data

    def _request(self, method: str, route: str, **content: Any) -> BaseHTTPResponse:
        """Return the response of any status; raise DataError if there is none, ServerError if the server is gone."""
        try:
            return self._pool.request(method, f"{self.url}/{route}", retries=self._retries, **content)
        except MaxRetryError as error:
            if isinstance(error.reason, NewConnectionError):
                raise ServerError(f"the server no longer responds: {self.url}") from None
            reason = type(error.reason).__name__
        except HTTPError as error:  # such as a body that is not compressed as its header says
            reason = type(error).__name__
        raise DataError(f"no response ({reason})")


def is_address(url: str) -> bool:
    """Return whether a server can be at a URL: http or https, and nothing after it that belongs to a request."""
    try:
        found = parse_url(url)
    except LocationParseError:
        return False
    is_http = found.scheme in (None, "http", "https") and bool(found.host)
    path = (found.path or "").rstrip("/")
    return is_http and not path.endswith(ROUTES) and found.query is None and found.fragment is None


def _whole(value: object, default: int) -> int:
    """Return a proposed value as a positive whole number; null, 0 or anything else becomes the default."""
    text = str(value)
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _read_object(data: bytes) -> dict[str, object]:
    try:
        record = parse_json(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _sentence(data: bytes) -> str:
    """Return the message of an error response of our server, or the beginning of any other body."""
    error = _read_object(data).get("error")
    return str(error["message"]) if isinstance(error, dict) and "message" in error else ascii(data[:80])[2:-1]
