"""64 streams of mixed lengths, some cancelled midway: everyone else gets what the same request gets alone."""

import concurrent.futures
import random
import threading

import openai
from conftest import SANITIZED

STREAMS = 64
NAMES = ["sea", "house", "night", "king", "garden", "letter", "road", "winter"]


def make_request(index):
    random_ = random.Random(index)
    words = " ".join(random_.choice(NAMES) for _ in range(random_.randint(1, 120)))
    shared = (
        "The story that follows was told to me by an old man who lived beside the river. "
        if index % 3 == 0
        else ""
    )
    return dict(
        model="demo",
        prompt=shared + words,
        max_tokens=random_.randint(4, 24 if SANITIZED else 90),
        temperature=0,
    )


def read(client, request, cancel_after=None):
    """(text, tokens by usage or None where cancelled)"""
    pieces, usage = [], None
    stream = client.completions.create(
        **request, stream=True, stream_options={"include_usage": True}
    )
    for count, chunk in enumerate(stream):
        if chunk.choices:
            pieces.append(chunk.choices[0].text)
        if chunk.usage:
            usage = chunk.usage
        if cancel_after is not None and count >= cancel_after:
            stream.close()
            return "".join(pieces), None
    return "".join(pieces), usage


def test_everyone_gets_the_answer_that_it_gets_alone(serve):
    server = serve("--set", "engine.kv_memory=8MiB", "--set", "engine.max_batch=24")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=300)
    requests = [make_request(i) for i in range(STREAMS)]
    alone = [read(client, r) for r in requests]
    prompt_before = server.metric("vllm:prompt_tokens_total")
    generated_before = server.metric("vllm:generation_tokens_total")
    success_before = server.metric(
        "vllm:request_success_total", finished_reason="stop"
    ) + server.metric("vllm:request_success_total", finished_reason="length")

    cancelled = set(random.Random(7).sample(range(STREAMS), STREAMS // 10))
    barrier = threading.Barrier(STREAMS)

    def run(i):
        barrier.wait()
        return read(client, requests[i], cancel_after=2 if i in cancelled else None)

    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        together = list(pool.map(run, range(STREAMS)))
    whole = [i for i in range(STREAMS) if i not in cancelled]
    for i in whole:
        assert together[i][0] == alone[i][0], f"request {i}"
        assert together[i][1].completion_tokens == alone[i][1].completion_tokens

    # A short answer may be complete before its client hangs up, so cancelled ones are counted by what the server says.
    server.until(
        lambda: server.metric("vllm:num_requests_running")
        + server.metric("vllm:num_requests_waiting")
        == 0
    )
    assert server.metric("vllm:kv_cache_usage_perc") == 0
    lines = [line for line in server.log_lines() if line["message"] == "request"]
    server.until(
        lambda: len([line for line in server.log_lines() if line["message"] == "request"])
        == 2 * STREAMS
    )
    lines = [line for line in server.log_lines() if line["message"] == "request"][STREAMS:]
    aborted = [line for line in lines if line["code"] == 499]
    finished = [line for line in lines if line["code"] == 200]
    assert len(aborted) <= len(cancelled) and len(aborted) + len(finished) == STREAMS
    assert server.metric("vllm:prompt_tokens_total") - prompt_before == sum(
        line["prompt_tokens"] for line in lines
    )
    assert server.metric("vllm:generation_tokens_total") - generated_before == sum(
        line["completion_tokens"] for line in lines
    )
    clients_counted = sum(together[i][1].completion_tokens for i in whole)
    of_whole = sum(line["completion_tokens"] for line in finished)
    assert of_whole >= clients_counted
    if len(aborted) == len(cancelled):
        assert of_whole == clients_counted
    success = server.metric("vllm:request_success_total", finished_reason="stop") + server.metric(
        "vllm:request_success_total", finished_reason="length"
    )
    assert success - success_before == len(finished)
    assert server.metric("vllm:request_success_total", finished_reason="abort") == len(aborted)


def test_a_shared_prefix_is_found(serve):
    server = serve()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    prompt = "The story that follows was told to me by an old man who lived beside the river. " * 4
    first = client.completions.create(model="demo", prompt=prompt, max_tokens=4, temperature=0)
    second = client.completions.create(model="demo", prompt=prompt, max_tokens=4, temperature=0)
    salted = client.completions.create(
        model="demo", prompt=prompt, max_tokens=4, temperature=0, extra_body={"cache_salt": "b"}
    )
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= second.usage.prompt_tokens - 16
    assert salted.usage.prompt_tokens_details.cached_tokens == 0
    assert first.choices[0].text == second.choices[0].text == salted.choices[0].text
