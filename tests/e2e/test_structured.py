"""Structured output: answers that parse, whatever the model would rather say."""

import concurrent.futures
import json
import re

import jsonschema
import openai
import pytest

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 24},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["sea", "land", "air"]}, "maxItems": 4},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
    },
    "required": ["name", "age", "home"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"x": {"type": "number", "minimum": -5, "maximum": 5}, "y": {"const": 1}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}
ASK = [{"role": "user", "content": "Describe someone."}]


def client_of(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def client(demo):
    return client_of(demo)


def as_schema(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, **more}}


def person(client, seed, **more):
    return client.chat.completions.create(
        model="demo",
        messages=ASK,
        max_tokens=300,
        temperature=1.2 * (seed % 2),
        seed=seed,
        response_format=as_schema(PERSON, strict=True),
        **more,
    ).choices[0]


def test_answers_validate(client):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        choices = list(pool.map(lambda seed: person(client, seed), range(40)))
    finished = [c for c in choices if c.finish_reason == "stop"]
    assert len(finished) > 20  # digits of a number may go on to the limit
    for choice in finished:
        jsonschema.validate(json.loads(choice.message.content), PERSON)
    assert all(c.finish_reason in ("stop", "length") for c in choices)


def test_streams_the_same(client):
    whole = person(client, 2).message.content
    chunks = client.chat.completions.create(
        model="demo",
        messages=ASK,
        max_tokens=300,
        temperature=0,
        seed=2,
        stream=True,
        response_format=as_schema(PERSON, strict=True),
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole


def test_other_forms(client):
    def complete(**extra):
        choices = client.completions.create(
            model="demo", prompt="The sea", max_tokens=80, n=4, temperature=1, extra_body=extra
        ).choices
        return [c.text for c in choices if c.finish_reason == "stop"]

    assert set(complete(structured_outputs={"choice": ["yes", "no"]})) <= {"yes", "no"}
    for text in complete(guided_regex="[a-z]{3,9} (is|was) [0-9]{2}"):
        assert re.fullmatch("[a-z]{3,9} (is|was) [0-9]{2}", text)
    for text in complete(structured_outputs={"grammar": 'root ::= ("a" | "b") [0-9]{1,3} "!"'}):
        assert re.fullmatch("[ab][0-9]{1,3}!", text)
    lark = 'start: start "," WORD | WORD\nWORD: /[a-z]{1,6}/\n%ignore " "'
    for text in complete(guided_grammar=lark):
        assert all(re.fullmatch(" *[a-z]{1,6} *", word) for word in text.split(","))
    for text in complete(guided_json={"type": "array", "items": {"type": "boolean"}, "maxItems": 5}):
        assert all(isinstance(x, bool) for x in json.loads(text))
    for text in complete(response_format={"type": "json_object"}):
        assert isinstance(json.loads(text), dict)


def test_stands_beside_penalties_logprobs_and_min_tokens(client):
    choice = client.chat.completions.create(
        model="demo",
        messages=ASK,
        max_tokens=60,
        logprobs=True,
        top_logprobs=3,
        frequency_penalty=2,
        response_format=as_schema({"enum": ["the old sea", "the new sea"]}),
        extra_body={"min_tokens": 40, "repetition_penalty": 1.3},
    ).choices[0]
    assert json.loads(choice.message.content) in ("the old sea", "the new sea")
    assert choice.finish_reason == "stop"
    assert "".join(t.token for t in choice.logprobs.content) == choice.message.content


def test_what_cannot_end_in_time_ends_by_length(client):
    choice = client.chat.completions.create(
        model="demo",
        messages=ASK,
        max_tokens=10,
        response_format=as_schema({"type": "string", "minLength": 500}),
    ).choices[0]
    assert choice.finish_reason == "length" and choice.message.content.startswith('"')


def test_refuses_with_the_path(client):
    for schema, words in (
        ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
        ({"properties": {"a": {"$ref": "https://x.example/y"}}}, "#/properties/a/$ref"),
        ({"properties": {"a": {"enum": []}}}, "#/properties/a/enum"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="demo", messages=ASK, response_format=as_schema(schema)
            )
        assert refused.value.param == "response_format.json_schema.schema"
        assert words in refused.value.message
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="demo", messages=ASK, extra_body={"guided_regex": "(a", "max_tokens": 5}
        )
    loose = client.chat.completions.create(
        model="demo",
        messages=ASK,
        max_tokens=50,
        response_format=as_schema(
            {"type": "array", "uniqueItems": True, "items": {"enum": [1]}, "maxItems": 3}, strict=False
        ),
    )
    assert set(json.loads(loose.choices[0].message.content)) <= {1}


def test_stands_beside_allowed_and_bad_words(client):
    def complete(**extra):
        return client.completions.create(
            model="demo", prompt="The sea", max_tokens=8, n=8, temperature=1.5,
            extra_body={"structured_outputs": {"choice": ["a", "b"]}, **extra},
        ).choices

    assert {c.text for c in complete()} == {"a", "b"}
    assert {c.text for c in complete(bad_words=["a"])} == {"b"}
    ids = {c.text: c.token_ids[0] for c in complete(return_token_ids=True)}
    assert {c.text for c in complete(allowed_token_ids=[ids["a"]])} == {"a"}
    for nothing in ({"bad_words": ["a", "b"]}, {"allowed_token_ids": [5]},
                    {"allowed_token_ids": [ids["a"]], "bad_words": ["a"]}):
        with pytest.raises(openai.BadRequestError) as refused:
            complete(**nothing)
        assert "allowed_token_ids" in refused.value.message


def test_says_what_it_left_out(client):
    schema = {"type": "array", "uniqueItems": True, "items": {"enum": [1]}, "maxItems": 3}
    ask = dict(model="demo", messages=ASK, max_tokens=50)
    for strict in (False, False):  # the second comes from the cache
        loose = client.chat.completions.create(**ask, response_format=as_schema(schema, strict=strict))
        assert len(loose.warnings) == 1 and "#/uniqueItems" in loose.warnings[0]
    chunks = list(client.chat.completions.create(
        **ask, stream=True, response_format=as_schema(schema, strict=False)))
    assert chunks[0].warnings == loose.warnings
    assert not any(hasattr(chunk, "warnings") for chunk in chunks[1:])
    exact = client.chat.completions.create(**ask, response_format=as_schema({"enum": [1]}))
    assert not hasattr(exact, "warnings")
    answer = client.responses.create(
        model="demo", input="Describe.", max_output_tokens=50,
        text={"format": {"type": "json_schema", "name": "it", "schema": schema, "strict": False}})
    assert answer.warnings == loose.warnings


def test_responses_and_messages(client, demo):
    answer = client.responses.create(
        model="demo",
        input="Describe someone.",
        max_output_tokens=300,
        text={"format": {"type": "json_schema", "name": "it", "schema": {"enum": ["a", "b"]}}},
    )
    assert json.loads(answer.output_text) in ("a", "b")
    assert answer.text.format.type == "json_schema"


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_speculation_and_depth_change_no_answer(serve, depth, method):
    alike = ("--set", "engine.cpu_kernels=avx2")
    more = ("--set", f"engine.pipeline_depth={depth}", "--set", f"engine.speculation.method={method}")
    if method == "draft":
        from conftest import DEMO

        more += ("--set", f"engine.speculation.draft_model={DEMO}")
    plain = client_of(serve("--set", "engine.speculation.method=off", *alike))
    other = client_of(serve(*more, *alike))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        expected = list(pool.map(lambda i: person(plain, i).message.content, range(12)))
        answers = list(pool.map(lambda i: person(other, i).message.content, range(12)))
    assert answers == expected
