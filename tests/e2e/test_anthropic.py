"""The official Anthropic client against the demo model."""

import anthropic
import openai
import pytest


@pytest.fixture
def client(demo):
    return anthropic.Anthropic(base_url=demo.url, api_key="none", max_retries=0)


ASK = dict(
    model="demo",
    max_tokens=24,
    system="Be brief.",
    messages=[{"role": "user", "content": "Tell me of the sea."}],
    extra_body={"temperature": 0},  # the client no longer knows it, the API does
)


def test_answers(client):
    answer = client.messages.create(**ASK)
    assert answer.type == "message" and answer.role == "assistant" and answer.model == "demo"
    assert [block.type for block in answer.content] == ["text"] and answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert 1 <= answer.usage.output_tokens <= 24
    assert answer._request_id


def test_streams_what_it_would_answer_at_once(client):
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    read = final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)
    assert read == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)


def test_the_events_come_in_order(client):
    types = [event.type for event in client.messages.create(**ASK, stream=True)]
    middle = [t for t in types if t not in ("ping", "content_block_delta")]
    assert middle == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert types.index("content_block_delta") > types.index("content_block_start")


def test_agrees_with_the_chat_route(client, demo):
    chat = openai.OpenAI(base_url=demo.url + "/v1", api_key="none").chat.completions.create(
        model="demo",
        max_tokens=24,
        temperature=0,
        messages=[{"role": "system", "content": ASK["system"]}, *ASK["messages"]],
    )
    answer = client.messages.create(**ASK)
    assert answer.content[0].text == chat.choices[0].message.content
    assert answer.usage.output_tokens == chat.usage.completion_tokens


def test_stops_at_a_sequence(client):
    whole = client.messages.create(**ASK).content[0].text
    word = next(word for word in whole.split() if len(word) > 2)
    answer = client.messages.create(**ASK, stop_sequences=[word])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == word
    assert answer.content[0].text == whole[: whole.index(word)]


def test_continues_the_assistant(client):
    start = [*ASK["messages"], {"role": "assistant", "content": "The sea is"}]
    answer = client.messages.create(**{**ASK, "messages": start})
    assert answer.content[0].text
    counted = client.messages.count_tokens(model="demo", messages=start, system=ASK["system"])
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_counts_tokens(client):
    short = client.messages.count_tokens(model="demo", messages=ASK["messages"])
    longer = client.messages.count_tokens(
        model="demo", messages=ASK["messages"], system=[{"type": "text", "text": "Be brief."}]
    )
    assert 0 < short.input_tokens < longer.input_tokens


def test_takes_turns_and_blocks(client):
    answer = client.messages.create(
        **{
            **ASK,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Who came?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "The dog."}]},
                {"role": "user", "content": "And"},
                {"role": "user", "content": "then?"},
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Say."},
            ],
        }
    )
    assert answer.content[0].text


@pytest.mark.parametrize(
    "change, param",
    [
        ({"tools": [{"name": "f", "input_schema": 1}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"max_tokens": 20000}, "max_tokens"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "no"}}}},
            "output_config.format.schema",
        ),
        ({"extra_body": {"temperature": 9}}, "temperature"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_refusals_are_bad_requests_with_the_field(client, change, param):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**{**ASK, **change})
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert refused.value.body["error"]["param"] == param


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(**{**ASK, "model": "other"})
    assert refused.value.body["error"]["type"] == "not_found_error"


def test_keys(serve):
    server = serve("--api-key", "secret")
    good = anthropic.Anthropic(base_url=server.url, api_key="secret", max_retries=0)
    assert good.messages.create(**ASK).content
    token = anthropic.Anthropic(base_url=server.url, auth_token="secret", max_retries=0)
    assert token.messages.create(**ASK).content
    bad = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        bad.messages.create(**ASK)


def test_a_stream_left_early_frees_its_blocks(client, demo):
    with client.messages.stream(**{**ASK, "max_tokens": 400}) as stream:
        next(iter(stream.text_stream))
    demo.until(lambda: demo.metric("vllm:num_requests_running") == 0)
