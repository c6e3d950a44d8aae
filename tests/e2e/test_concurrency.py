"""64 streams of mixed lengths, some cancelled midway: everyone else gets what the same request gets alone."""

import collections
import concurrent.futures
import random
import re
import threading

import openai
from conftest import DEVICE, MANY, SANITIZED, few

STREAMS = 8 if DEVICE else 64
NAMES = ["sea", "house", "night", "king", "garden", "letter", "road", "winter"]
CANCELLED = set(random.Random(7).sample(range(STREAMS), max(2, STREAMS // 10)))

# What a client knows of its answer: `tokens` as far as it read, `finish` None where it hung up.
Answer = collections.namedtuple("Answer", "id text prompt_tokens tokens finish")


def make_request(index):
    random_ = random.Random(index)
    words = " ".join(random_.choice(NAMES) for _ in range(random_.randint(1, 6 if DEVICE else 120)))
    shared = (
        "The story that follows was told to me by an old man who lived beside the river. "
        if index % 3 == 0
        else ""
    )
    max_tokens = few(random_.randint(4, 24 if SANITIZED else 90))
    request = dict(model="demo", prompt=shared + words, max_tokens=max_tokens, temperature=0)
    if index in CANCELLED:  # longer than the client will wait for
        request.update(max_tokens=MANY if DEVICE else 1500, extra_body={"ignore_eos": True})
    return request


def read(client, request, cancel_after=None):
    """Every chunk says how many tokens there are so far."""
    pieces, usage, finish, identity = [], None, None, None
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = client.completions.create(**request, stream=True, stream_options=options)
    for count, chunk in enumerate(stream, 1):
        identity, usage = chunk.id, chunk.usage
        for choice in chunk.choices:
            pieces.append(choice.text)
            finish = choice.finish_reason or finish
        if count == cancel_after:
            stream.close()
            break
    return Answer(identity.removeprefix("cmpl-"), "".join(pieces), usage.prompt_tokens, usage.completion_tokens, finish)


def test_everyone_gets_the_answer_that_it_gets_alone(serve):
    few_blocks = ("--set", "engine.kv_memory=8MiB", "--set", "engine.max_batch=24", "--set", "engine.cpu_kernels=avx2")
    if DEVICE:  # has few already
        few_blocks = ()
    requests = [make_request(i) for i in range(STREAMS)]

    def client_of(server):
        return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=300)

    quiet = serve(*few_blocks)
    short = {"max_tokens": few(40)}
    alone = [read(client_of(quiet), {**r, **short} if i in CANCELLED else r) for i, r in enumerate(requests)]
    quiet.stop()
    assert {a.finish for a in alone} == {"stop", "length"} or DEVICE  # so few tokens may not come to a stop

    server = serve(*few_blocks)  # whose cache is empty, and whose counters are 0
    client, barrier = client_of(server), threading.Barrier(STREAMS)

    def run(i):
        barrier.wait()
        return read(client, requests[i], cancel_after=3 + i % 5 if i in CANCELLED else None)

    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        together = list(pool.map(run, range(STREAMS)))
    for i, (there, here) in enumerate(zip(alone, together)):
        if i in CANCELLED:
            same = min(len(there.text), len(here.text))
            assert here.finish is None and same > 0 and there.text[:same] == here.text[:same], f"request {i}"
            assert here.prompt_tokens == there.prompt_tokens and here.tokens > 0
        else:
            assert here[1:] == there[1:], f"request {i}"

    def request_lines():
        return [line for line in server.log_lines() if line["message"] == "request"]

    def is_idle():
        page = server.metrics()
        return all(v == 0 for k, v in page.items() if re.match("vllm:num_requests_(running|waiting)", k))

    server.until(lambda: len(request_lines()) == STREAMS and is_idle())
    assert server.metric("vllm:kv_cache_usage_perc") == 0
    lines = {line["request_id"]: line for line in request_lines()}
    assert set(lines) == {answer.id for answer in together}

    # How far an answer came before the server saw that its client had left is in the log alone: not less than was read.
    # All else the clients have counted.
    reasons, tokens = collections.Counter(), collections.Counter()
    for answer in together:
        line = lines[answer.id]
        assert line["prompt_tokens"] == answer.prompt_tokens
        if answer.finish is None:
            assert line["completion_tokens"] >= answer.tokens
            assert (line["code"], line["finish"]) in ((499, "abort"), (200, "length")), line
        else:
            assert line["completion_tokens"] == answer.tokens
            assert (line["code"], line["finish"]) == (200, answer.finish), line
        reasons[line["finish"]] += 1
        tokens[line["code"]] += line["completion_tokens"]
    assert reasons["abort"] > 0 and (reasons["stop"] > 0 and reasons["length"] > 0 or DEVICE)

    page = server.metrics()

    def total(name, label=""):
        return sum(v for k, v in page.items() if k.split("{")[0] == name and label in k)

    ended = [a for a in together if lines[a.id]["code"] == 200]
    assert total("vllm:prompt_tokens_total") == sum(a.prompt_tokens for a in together)
    assert total("vllm:generation_tokens_total") == tokens.total()
    assert total("vllm:request_success_total") == STREAMS
    for reason, count in reasons.items():
        assert total("vllm:request_success_total", f'finished_reason="{reason}"') == count, reason
    assert total("vllm:time_to_first_token_seconds_count") == STREAMS
    assert total("vllm:request_prompt_tokens_count") == total("vllm:request_generation_tokens_count") == len(ended)
    assert total("vllm:request_prompt_tokens_sum") == sum(a.prompt_tokens for a in ended)
    assert total("vllm:request_generation_tokens_sum") == tokens[200]


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
