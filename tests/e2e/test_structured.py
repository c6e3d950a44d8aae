"""Structured output: answers that parse, whatever the model would rather say."""

import concurrent.futures
import json
import re
import threading
import time
import urllib.request

import anthropic
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


def test_preemption_changes_no_answer(serve):
    """Where the cache has no room for all, requests are computed anew, and their forms go on where they were."""
    # Of both the kernels that each would choose for itself; 2 MiB are 512 tokens.
    alike = ("--set", "engine.dtype=float32", "--set", "engine.cpu_kernels=avx2")
    large = serve(*alike)
    small = serve(*alike, "--set", "engine.max_len=384", "--set", "engine.kv_memory=2MiB",
                  "--set", "engine.kv_dtype=float32", "--set", "engine.prefix_cache=false")

    def texts(server_client):
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            return [c.message.content for c in pool.map(lambda seed: person(server_client, seed), range(24))]

    def fill():
        """What takes the room that a quick machine would leave."""
        while not over.is_set():
            body = {"model": "demo", "prompt": "Once", "n": 4, "max_tokens": 100, "ignore_eos": True}
            request = urllib.request.Request(small.url + "/v1/completions", json.dumps(body).encode())
            urllib.request.urlopen(request, timeout=120).read()

    over = threading.Event()
    filling = threading.Thread(target=fill)
    filling.start()
    try:
        assert texts(client_of(small)) == texts(client_of(large))
    finally:
        over.set()
        filling.join()
    metrics = urllib.request.urlopen(small.url + "/metrics", timeout=30).read().decode()
    preempted = re.search(r"^vllm:num_preemptions_total\{.*\} (\S+)$", metrics, re.M)
    assert float(preempted[1]) > 0, metrics


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
            model="demo", prompt=["The sea"] * 8, max_tokens=8, n=16, temperature=1.5,
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


def test_messages_keep_a_schema(demo):
    client = anthropic.Anthropic(base_url=demo.url, api_key="none", max_retries=0)
    ask = dict(model="demo", messages=ASK, max_tokens=300,
               extra_body={"temperature": 0, "output_format": {"type": "json_schema", "schema": PERSON}})
    whole = client.messages.create(**ask)
    if whole.stop_reason != "max_tokens":
        jsonschema.validate(json.loads(whole.content[0].text), PERSON)
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    ask["extra_body"]["output_format"]["schema"] = {"enum": ["a", "b"]}
    assert json.loads(client.messages.create(**ask).content[0].text) in ("a", "b")


OLDER = {  # what the demo model writes anyway is the trigger
    "type": "structural_tag", "triggers": [" a"],
    "structures": [{"begin": " a ", "schema": {"enum": ["sea", 7]}, "end": ";"}],
}
NEWER = {
    "type": "structural_tag",
    "format": {
        "type": "triggered_tags", "triggers": ["<at", "<who"], "at_least_one": True, "stop_after_first": True,
        "tags": [
            {"begin": "<at>", "content": {"type": "regex", "pattern": "[0-9]{1,3}"}, "end": "</at>"},
            {"begin": "<who>", "content": {"type": "json_schema", "json_schema": PERSON}, "end": "</who>"},
        ],
    },
}


def check_older(text, finish):
    after = text.split(" a")[1:]
    if finish == "length" and after and ";" not in after[-1]:
        after.pop()  # may be cut off
    assert after and all(re.match(r' ("sea"|7);', rest) for rest in after), text


@pytest.mark.parametrize("method", ["off", "ngram"])
def test_structural_tags(serve, method):
    client = client_of(serve("--set", f"engine.speculation.method={method}"))
    ask = dict(model="demo", messages=ASK, max_tokens=150, temperature=0, response_format=OLDER)
    choice = client.chat.completions.create(**ask).choices[0]
    check_older(choice.message.content, choice.finish_reason)
    chunks = client.chat.completions.create(**ask, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == choice.message.content
    for extra in ({"structured_outputs": {"structural_tag": OLDER}},
                  {"structured_outputs": {"structural_tag": json.dumps(OLDER)}}):
        again = client.chat.completions.create(
            model="demo", messages=ASK, max_tokens=150, temperature=0, extra_body=extra).choices[0]
        assert again.message.content == choice.message.content
    kinds = set()
    for seed in range(12):
        choice = client.chat.completions.create(
            model="demo", messages=ASK, max_tokens=300, temperature=1.5, seed=seed, response_format=NEWER,
            logprobs=True,
        ).choices[0]
        written = bytes(b for t in choice.logprobs.content for b in t.bytes)
        assert written.decode(errors="replace").startswith(choice.message.content)
        if choice.finish_reason == "length":
            continue
        found = re.fullmatch(r"<(at|who)>(.*)</\1>", choice.message.content, re.S)
        assert found, choice.message.content
        kinds.add(found[1])
        if found[1] == "who":
            jsonschema.validate(json.loads(found[2]), PERSON)
        else:
            assert re.fullmatch("[0-9]{1,3}", found[2])
    assert kinds == {"at", "who"}
    answer = client.responses.create(
        model="demo", input="Describe.", max_output_tokens=150, temperature=0, extra_body={"text": {"format": NEWER}})
    assert answer.output_text.startswith("<")


def test_structural_tags_are_refused_with_the_path(client):
    for form, param in (
        ({"type": "structural_tag"}, "response_format.structures"),
        ({**OLDER, "triggers": ["<"]}, "response_format.structures[0].begin"),
        ({**OLDER, "structures": [{"begin": " a", "schema": {"type": "array", "uniqueItems": True}, "end": ""}]},
         "response_format.structures[0].schema"),
        ({"type": "structural_tag", "format": {"type": "loud"}}, "response_format.format.type"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="demo", messages=ASK, response_format=form)
        assert refused.value.param == param and refused.value.message.count(param)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="demo", input="x", extra_body={"text": {"format": {"type": "structural_tag"}}})
    assert refused.value.param == "text.format.structures"


def steps(server):
    text = urllib.request.urlopen(server.url + "/metrics").read().decode()
    return int(float(re.search(r"^vllm:iteration_tokens_total_count.* ([0-9.e+]+)$", text, re.M)[1]))


def test_forced_text_takes_few_steps(serve):
    """Names of members are no choice: they are computed in one step, and their log-probabilities are the model's."""
    server = serve("--set", "engine.speculation.method=off")
    names = [f"a_rather_long_name_of_a_member_{i}" for i in range(6)]
    schema = {"type": "object", "properties": {n: {"type": "boolean"} for n in names}, "required": names,
              "additionalProperties": False}
    before = steps(server)
    choice = client_of(server).chat.completions.create(
        model="demo", messages=ASK, max_tokens=400, temperature=0, response_format=as_schema(schema), logprobs=True,
        top_logprobs=1,
    )
    tokens = choice.choices[0].logprobs.content
    value = json.loads(choice.choices[0].message.content)
    assert list(value) == names
    while steps(server) == before:  # counted beside the answer
        time.sleep(0.01)
    assert steps(server) - before < len(tokens) / 2
    assert any(t.logprob < t.top_logprobs[0].logprob for t in tokens)  # what the model would rather have said


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
