"""Raw bytes: malformed requests, pipelining, clients that vanish or read slowly."""

import gzip
import json
import socket
import time
import zlib

import pytest
from conftest import DEMO


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def post(path, body, headers=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def read_answer(sock, rest=b""):
    """(status, headers, body, what came after)"""
    data = rest
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    head, data = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    length = int(headers["content-length"])
    while len(data) < length:
        piece = sock.recv(65536)
        assert piece
        data += piece
    return int(lines[0].split()[1]), headers, data[:length], data[length:]


def ask(server, wire):
    with connect(server) as sock:
        sock.sendall(wire)
        status, headers, body, _ = read_answer(sock)
        return status, headers, json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"nonsense",
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "x", "max_tokens": 1e99}',
        b'{"prompt": 7}',
        b'{"prompt": null}',
        b"[" * 100000,
        b'{"prompt": "x", "model": {}}',
        b"",
    ],
)
def test_malformed_bodies_are_400(demo, body):
    status, _, answer = ask(demo, post("/v1/completions", body))
    assert status == 400
    assert (
        set(answer["error"]) == {"message", "type", "param", "code"}
        and answer["error"]["code"] == 400
    )


def test_bodies_may_come_compressed(demo):
    body = {"prompt": "The old house " * 40, "max_tokens": 3, "temperature": 0}
    plain = ask(demo, post("/v1/completions", body))[2]
    packed = gzip.compress(json.dumps(body).encode())
    assert len(packed) < 200
    for path, coding, data in (
        ("/v1/completions", "gzip", packed),
        ("/v1/completions", "deflate", zlib.compress(json.dumps(body).encode())),
    ):
        status, _, answer = ask(demo, post(path, data, f"Content-Encoding: {coding}\r\n"))
        assert status == 200 and answer["choices"] == plain["choices"]
    for status, coding, data in (
        (400, "gzip", packed[:-1]),
        (400, "gzip", b'{"prompt": "x"}'),
        (400, "gzip", gzip.compress(b"{")),
        (415, "br", packed),
        (413, "gzip", gzip.compress(b"a" * 100_000_000)),
    ):
        wire = post("/v1/chat/completions", data, f"Content-Encoding: {coding}\r\n")
        got, _, answer = ask(demo, wire)
        assert got == answer["error"]["code"] == status, answer


def test_unknown_routes_and_methods(demo):
    assert ask(demo, post("/v1/nothing", {}))[0] == 404
    assert ask(demo, b"GET /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 405


def test_a_request_id_is_taken_or_made(demo):
    _, headers, _ = ask(
        demo, post("/v1/completions", {"prompt": "x", "max_tokens": 1}, "X-Request-Id: abc-1\r\n")
    )
    assert headers["x-request-id"] == "abc-1"
    _, headers, _ = ask(demo, post("/v1/completions", {"prompt": "x", "max_tokens": 1}))
    assert headers["x-request-id"]
    assert demo.logged(request_id="abc-1")


def test_a_body_beyond_the_limit_is_413(serve):
    server = serve("--set", "limits.max_body=64KiB")
    with connect(server) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        status, _, body, _ = read_answer(sock)
    assert status == 413 and json.loads(body)["error"]["code"] == 413


def test_keep_alive_and_pipelining(demo):
    one = post("/v1/completions", {"prompt": "The sea", "max_tokens": 3, "temperature": 0})
    two = post("/v1/completions", {"prompt": "The king", "max_tokens": 3, "temperature": 0})
    with connect(demo) as sock:
        sock.sendall(one + two + one)
        rest, texts = b"", []
        for _ in range(3):
            status, _, body, rest = read_answer(sock, rest)
            assert status == 200
            texts.append(json.loads(body)["choices"][0]["text"])
    assert texts[0] == texts[2] and rest == b""


def test_a_stream_has_the_role_with_its_first_token_and_ends_with_done(demo):
    with connect(demo) as sock:
        sock.sendall(
            post(
                "/v1/chat/completions",
                {
                    "messages": [{"role": "user", "content": "Hi"}],
                    "max_tokens": 5,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                    "ignore_eos": True,
                },
            )
        )
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = sock.recv(65536)
            assert piece
            data += piece
    events = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    assert events[-1].strip() == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    first = chunks[0]["choices"][0]["delta"]
    assert first["role"] == "assistant" and "content" in first
    assert sum("role" in c["choices"][0]["delta"] for c in chunks if c["choices"]) == 1
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 5


def test_a_client_that_vanishes_frees_its_blocks(demo):
    for _ in range(5):
        sock = connect(demo)
        sock.sendall(
            post(
                "/v1/completions",
                {"prompt": "Once", "max_tokens": 1900, "stream": True, "ignore_eos": True},
            )
        )
        sock.recv(100)
        sock.close()
    demo.until(
        lambda: demo.metric("vllm:num_requests_running") == 0
        and demo.metric("vllm:kv_cache_usage_perc") == 0
    )
    assert demo.metric("penstock_cancelled_total", reason="disconnect") >= 1


def test_a_client_that_vanishes_before_the_answer_frees_its_blocks(demo):
    sock = connect(demo)
    sock.sendall(
        post("/v1/completions", {"prompt": "Once", "max_tokens": 1900, "n": 16, "ignore_eos": True})
    )
    demo.until(lambda: demo.metric("vllm:num_requests_running") > 0)
    sock.close()
    demo.until(
        lambda: demo.metric("vllm:num_requests_running") == 0
        and demo.metric("vllm:kv_cache_usage_perc") == 0
    )


def test_a_slow_reader_is_cut_off_and_nobody_else_is(serve):
    server = serve("--set", "limits.stream_buffer=16KiB", "--set", "limits.write_stall=1s")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    # Log-probs make the stream large enough to fill what the kernel buffers.
    slow.sendall(
        post(
            "/v1/completions",
            {
                "prompt": ["Once"] * 8,
                "n": 2,
                "max_tokens": 1900,
                "stream": True,
                "ignore_eos": True,
                "logprobs": 5,
            },
        )
    )
    ok = ask(server, post("/v1/completions", {"prompt": "The sea", "max_tokens": 5}))
    assert ok[0] == 200
    server.until(
        lambda: server.metric("penstock_cancelled_total", reason="slow_reader") >= 1, seconds=120
    )
    server.until(lambda: server.metric("vllm:kv_cache_usage_perc") == 0)
    slow.close()


def test_a_half_sent_request_is_dropped_in_time(serve):
    server = serve("--set", "limits.header_timeout=500ms")
    with connect(server) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHo")
        begin = time.monotonic()
        while sock.recv(1000):
            pass
        assert time.monotonic() - begin < 10
    assert ask(server, post("/v1/completions", {"prompt": "x", "max_tokens": 1}))[0] == 200


def test_tokens_there_and_back(demo):
    _, _, answer = ask(demo, post("/tokenize", {"prompt": "The old house."}))
    assert answer["count"] == len(answer["tokens"])
    _, _, back = ask(demo, post("/detokenize", {"tokens": answer["tokens"]}))
    assert "The old house." in back["prompt"]


def test_a_full_queue_is_429_with_retry_after(serve):
    server = serve(
        "--set",
        "engine.max_queue=1",
        "--set",
        "engine.max_batch=1",
        "--set",
        "engine.max_step_tokens=16",
    )
    # One runs, one waits; of so many that come at once the others find the queue full.
    request = post("/v1/completions", {"prompt": "Once", "max_tokens": 400, "ignore_eos": True})
    socks = [connect(server) for _ in range(8)]
    for sock in socks:
        sock.sendall(request)
    answers = [read_answer(sock)[:3] for sock in socks]
    refused = [(headers, body) for status, headers, body in answers if status == 429]
    assert refused and len(refused) < len(answers)
    assert {status for status, _, _ in answers} == {200, 429}
    for headers, body in refused:
        assert int(headers["retry-after"]) >= 1 and json.loads(body)["error"]["code"] == 429
    for sock in socks:
        sock.close()


def test_a_deadline_is_408(serve):
    server = serve("--set", "engine.max_batch=1", "--set", "engine.max_step_tokens=16")
    status, _, answer = ask(
        server,
        post(
            "/v1/completions",
            {"prompt": "Once", "max_tokens": 1900, "n": 16, "ignore_eos": True, "timeout_ms": 30},
        ),
    )
    assert status == 408 and answer["error"]["code"] == 408


def test_the_metrics_page_has_the_names_of_the_contract(demo):
    page = demo.get("/metrics")
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
        "vllm:num_requests_waiting_by_reason",
        "vllm:engine_sleep_state",
        "vllm:prompt_tokens_total",
        "vllm:prompt_tokens_cached_total",
        "vllm:prompt_tokens_by_source_total",
        "vllm:generation_tokens_total",
        "vllm:request_success_total",
        "vllm:num_preemptions_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "vllm:iteration_tokens_total_bucket",
        "penstock_step_seconds_bucket",
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "penstock_build_info",
    ):
        assert name in page, name
