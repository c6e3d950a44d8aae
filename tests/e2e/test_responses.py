"""The official OpenAI client's Responses API against the demo model, and /openapi.json."""

import json

import openai
import pytest


@pytest.fixture
def client(demo):
    return openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0)


ASK = dict(model="demo", input="Tell me of the sea.", max_output_tokens=24, temperature=0)


def test_answers(client):
    answer = client.responses.create(**ASK, instructions="Be brief.", metadata={"a": "b"})
    assert answer.object == "response" and answer.model == "demo"
    assert answer.status in ("completed", "incomplete")
    assert answer.output_text == answer.output[0].content[0].text != ""
    assert answer.instructions == "Be brief." and answer.metadata == {"a": "b"}
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    if answer.status == "incomplete":
        assert answer.incomplete_details.reason == "max_output_tokens"


def test_agrees_with_the_chat_route(client):
    chat = client.chat.completions.create(
        model="demo",
        max_tokens=24,
        temperature=0,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": ASK["input"]},
        ],
    )
    answer = client.responses.create(**ASK, instructions="Be brief.")
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.output_tokens == chat.usage.completion_tokens
    assert answer.usage.input_tokens == chat.usage.prompt_tokens


def test_streams_what_it_would_answer_at_once(client):
    whole = client.responses.create(**ASK)
    events = list(client.responses.create(**ASK, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[1].type == "response.in_progress"
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == whole.output_text
    final = events[-1]
    assert final.type in ("response.completed", "response.incomplete")
    assert final.response.output_text == whole.output_text
    assert final.response.usage.output_tokens == whole.usage.output_tokens


def test_the_clients_own_stream_helper(client):
    with client.responses.stream(**ASK) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
    assert text == client.responses.create(**ASK).output_text


def test_goes_on_from_a_kept_response(client):
    first = client.responses.create(**ASK)
    second = client.responses.create(**{**ASK, "input": "And then?"}, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items = [
        {"role": "user", "content": ASK["input"]},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And then?"},
    ]
    spelled = client.responses.create(**{**ASK, "input": items})
    assert second.output_text == spelled.output_text
    assert second.usage.input_tokens == spelled.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, previous_response_id=first.id)
    assert refused.value.param == "previous_response_id"


def test_keeps_nothing_where_it_shall_not(client, serve):
    answer = client.responses.create(**ASK, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    server = serve("--set", "limits.response_memory=8KiB")
    small = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    ids = [small.responses.create(**ASK).id for _ in range(6)]
    small.responses.retrieve(ids[-1])
    with pytest.raises(openai.NotFoundError):
        small.responses.retrieve(ids[0])


@pytest.mark.parametrize(
    "change, param",
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"background": True}, "background"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
        ),
        ({"max_output_tokens": 100000}, "max_output_tokens"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
def test_refusals_name_the_field(client, change, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**{**ASK, **change})
    assert refused.value.param == param


def test_the_description_of_the_api(demo):
    document = json.loads(demo.get("/openapi.json"))
    assert document["openapi"] == "3.1.0"
    schema = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    properties = schema["content"]["application/json"]["schema"]["properties"]
    assert properties["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}
