"""A connection serves every valid request, rejects invalid or slow ones, and disturbs no other connection."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.http_timeouts import MAX_HEAD_BYTES, MAX_HEADERS
from support.raw_client import CLOSE, GOOD, PING, Client, request
from support.serving import Running, running

RECEIVE_SECONDS = 1.0
TOO_LARGE = 16 * MAX_HEAD_BYTES


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[Running]:
    """Run one server for all tests that do not stop it; at the end its log must have no error."""
    with running(model_dir, SERVE_RECEIVE_SECONDS=RECEIVE_SECONDS, SERVE_MAX_WAITING=16) as server:
        yield server
        code, output = server.stop()
        assert code == 0
        assert [line.split(":")[0].split(";")[0] for line in output.splitlines()] == ["ready", "ended"], output


def test_a_connection_serves_many_requests_and_each_has_its_own_timeout(server: Running) -> None:
    with Client(server, request()) as client:
        assert client.response().status == 200
        time.sleep(1.5 * RECEIVE_SECONDS)
        client.send(request() + PING + request(GOOD, CLOSE))
        assert [response.status for response in client.responses()] == [200, 200, 200]


def test_a_chunked_body_gets_the_same_response(server: Running) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(GOOD[at : at + 7]), GOOD[at : at + 7]) for at in range(0, len(GOOD), 7))
    with Client(server, request(body + b"0\r\n\r\n", "Transfer-Encoding: chunked", CLOSE)) as client:
        (response,) = client.responses()
    assert response.body == server.post(GOOD).body


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        request(b"zz\r\nx", "Transfer-Encoding: chunked"),
        request(b"5\r\nhelloXX3\r\n", "Transfer-Encoding: chunked"),
    ],
)
def test_invalid_http_gets_a_400_and_closes_the_connection(server: Running, data: bytes) -> None:
    with Client(server, data) as client:
        (response,) = client.responses()
    assert (response.status, response.error) == (400, "bad_request")


def test_a_valid_request_before_invalid_bytes_gets_its_response(server: Running) -> None:
    with Client(server, request() + b"nonsense\r\n\r\n") as client:
        assert [response.status for response in client.responses()] == [200]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /ping HTTP/1.1\r\nX: " + b"x" * TOO_LARGE, id="an endless header"),
        pytest.param(b"GET /" + b"x" * TOO_LARGE, id="an endless address"),
        pytest.param(b"GET /ping HTTP/1.1\r\n" + b"x: y\r\n" * (TOO_LARGE // 8), id="headers without end"),
        pytest.param(b"GET /ping HTTP/1.1\r\n" + b"a:b\r\n" * 2 * MAX_HEADERS, id="too many headers"),
        pytest.param(request(b"1;" + b"x" * TOO_LARGE, "Transfer-Encoding: chunked"), id="an endless chunk extension"),
        pytest.param(
            request(b"0\r\n" + b"x: y\r\n" * (TOO_LARGE // 8), "Transfer-Encoding: chunked"),
            id="trailers without end",
        ),
    ],
)
def test_headers_chunk_extensions_and_trailers_have_a_limit(server: Running, data: bytes) -> None:
    with Client(server) as client:
        with contextlib.suppress(OSError):
            client.send(data)
        responses = client.responses()
    assert [response.status for response in responses] in (
        [431],
        [],
    )  # a response may be lost while the client is still sending


def test_a_client_that_closes_its_sending_side_still_gets_its_responses(server: Running) -> None:
    with Client(server, request() + PING + request()) as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert [response.status for response in client.responses()] == [200, 200, 200]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
@pytest.mark.parametrize("pause", [False, True])
def test_a_protocol_upgrade_is_not_supported_and_its_body_never_a_request(
    server: Running, protocol: bytes, pause: bool
) -> None:
    asking = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHost"
    with Client(server, PING.replace(b"Host", asking)) as client:
        assert [response.status for response in client.responses()] == [200]
    for data in (request(PING), request(b"28\r\n" + PING + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked")):
        head, separator, body = data.replace(b"Host", asking).partition(b"\r\n\r\n")
        with Client(server, head + separator + (b"" if pause else body)) as client:
            if pause:
                with contextlib.suppress(OSError):
                    client.send(body)
            responses = client.responses()
        assert [(response.status, response.error) for response in responses] == [(400, "upgrade_not_offered")]
    with Client(server, request() + PING.replace(b"Host", asking) + PING) as client:
        assert [response.status for response in client.responses()] == [200, 200]
    with Client(server, request() + request().replace(b"Host", asking)) as client:
        assert [response.status for response in client.responses()] == [200]


def test_several_accept_headers_are_read_together(server: Running) -> None:
    with Client(server, request(GOOD, "Accept: text/html", "Accept: application/json")) as client:
        assert client.response().status == 200


@pytest.mark.parametrize("lines", [("Expect: 100-continue",), ()])
def test_a_body_with_too_large_a_content_length_is_rejected_before_it_arrives(
    server: Running, lines: tuple[str, ...]
) -> None:
    with Client(server, request(b"", *lines, length=1 << 40)) as client:
        response = client.response()
        assert (response.status, response.error) == (413, "payload_too_large")  # a 408 if the server had waited for it


def test_a_client_that_sends_all_of_a_body_that_is_too_large_gets_its_response(server: Running) -> None:
    before = server.resident_bytes()
    response = server.post(bytes(100 << 20))
    assert (response.status, response.error) == (413, "payload_too_large")
    assert server.resident_bytes() - before < 16 << 20


# slow clients

TRICKLES = {
    "nothing at all": [b""],
    "line breaks": [b"\r\n"],
    "a request line": [bytes([byte]) for byte in PING],
    "headers": [b"POST /invocations HTTP/1.1\r\n", b"x: y\r\n"],
    "a body": [request(b"", length=100), b"x"],
    "chunks": [request(b"", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"],
    "a body that is rejected already": [request(b"", length=1 << 40), b"x"],
    "a body for an unknown route": [request(b"", length=100).replace(b"/invocations", b"/none"), b"x"],
    "the next request": [request() + b"POST", b" ", b"/"],
}


def test_a_request_that_trickles_in_is_closed_in_time_and_does_not_disturb_others(server: Running) -> None:
    clients = [(name, parts, Client(server)) for name, parts in TRICKLES.items() for _ in range(12)]
    closed: dict[str, list[float]] = {name: [] for name in TRICKLES}
    step = 0
    while clients:
        for name, parts, client in list(clients):
            if is_closed_after(client, parts[min(step, len(parts) - 1)]):
                closed[name].append(time.monotonic() - client.started)
                clients.remove((name, parts, client))
                client.socket.close()
        assert server.get("/ping").status == 200
        assert server.post(GOOD).status == 200
        step += 1
        time.sleep(0.02)
    for name, found in closed.items():
        assert min(found) >= RECEIVE_SECONDS * 0.9, name
        assert max(found) <= 10 * RECEIVE_SECONDS, name  # about RECEIVE_SECONDS on an idle machine


def is_closed_after(client: Client, data: bytes) -> bool:
    """Send a little more, and return whether the server has closed the connection."""
    try:
        client.socket.sendall(data)
        client.socket.setblocking(False)
        while client.socket.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        client.socket.settimeout(20)
    return True


@pytest.mark.parametrize("data", [b"POST /invoc", request(GOOD[:50], length=100)])
def test_a_slow_client_gets_a_408(server: Running, data: bytes) -> None:
    with Client(server, data) as client:
        (response,) = client.responses()
    assert (response.status, response.error) == (408, "too_slow")


# many clients, and clients that disconnect


def test_under_overload_some_get_a_503_and_a_second_later_all_are_served(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(300)]
        for client in clients:
            client.send(request(GOOD, CLOSE))
        responses = [response for client in clients for response in client.responses()]
        assert len(responses) == 300
        rejected = [response for response in responses if response.status != 200]
        assert {(response.status, response.error, response.headers["retry-after"]) for response in rejected} == {
            (503, "overloaded", "1")
        }
        assert 300 - len(rejected) >= 16
    time.sleep(1)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server, request(GOOD, CLOSE))) for _ in range(16)]
        assert [response.status for client in clients for response in client.responses()] == [200] * 16


def test_clients_that_disconnect_leave_nothing_behind(server: Running) -> None:
    for data in (b"", b"POST", request(GOOD[:50], length=100), request(), request() + request(), request(b"junk")):
        for reset in (False, True):
            client = Client(server, data)
            if reset:  # the connection ends with a reset
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.socket.close()
    assert server.post(GOOD).status == 200
