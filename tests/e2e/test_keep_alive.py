"""What one connection of HTTP/1.1 may carry, and who ends it."""

import contextlib
import json
import pathlib
import select
import socket
import threading

from conftest import SANITIZED
from test_wire import ask, connect, post, read_answer

GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT = {"prompt": "The sea", "max_tokens": 3, "temperature": 0, "ignore_eos": True}
MANY = 1 if SANITIZED else 16  # choices of 2,000 tokens: seconds of any machine
LONG = {"prompt": "Once", "max_tokens": 300, "temperature": 0, "ignore_eos": True}


def rest_of(sock):
    """What comes until the server ends the connection."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def read_stream(sock):
    """(events, what came after)"""
    data = b""
    while b"\r\n0\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    body, _, after = data.partition(b"\r\n0\r\n\r\n")
    return [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")], after


def test_an_idle_connection_is_closed_and_one_that_waits_for_its_answer_is_not(serve):
    server = serve("--set", "limits.idle_timeout=300ms")
    with connect(server) as unused, connect(server) as used:
        used.sendall(post("/v1/completions", SHORT))
        status, headers, _, after = read_answer(used)
        assert status == 200 and headers.get("connection") != "close" and after == b""
        with connect(server) as waiting:
            # While it is answered, all the others come to their end, and it does not.
            waiting.settimeout(300)
            waiting.sendall(post("/v1/completions", {**LONG, "max_tokens": 2000, "n": MANY}))
            server.until(lambda: server.metric("vllm:num_requests_running") > 0)
            assert rest_of(used) == b"" and rest_of(unused) == b""
            status, _, body, _ = read_answer(waiting)
            assert status == 200 and json.loads(body)["usage"]["completion_tokens"] == 2000 * MANY
            assert rest_of(waiting) == b""


def test_a_body_that_never_ends_is_given_up(serve):
    server = serve("--set", "limits.idle_timeout=300ms")
    with connect(server) as sock:
        sock.sendall(post("/v1/completions", SHORT)[:-5])
        assert b"200" not in rest_of(sock)
    assert ask(server, post("/v1/completions", SHORT))[0] == 200


def test_a_body_that_drips_is_given_up(serve):
    """A byte at a time, each well within the time for silence."""
    server = serve("--set", "limits.idle_timeout=3s")
    body = post("/v1/completions", SHORT)
    with connect(server) as sock:
        sent = 0
        sock.sendall(body[:-60])
        with contextlib.suppress(ConnectionError):
            for byte in body[-60:-1]:
                sock.sendall(bytes([byte]))
                sent += 1
                if select.select([sock], [], [], 0.1)[0]:
                    break
        assert b" 408 " in sock.recv(65536) and sent < 59, sent
    assert ask(server, post("/v1/completions", SHORT))[0] == 200


def test_nobodys_body_is_read_before_the_right_to_ask(serve, tmp_path):
    """A refusal that no body can change does not wait for all of a large one; who may ask is waited for."""
    key = tmp_path / "key"
    key.write_text("a-key-of-the-tests\n")
    server = serve("--set", f"auth.api_key_file={key}")
    right = f"Authorization: Bearer {key.read_text().strip()}\r\n"
    begun = b'{"max_tokens": 1, "prompt": "' + b"x" * 100_000
    for path, who, expected in (("/v1/completions", "", 401), ("/v1/nothing", right, 404), ("/health", right, 405)):
        with connect(server) as sock:
            sock.sendall((f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{who}Content-Length: 1000000\r\n\r\n").encode()
                         + begun)
            status, headers, _, _ = read_answer(sock)
            assert status == expected and headers["connection"] == "close", (path, status)
            assert rest_of(sock) == b""
    begun = b'{"model": "demo", "prompt": "x", "max_tokens": 1, "user": "' + b"x" * 100_000
    with connect(server) as sock:
        sock.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{right}Content-Length: "
                      f"{len(begun) + 2}\r\n\r\n").encode() + begun)
        assert not select.select([sock], [], [], 0.5)[0]
        sock.sendall(b'"}')
        assert read_answer(sock)[0] == 200


def test_who_sent_much_ahead_is_seen_to_leave(demo):
    """More than is read of further requests while one is answered: its end is behind what nobody reads."""
    aborted = lambda: demo.metric("vllm:request_success_total", finished_reason="abort")
    before = aborted()
    with connect(demo) as sock:
        sock.sendall(post("/v1/completions", {**LONG, "prompt": ["Once"] * 4, "max_tokens": 2000, "n": MANY}))
        demo.until(lambda: demo.metric("vllm:num_requests_running") > 0)
        sock.sendall(GET_HEALTH * 1700)  # what the kernel takes as well: else its end is not on its way
    demo.until(lambda: aborted() > before)
    demo.until(lambda: demo.metric("vllm:num_requests_running") == 0)


def test_a_connection_carries_as_many_requests_as_a_client_likes(demo):
    with connect(demo) as sock:
        for _ in range(1000):
            sock.sendall(GET_HEALTH)
            status, headers, _, after = read_answer(sock)
            assert status == 200 and "connection" not in headers and after == b""
        sock.sendall(post("/v1/completions", SHORT))
        assert read_answer(sock)[0] == 200


def test_answers_keep_the_order_of_requests_behind_a_slow_one(demo):
    with connect(demo) as sock:
        sock.sendall(post("/v1/completions", LONG, "X-Request-Id: slow\r\n") + GET_HEALTH
                     + post("/v1/completions", SHORT, "X-Request-Id: quick\r\n")
                     + post("/v1/completions", {"prompt": 7}) + GET_HEALTH)
        rest, seen = b"", []
        for _ in range(5):
            status, headers, body, rest = read_answer(sock, rest)
            seen.append((status, headers["x-request-id"], body))
    assert rest == b"" and [status for status, _, _ in seen] == [200, 200, 200, 400, 200]
    assert seen[0][1] == "slow" and json.loads(seen[0][2])["usage"]["completion_tokens"] == 300
    assert seen[2][1] == "quick" and json.loads(seen[2][2])["usage"]["completion_tokens"] == 3
    assert json.loads(seen[3][2])["error"]["param"] == "prompt"


def test_what_follows_a_stream_is_answered_behind_it(demo):
    with connect(demo) as sock:
        sock.sendall(post("/v1/completions", {**LONG, "stream": True}) + post("/v1/completions", SHORT))
        events, after = read_stream(sock)
        assert events[-1].strip() == b"[DONE]" and len(events) > 2
        status, _, body, after = read_answer(sock, after)
    assert status == 200 and after == b"" and json.loads(body)["usage"]["completion_tokens"] == 3


def test_more_than_is_read_ahead_is_answered_all_the_same(demo):
    """Bodies of 32 KB each behind a slow answer: what is not read ahead waits in the kernels, then at the client."""
    large = post("/tokenize", {"prompt": "the sea " * 4000})
    with connect(demo) as sock:
        sender = threading.Thread(target=sock.sendall, args=(post("/v1/completions", LONG) + large * 200,))
        sender.start()
        status, _, _, rest = read_answer(sock)
        assert status == 200
        counts = []
        for _ in range(200):
            status, _, body, rest = read_answer(sock, rest)
            assert status == 200
            counts.append(json.loads(body)["count"])
        sender.join()
    assert rest == b"" and len(set(counts)) == 1 and counts[0] > 4000


def test_a_client_that_wants_no_more_gets_no_more(demo):
    for wire, version in (
        (GET_HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"HTTP/1.1"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"HTTP/1."),
    ):
        with connect(demo) as sock:
            sock.sendall(wire + GET_HEALTH)
            data = rest_of(sock)
            assert data.startswith(version) and data.count(b"HTTP/1.") == 1 and b" 200 " in data
            assert b"connection: close" in data.lower()
    with connect(demo) as sock:  # 1.0 keeps alive where it says so
        asked = b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        for _ in range(2):
            sock.sendall(asked)
            status, headers, _, _ = read_answer(sock)
            assert status == 200 and headers["connection"].lower() == "keep-alive"


def timers_of(port):
    """Of the established sockets of a port: (which timer runs, seconds until it does), as the kernel has them."""
    found = []
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1].endswith(f":{port:04X}") and columns[3] == "01":
            kind, when = columns[5].split(":")
            found.append((int(kind, 16), int(when, 16) / 100))
    return found


KEEPALIVE = 2


def test_the_kernel_asks_whether_a_silent_peer_is_there(serve):
    """A machine that is gone says no goodbye. By the kernel's own defaults it would be asked after two hours."""
    server = serve()
    with connect(server) as idle, connect(server) as streaming:
        idle.sendall(GET_HEALTH)
        assert read_answer(idle)[0] == 200
        streaming.sendall(post("/v1/completions", SHORT))
        assert read_answer(streaming)[0] == 200
        # Other timers run while bytes are under way.
        server.until(lambda: [kind for kind, _ in timers_of(server.port)] == [KEEPALIVE] * 2)
        assert all(seconds <= 30 for _, seconds in timers_of(server.port))
        # What the client's own sockets have, which nobody asked for it, is none.
        assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0 for sock in (idle, streaming))
