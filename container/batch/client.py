"""The client's side of batch transform: one object per request, retried as SageMaker retries."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from runtime.errors import DataError, JobError

MEDIA_TYPE = "application/x-image"
READY_SECONDS = 240.0  # SageMaker waits about as long for the first 200 of /ping
RETRIED = (500, 502, 503, 504)
BACKOFF_SECONDS = 0.5  # before the second retry, twice as long before each further one


class ServerError(JobError):
    """The server does not start, does not answer, or has ended."""


@dataclass(frozen=True)
class Parameters:
    """How to send: what was asked for, else what the server proposes, else SageMaker's defaults."""

    concurrency: int = 1
    payload_mb: int = 6
    digest: str = ""  # of the model, where the server tells it


class Endpoint:
    """A server that speaks SageMaker's protocol, at a base address such as http://127.0.0.1:8080."""

    def __init__(
        self, url: str, *, timeout_seconds: float, max_retries: int, is_alive: Callable[[], bool] = lambda: True
    ) -> None:
        """`is_alive` tells whether it is worth while to wait for the server."""
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
        """Until /ping says 200; raises ServerError if it never does."""
        ends = time.monotonic() + seconds
        while not self._is_ready():
            if not self._is_alive():
                raise ServerError("the server has ended before it was ready; what it said stands above")
            if time.monotonic() > ends:
                raise ServerError(f"no 200 from /ping within {seconds:g} seconds, expected a server there: {self.url}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return self._pool.request("GET", f"{self.url}/ping", retries=False, timeout=2).status == 200
        except HTTPError:
            return False

    def parameters(self, concurrency: int, payload_mb: int) -> Parameters:
        """What /execution-parameters proposes, unless given; raises ServerError for what SageMaker would refuse."""
        reply = self._pool.request("GET", f"{self.url}/execution-parameters", retries=self._retries)
        proposed = _read_object(reply.data) if reply.status == 200 else {}
        found = Parameters(
            concurrency or _whole(proposed.get("MaxConcurrentTransforms"), 1),
            payload_mb or _whole(proposed.get("MaxPayloadInMB"), 6),
            reply.headers.get("x-model-digest", ""),
        )
        if found.concurrency * found.payload_mb > 100:
            raise ServerError(
                f"{found.concurrency} requests of {found.payload_mb} MB are more than 100 MB at once, "
                "which SageMaker refuses; lower --max-concurrent-transforms or --max-payload-mb"
            )
        return found

    def invoke(self, body: bytes) -> bytes:
        """The answer to one object; raises DataError if it gets none, ServerError if nobody is there any more."""
        headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json"}
        try:
            reply = self._pool.request(
                "POST", f"{self.url}/invocations", body=body, headers=headers, retries=self._retries
            )
        except MaxRetryError as error:
            if isinstance(error.reason, NewConnectionError):
                raise ServerError(f"the server does not answer any more: {self.url}") from None
            raise DataError(f"no answer ({type(error.reason).__name__})") from None
        if reply.status != 200:
            raise DataError(f"{reply.status} {responses.get(reply.status, '')} ({_sentence(reply.data)})")
        return reply.data


def _whole(value: object, default: int) -> int:
    """A proposal as a positive whole number; null, 0 or anything else leaves the default."""
    text = str(value)
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _read_object(data: bytes) -> dict[str, object]:
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _sentence(data: bytes) -> str:
    """What a server says of an error, if it says it as ours does, else how it begins."""
    error = _read_object(data).get("error")
    return str(error["message"]) if isinstance(error, dict) and "message" in error else ascii(data[:80])[2:-1]
