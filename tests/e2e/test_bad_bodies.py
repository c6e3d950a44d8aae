"""Every route that takes a body, with bodies that are none: refused as JSON, and nobody else notices."""

import json
import socket
import time

import pytest
from field_clients import Http
from field_probes import ASK, CHAT, COMPLETIONS, COUNT, MESSAGES
from test_wire import read_answer

MARK = b"xyzzy-of-the-client"


def request(route, body, headers="", length=None):
    length = f"Content-Length: {len(body) if length is None else length}\r\n"
    return (f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
            f"{'' if 'Transfer-Encoding' in headers else length}\r\n").encode() + body


def ask(server, wire):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        try:
            sock.sendall(wire)
        except ConnectionError:
            pass  # it may be refused while it is sent
        status, headers, body, _ = read_answer(sock)
        return status, headers, json.loads(body)


def judge(route, status, answer, wanted):
    assert status in wanted, (route, status, answer)
    error = answer["error"]
    assert error["message"] and error["type"], answer
    if route in (MESSAGES, COUNT) and "request_id" in answer:
        assert answer["type"] == "error"
    else:  # what never became a request has no route
        assert set(error) == {"message", "type", "param", "code"} and error["code"] == status, answer


@pytest.fixture(scope="module")
def routes(demo):
    paths = json.loads(demo.get("/openapi.json"))["paths"]
    found = [path for path, methods in paths.items() if "requestBody" in methods.get("post", {})]
    assert set(found) == set(ASK)
    return found


def good(route):
    """A body of the route that begins with a text, the mark; ids have none."""
    mark = MARK.decode()
    body = dict(ASK[route])
    for name in ("messages", "documents", "prompt", "input", "lora_name"):
        if name in body:
            text = [{"role": "user", "content": mark * 20}] if name == "messages" else mark * 20
            body = {name: [text] if name == "documents" else text, **{k: v for k, v in body.items() if k != name}}
            break
    return json.dumps(body)


BODIES = {
    "no body": b"",
    "no JSON": b"nonsense " + MARK,
    "half of it": None,  # made of the route's own
    "an array": b"[1, 2]",
    "a text": b'"' + MARK + b'"',
    "null": b"null",
    "two values": b"{} {}",
    "invalid UTF-8": b'{"prompt": "\xff\xfe", "input": "\xff", "query": "\xff", "x": "\xff"}',
    "a lone surrogate": b'{"prompt": "\\ud800", "input": "\\ud800", "query": "\\ud800", "x": "\\ud800"}',
    "a NUL": b'{"prompt": "a\x00b", "input": "a\x00b"}',
    "a NUL behind it": None,
    "a byte order mark of UTF-16": b"\xff\xfe{\x00}\x00",
    "numbers that are none": b'{"max_tokens": NaN, "n": Infinity}',
    "a number beyond all": b'{"prompt": "x", "max_tokens": 1e99999}',
    "a comma too much": b'{"prompt": "x",}',
    "a deep one": b'{"a":' * 50_000,
}


@pytest.mark.parametrize("kind", BODIES)
def test_bodies_that_are_none(demo, routes, kind):
    for route in routes:
        body = BODIES[kind]
        if kind == "half of it":
            body = good(route).encode()[: len(good(route)) // 2]
        elif kind == "a NUL behind it":
            body = good(route).encode() + b"\x00"
        status, _, answer = ask(demo, request(route, body))
        judge(route, status, answer, (400,))


def test_no_log_has_what_was_refused(demo):
    """Nor does an answer repeat it whole: names that clients choose, kinds, what a template raises with."""
    mark = MARK.decode()
    format = {"type": "structural_tag", "triggers": ["<a>"],
              "structures": [{"begin": "<a>", "schema": {}, "end": "</a>", mark: 1}]}
    raising = {"chat_template": "{{ raise_exception(messages[0].content) }}",
               "messages": [{"role": "user", "content": mark}]}
    cases = [
        (CHAT, raising), (CHAT, {**raising, "chat_template": "{% if " + mark}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": mark * 50_000}]}]}),
        (CHAT, {"messages": [{"role": mark * 50_000, "content": "x"}]}),
        (CHAT, {"messages": [{"role": "user", "content": "x", mark * 50_000: 1}]}),
        (CHAT, {**ASK[CHAT], "structured_outputs": {mark * 50_000: 1}}),
        (CHAT, {**ASK[CHAT], "structured_outputs": {"regex": f"(?<{mark}"}}),
        (CHAT, {**ASK[CHAT], "structured_outputs": {"json": {"type": mark * 50_000}}}),
        (CHAT, {**ASK[CHAT], "structured_outputs": {"json": {"properties": {mark: {"type": 1}}}}}),
        (CHAT, {**ASK[CHAT], "structured_outputs": {"grammar": f"root ::= {mark}"}}),
        (CHAT, {**ASK[CHAT], "response_format": {"type": mark * 50_000}}),
        (CHAT, {**ASK[CHAT], "response_format": format}),
        (CHAT, {**ASK[CHAT], "tool_choice": {"type": "function", "function": {"name": mark * 50_000}}}),
        (CHAT, {**ASK[CHAT], "tools": [{"type": mark * 50_000}]}),
        (CHAT, {**ASK[CHAT], "tools": [{"type": "function", "function": {"name": mark + " "}}]}),
        (COMPLETIONS, {**ASK[COMPLETIONS], "logit_bias": {mark * 50_000: 1}}),
        (COMPLETIONS, {**ASK[COMPLETIONS], "reasoning_effort": mark * 50_000}),
        ("/v1/responses", {"input": [{"type": mark * 50_000}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": mark}]}]}),
        (MESSAGES, {**ASK[MESSAGES], "messages": [{"role": "user", "content": [{"type": mark * 50_000}]}]}),
        (MESSAGES, {**ASK[MESSAGES], "tools": [{"name": mark * 50_000, "type": mark, "input_schema": {}}]}),
    ]
    refused = 0
    for route, body in cases:
        status, _, answer = ask(demo, request(route, json.dumps(body).encode()))
        assert status < 500 and len(json.dumps(answer)) < 10_000, (route, str(body)[:200], status)
        refused += status == 400
    assert refused >= len(cases) - 4, refused
    assert mark not in demo.log and max(map(len, demo.log.splitlines())) < 5_000


def test_escaped_texts_are_texts(demo):
    """What JSON can say is taken: NUL and pairs of surrogates."""
    http = Http(demo)
    for route, field in ((COMPLETIONS, "prompt"), (CHAT, "messages"), (MESSAGES, "messages")):
        text = "a\u0000b \U0001f600"
        value = text if field == "prompt" else [{"role": "user", "content": text}]
        assert http.post(route, {**ASK[route], field: value}).status == 200


def test_other_types_of_content_are_read_as_json(demo, routes):
    """As curl sends what it is given: the type says nothing."""
    http = Http(demo)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x" * 1000):
        for route in routes:
            seen = http.post(route, ASK[route], {"Content-Type": kind})
            assert seen.status < 500, (route, kind, seen.raw)
            assert seen.status == 200 or seen.raw["error"]["param"] or seen.status in (403, 404), (route, seen.raw)
    seen = http.post(COMPLETIONS, b"prompt=x", {"Content-Type": "application/x-www-form-urlencoded"})
    assert seen.status == 400


def test_seventeen_mebibytes_are_too_much(demo, routes):
    body = b'{"prompt": "' + b"a" * (17 << 20) + b'"}'
    for route in routes:
        status, headers, answer = ask(demo, request(route, body))
        judge(route, status, answer, (413,))
        assert headers["connection"] == "close"


def test_chunks_come_in_any_pieces(demo):
    """The last one too, whose end a client may send byte by byte."""
    body = json.dumps({"prompt": "The sea", "max_tokens": 1}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n" % (len(body), body)
    for last, status in ((b"0\r\n\r\n", 200), (b"0\r\nX-After: 1\r\n\r\n", 200), (b"0\r\n\n", None)):
        with socket.create_connection(("127.0.0.1", demo.port), timeout=60) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(head + chunks)
            for byte in last:
                time.sleep(0.02)
                sock.sendall(bytes([byte]))
            time.sleep(0.02)
            assert status is None or read_answer(sock)[0] == status, last
    assert Http(demo).post(COMPLETIONS, ASK[COMPLETIONS]).status == 200


def test_chunks_that_are_none(demo, routes):
    chunked = "Transfer-Encoding: chunked\r\n"
    for route in routes:
        for chunks in (b"ZZZ\r\nabc\r\n", b"-5\r\nabc\r\n", b"FFFFFFFFFFFFFFFFF\r\nabc", b"3\r\nabcdef\r\n"):
            status, _, answer = ask(demo, request(route, chunks, chunked))
            judge(route, status, answer, (400, 413))
        both = request(route, b"0\r\n\r\n", chunked + "Content-Length: 5\r\n")
        status, _, answer = ask(demo, both)
        judge(route, status, answer, (400,))


# Shapes of which a proxy and a server might each read another request: (status, headers, body, version).
LENGTH = f"Content-Length: {len(MARK)}\r\n"
AMBIGUOUS = [
    (400, LENGTH + "Content-Length: 3\r\n", MARK, "1.1"),
    (400, LENGTH.replace(": ", ": +"), MARK, "1.1"),
    (400, LENGTH.replace(": ", " : "), MARK, "1.1"),
    (400, "Content-Length: -1\r\n", MARK, "1.1"),
    (400, "Content-Length: 0x10\r\n", MARK, "1.1"),
    (400, "Content-Length: 4 4\r\n", MARK, "1.1"),
    (400, "Content-Length: 99999999999999999999999\r\n", MARK, "1.1"),
    (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", "1.1"),
    (501, "Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n", "1.1"),
    (501, "Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n", "1.1"),
    (501, "Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n", "1.1"),
    (400, "Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n", "1.1"),
    (400, "Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", "1.0"),
    (400, "Transfer-Encoding: chunked\r\n", b"2\n{}\n0\n\n", "1.1"),
    (400, "Transfer-Encoding: chunked\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", "1.1"),
    (400, "Transfer-Encoding: chunked\r\n", b"10000000000000002\r\n{}\r\n0\r\n\r\n", "1.1"),
    (400, "X-A: a\rTransfer-Encoding: chunked\r\n" + LENGTH, MARK, "1.1"),
    (400, "X-A: a\0b\r\n" + LENGTH, MARK, "1.1"),
    (400, "X A: a\r\n" + LENGTH, MARK, "1.1"),
    (400, "Host: other\r\n" + LENGTH, MARK, "1.1"),
]


@pytest.mark.parametrize("status,headers,body,version", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_ends_the_connection(demo, status, headers, body, version):
    head = f"POST /v1/completions HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n".encode()
    with socket.create_connection(("127.0.0.1", demo.port), timeout=60) as sock:
        sock.sendall(head + body + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert answer.count(b"HTTP/1.1 ") == 1, "what came behind was answered"


def test_half_a_body_is_nothing(demo, routes):
    for route in routes:
        with socket.create_connection(("127.0.0.1", demo.port), timeout=60) as sock:
            sock.sendall(request(route, MARK, length=1000))
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b"", "half a request was answered"


def test_nobody_notices(demo, routes):
    """The last of this file: the server is as before, and its log has nothing of what was sent."""
    assert Http(demo).post(COMPLETIONS, ASK[COMPLETIONS]).status == 200
    assert MARK.decode() not in demo.log
    assert demo.metric("vllm:num_requests_running") == 0
