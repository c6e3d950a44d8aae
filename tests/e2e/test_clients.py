"""Clients that people come with: LangChain's models and litellm give what the wire gives."""

import json
import os
import urllib.request

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up on the network
os.environ["LANGSMITH_TRACING"] = "false"

import litellm
from langchain_openai import ChatOpenAI, OpenAI

litellm.suppress_debug_info = True
USER = [{"role": "user", "content": "Once upon a time"}]
GREEDY = {"temperature": 0, "max_tokens": 12}


def post(server, path, body):
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request, timeout=120).read())


@pytest.fixture(scope="module")
def chat(demo):
    return post(demo, "/v1/chat/completions", {"messages": USER, **GREEDY})


def text_of(message):
    return "".join(
        block if isinstance(block, str) else block.get("text", "") for block in message.content
    )


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_chats(demo, chat, responses):
    model = ChatOpenAI(
        base_url=demo.url + "/v1", api_key="x", model="demo", use_responses_api=responses, **GREEDY
    )
    expected = chat["choices"][0]["message"]["content"]
    whole = model.invoke(USER)
    assert text_of(whole) == expected
    assert whole.usage_metadata["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert whole.usage_metadata["output_tokens"] == chat["usage"]["completion_tokens"]
    pieces = list(model.stream(USER, **({} if responses else {"stream_usage": True})))
    assert "".join(map(text_of, pieces)) == expected
    usage = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert [u["output_tokens"] for u in usage] == [chat["usage"]["completion_tokens"]]


def test_langchain_batches_stops_and_scores(demo, chat):
    expected = chat["choices"][0]["message"]["content"]
    model = ChatOpenAI(base_url=demo.url + "/v1", api_key="x", model="demo", logprobs=True, **GREEDY)
    answers = model.batch([USER] * 8)
    assert [answer.content for answer in answers] == [expected] * 8
    scores = answers[0].response_metadata["logprobs"]["content"]
    assert len(scores) == chat["usage"]["completion_tokens"]
    assert all(score["logprob"] <= 0 for score in scores)
    stop = expected[3:6]
    assert model.invoke(USER, stop=[stop]).content == expected[: expected.index(stop)]


def test_langchain_completes(demo):
    body = {"prompt": "The king said", **GREEDY}
    expected = post(demo, "/v1/completions", body)["choices"][0]["text"]
    model = OpenAI(base_url=demo.url + "/v1", api_key="x", model="demo", **GREEDY)
    assert model.invoke("The king said") == expected
    assert "".join(model.stream("The king said")) == expected


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_litellm_chats(demo, chat, kind):
    base = demo.url + ("/v1" if kind == "openai" else "")
    call = {"model": kind + "/demo", "messages": USER, "api_base": base, "api_key": "x", **GREEDY}
    expected = chat["choices"][0]["message"]["content"]
    whole = litellm.completion(**call)
    assert whole.choices[0].message.content == expected
    assert whole.choices[0].finish_reason == chat["choices"][0]["finish_reason"]
    assert whole.usage.completion_tokens == chat["usage"]["completion_tokens"]
    pieces = [c.choices[0].delta.content or "" for c in litellm.completion(stream=True, **call)]
    assert "".join(pieces) == expected


def test_litellm_names_what_is_wrong(demo):
    call = {"messages": USER, "api_base": demo.url + "/v1", "api_key": "x", "num_retries": 0}
    with pytest.raises(litellm.NotFoundError, match='"none" does not exist'):
        litellm.completion(model="openai/none", **call)
    with pytest.raises(litellm.BadRequestError, match="temperature must be"):
        litellm.completion(model="openai/demo", temperature=-1, **call)
