"""What every route does over HTTP: CORS, traces, idempotency keys, compression, the start page."""

import ctypes
import gzip
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest


def ask(server, path, body=None, headers=None, method=None):
    """(status, headers, bytes)"""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        server.url + path, data=data, headers=headers or {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def zstd(call, data, room):
    """One shot of Debian's libzstd, which is no Python package here."""
    library = ctypes.CDLL("libzstd.so.1")
    function = getattr(library, call)
    function.restype = ctypes.c_size_t
    size, text = ctypes.c_size_t, ctypes.c_char_p
    function.argtypes = [text, size, text, size] + [ctypes.c_int] * (call == "ZSTD_compress")
    out = ctypes.create_string_buffer(room)
    length = function(out, room, data, len(data), *([3] if call == "ZSTD_compress" else []))
    assert length <= room, "libzstd refused"
    return out.raw[:length]


BODY = {"prompt": "The old house", "max_tokens": 8, "temperature": 1}


def test_cors_by_configuration(serve):
    server = serve("--set", "server.cors_origins=https://app.example,https://two.example")
    page = {"Origin": "https://two.example"}
    preflight = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    status, headers, _ = ask(server, "/v1/chat/completions", None, preflight, "OPTIONS")
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "https://two.example"
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == "content-type"
    status, headers, _ = ask(server, "/v1/completions", BODY, page)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://two.example"
    _, headers, _ = ask(server, "/v1/completions", BODY, {"Origin": "https://evil.example"})
    assert headers["Access-Control-Allow-Origin"] is None


def test_no_page_of_another_origin_reads_by_default(demo):
    _, headers, _ = ask(demo, "/v1/completions", BODY, {"Origin": "https://app.example"})
    assert headers["Access-Control-Allow-Origin"] is None


def test_a_trace_is_continued_and_logged(demo):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-Id": "traced-1"}
    _, answered, _ = ask(demo, "/v1/completions", BODY, headers)
    assert answered["X-Request-Id"] == "traced-1"
    version, same, span, flags = answered["traceparent"].split("-")
    assert (version, same, flags) == ("00", trace, "01") and span != "00f067aa0ba902b7"
    demo.until(lambda: any(line.get("request_id") == "traced-1" for line in demo.log_lines()))
    line = next(line for line in demo.log_lines() if line.get("request_id") == "traced-1")
    assert line["trace_id"] == trace and line["span_id"] == span


def test_an_idempotency_key_repeats_the_answer(demo):
    key = {"Idempotency-Key": "e2e-1"}
    first, second = (json.loads(ask(demo, "/v1/completions", BODY, key)[2]) for _ in range(2))
    assert first == second
    other = json.loads(ask(demo, "/v1/completions", BODY)[2])
    assert other["id"] != first["id"]
    status, _, text = ask(demo, "/v1/completions", {**BODY, "max_tokens": 9}, key)
    assert status == 400 and json.loads(text)["error"]["param"] == "Idempotency-Key"


def test_a_stream_under_a_key_is_one_for_all_who_ask(demo):
    before = demo.metric("vllm:request_success_total")
    streamed = {**BODY, "max_tokens": 400, "ignore_eos": True, "stream": True}
    for path, body in (("/v1/completions", streamed),
                       ("/v1/chat/completions", {**streamed, "messages": [{"role": "user", "content": "Hello"}]}),
                       ("/v1/messages", {"model": "demo", "messages": [{"role": "user", "content": "Hello"}],
                                         "max_tokens": 400, "stream": True}),
                       ("/v1/responses", {"model": "demo", "input": "Hello", "max_output_tokens": 400,
                                          "stream": True})):
        body = {name: value for name, value in body.items() if not (name == "prompt" and "messages" in body)}
        key = {"Idempotency-Key": "e2e-stream"}
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: ask(demo, path, body, key), range(10)))
        answers.append(ask(demo, path, body, key))
        assert {status for status, _, _ in answers} == {200}, answers[0]
        assert len({text for _, _, text in answers}) == 1 and b"data: " in answers[0][2]
        assert answers[-1][1]["Content-Type"].startswith("text/event-stream") and answers[-1][1]["Idempotent-Replayed"]
        before += 1
        assert demo.metric("vllm:request_success_total") == before, path


def test_requests_under_one_key_at_once_are_one(demo):
    before = demo.metric("vllm:request_success_total")
    key = {"Idempotency-Key": "e2e-many"}
    body = {**BODY, "max_tokens": 200, "ignore_eos": True}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: ask(demo, "/v1/completions", body, key)[2], range(10)))
    assert len(set(answers)) == 1
    assert demo.metric("vllm:request_success_total") == before + 1


def test_the_client_takes_idempotency_keys(demo):
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0)
    keyed = dict(model="demo", prompt="Once", max_tokens=8, temperature=1)
    extra = {"Idempotency-Key": "e2e-client"}
    first = client.completions.create(**keyed, extra_headers=extra)
    assert client.completions.create(**keyed, extra_headers=extra).id == first.id


def test_bodies_and_answers_in_zstd_and_gzip(demo):
    body = json.dumps({**BODY, "max_tokens": 4, "temperature": 0}).encode()
    plain = json.loads(ask(demo, "/v1/completions", body)[2])["choices"][0]["text"]
    for name, packed in (
        ("zstd", zstd("ZSTD_compress", body, 4096)),
        ("gzip", gzip.compress(body)),
    ):
        status, _, text = ask(demo, "/v1/completions", packed, {"Content-Encoding": name})
        assert status == 200, text
        assert json.loads(text)["choices"][0]["text"] == plain
    bomb = zstd("ZSTD_compress", b"a" * (40 << 20), 1 << 20)
    assert ask(demo, "/v1/completions", bomb, {"Content-Encoding": "zstd"})[0] == 413
    assert ask(demo, "/v1/completions", b"{}", {"Content-Encoding": "zstd"})[0] == 400
    metrics = demo.get("/metrics").split("\n", 1)[0]
    _, headers, text = ask(demo, "/metrics", None, {"Accept-Encoding": "gzip;q=0.1, zstd"})
    assert headers["Content-Encoding"] == "zstd"
    assert zstd("ZSTD_decompress", text, 1 << 20).decode().startswith(metrics)
    _, headers, text = ask(demo, "/metrics", None, {"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(text).decode().startswith(metrics)


def test_head_options_and_the_start_page(demo):
    status, headers, page = ask(demo, "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert b"Penstock" in page and b"://" not in page
    status, headers, body = ask(demo, "/", method="HEAD")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) == len(page)
    assert ask(demo, "/v1/models", method="OPTIONS")[1]["Allow"] == "GET, HEAD, OPTIONS"


def tokens(server, text):
    body = {"prompt": text, "add_special_tokens": False}
    return json.loads(ask(server, "/tokenize", body)[2])["tokens"]


def test_bad_words_are_not_written(demo):
    body = {"prompt": "The old house was", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    body["return_token_ids"] = True

    def write(**more):
        return json.loads(ask(demo, "/v1/completions", {**body, **more})[2])["choices"][0]

    free = write()["token_ids"]
    for length in (1, 2, 3):
        # Words as the model writes them: tokens whose text the tokenizer makes the same tokens of.
        for first in range(1, 24 - length):
            ids = free[first : first + length]
            bad = json.loads(ask(demo, "/detokenize", {"tokens": ids})[2])["prompt"]
            if bad.startswith(" ") and tokens(demo, bad) == ids:
                break
        else:
            pytest.fail(f"no {length} words among {free}")
        first = next(i for i in range(24) if free[i : i + length] == ids)
        kept = write(bad_words=[bad])["token_ids"]
        assert all(kept[i : i + length] != ids for i in range(24)), bad
        assert kept[: first + length - 1] == free[: first + length - 1]


@pytest.mark.parametrize("word", [" the", " and"])
def test_a_bias_by_text_is_one_by_id(demo, word):
    ids = tokens(demo, word)
    body = {"prompt": "The old house", "max_tokens": 16, "temperature": 0}
    by_text, by_id = (
        json.loads(ask(demo, "/v1/completions", {**body, "logit_bias": bias})[2])["choices"]
        for bias in ({word: 5}, {str(i): 5 for i in ids})
    )
    assert by_text == by_id
