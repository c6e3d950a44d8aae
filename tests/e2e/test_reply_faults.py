"""Replies that are not what was asked for: cut off, or calls that the model breaks off; and tools with bad names."""

import json

import anthropic
import openai
import pytest
from conftest import DEMO, Server

TURN = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"]}
TOOLS = [{"type": "function", "function": {"name": "turn", "parameters": TURN}}]
ASK = [{"role": "user", "content": "Left or right?"}]
LONG = {"type": "object", "properties": {"a": {"type": "string", "minLength": 300}}, "required": ["a"]}
FORM = {"type": "json_schema", "json_schema": {"name": "it", "schema": LONG, "strict": True}}
# What the model writes is chosen, so a call that goes wrong can be.
BEGUN = '<tool_call>\n{"name": "turn", "arguments": {"side": '
BROKEN = BEGUN + "oops"
UNMADE = "<tool_call>\n{oops"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--set", f"models.demo.path={DEMO}", "--set", "models.demo.tool_parser=hermes")
    started = Server(tmp_path_factory.mktemp("faults"), *options, model=None)
    yield started
    assert started.stop() == 0, started.log


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def bias_to_broken(client):
    """Beside calls of another function a reply may be BROKEN or UNMADE: what makes it these."""
    url = str(client.base_url).replace("/v1/", "/tokenize")
    begins = ({"model": "demo", "prompt": begin, "add_special_tokens": False} for begin in ("t", "turn", "oops"))
    return {str(client.post(url, body=ask, cast_to=object)["tokens"][0]): 100 for ask in begins}


def forced(client, text, **more):
    halt = {"type": "function", "function": {"name": "halt", "parameters": TURN}}
    return client.chat.completions.create(
        model="demo", messages=ASK, tools=[halt], max_tokens=100, temperature=0, logit_bias=bias_to_broken(client),
        extra_body={"guided_choice": [text]}, **more)


def calls_and_text(chunks):
    calls, text = {}, ""
    for chunk in chunks:
        text += chunk.choices[0].delta.content or ""
        for piece in chunk.choices[0].delta.tool_calls or []:
            calls[piece.index] = calls.get(piece.index, "") + (piece.function.arguments or "")
    return calls, text, chunks[-1]


def failed_calls(server):
    return server.metric("penstock_failed_tool_calls_total")


def test_a_call_that_breaks_off_is_content(server, client):
    before = failed_calls(server)
    choice = forced(client, BROKEN).choices[0]
    assert choice.message.content == BROKEN and not choice.message.tool_calls
    assert choice.finish_reason == "stop"
    assert failed_calls(server) == before + 1


def test_a_call_that_breaks_off_in_a_stream_is_told_of(server, client):
    """Its first pieces are on their way already."""
    before = failed_calls(server)
    calls, text, last = calls_and_text(list(forced(client, BROKEN, stream=True)))
    assert calls == {0: '{"side": '} and text == "oops"
    assert last.choices[0].finish_reason == "stop"
    assert any("broke off 1 of its calls" in warning for warning in last.warnings)
    assert failed_calls(server) == before + 1
    calls, text, last = calls_and_text(list(forced(client, UNMADE, stream=True)))
    assert not calls and text == UNMADE and not hasattr(last, "warnings")


def test_a_call_that_breaks_off_is_none_in_other_shapes(client, claude):
    extra = {"guided_choice": [BROKEN], "logit_bias": bias_to_broken(client), "temperature": 0}
    message = dict(model="demo", max_tokens=100, messages=ASK, tools=[{"name": "halt", "input_schema": TURN}],
                   extra_body=extra)
    whole = claude.messages.create(**message)
    assert [block.type for block in whole.content] == ["text"] and whole.content[0].text == BROKEN
    assert whole.stop_reason == "end_turn"
    ends = [event for event in claude.messages.create(**message, stream=True) if event.type == "message_delta"]
    assert ends[0].delta.stop_reason == "end_turn" and "broke off" in ends[0].warnings[0]
    asked = dict(model="demo", input="Left?", max_output_tokens=100, extra_body=extra,
                 tools=[{"type": "function", "name": "halt", "parameters": TURN}])
    answer = client.responses.create(**asked)
    assert [item.type for item in answer.output] == ["message"] and answer.output_text == BROKEN
    last = list(client.responses.create(**asked, stream=True))[-1]
    assert last.type == "response.completed" and "broke off" in last.response.warnings[0]
    # What was no call is none in the conversation that goes on from it.
    on = client.responses.create(model="demo", input="On.", previous_response_id=last.response.id, max_output_tokens=4)
    assert on.status in ("completed", "incomplete")


def test_what_is_cut_off_says_so(server, client, claude):
    said = "before what its schema, grammar or tools ask for was complete"
    chat = dict(model="demo", messages=ASK, max_tokens=20, temperature=0, response_format=FORM)
    answer = client.chat.completions.create(**chat, n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert [warning.split(" ")[0] for warning in answer.warnings] == ["choices[0]", "choices[1]"]
    assert all(said in warning for warning in answer.warnings)
    last = list(client.chat.completions.create(**chat, stream=True))[-1]
    assert last.choices[0].finish_reason == "length" and said in last.warnings[0]
    text = {"format": {"type": "json_schema", "name": "it", "schema": LONG, "strict": True}}
    response = client.responses.create(model="demo", input="Left?", max_output_tokens=20, text=text)
    assert response.status == "incomplete" and said in response.warnings[0]
    events = list(client.responses.create(model="demo", input="Left?", max_output_tokens=20, text=text, stream=True))
    assert events[-1].type == "response.incomplete" and said in events[-1].response.warnings[0]
    message = dict(model="demo", messages=ASK, max_tokens=20,
                   extra_body={"output_config": {"format": {"type": "json_schema", "schema": LONG}}})
    whole = claude.messages.create(**message)
    assert whole.stop_reason == "max_tokens" and said in whole.warnings[0]
    ends = [event for event in claude.messages.create(**message, stream=True) if event.type == "message_delta"]
    assert ends[0].delta.stop_reason == "max_tokens" and said in ends[0].warnings[0]
    # What could have ended is no less for having been cut off.
    free = client.completions.create(model="demo", prompt="The sea", max_tokens=5,
                                     extra_body={"guided_regex": "[a-z ]{0,500}", "ignore_eos": True})
    assert free.choices[0].finish_reason == "length" and not hasattr(free, "warnings")


def test_a_call_that_is_cut_off_is_handed_out_as_far_as_it_came(client):
    cut = dict(model="demo", messages=ASK, tools=TOOLS, tool_choice="required", temperature=0)
    seen = 0
    for max_tokens in range(1, 40):
        cut["max_tokens"] = max_tokens
        choice = client.chat.completions.create(**cut).choices[0]
        calls, text, last = calls_and_text(list(client.chat.completions.create(**cut, stream=True)))
        whole = {i: call.function.arguments for i, call in enumerate(choice.message.tool_calls or [])}
        assert (whole, choice.message.content or "") == (calls, text)
        assert choice.finish_reason == last.choices[0].finish_reason
        seen += choice.finish_reason == "length" and bool(whole)
        if choice.finish_reason == "length":
            continue
        assert json.loads(whole[0])["side"] in ("left", "right")
        break
    assert seen >= 3


@pytest.mark.parametrize("names, said", [
    (["turn", "halt", "turn"], "tools[2]: tools[0] has this name already"),
    (["turn", "a b"], "tools[1]: a function's name has"),
    (["", "turn"], "tools[0]: a function's name has"),
    (["x" * 129], "tools[0]: a function's name has"),
    (["naïve"], "tools[0]: a function's name has"),
])
def test_bad_names_are_refused_in_every_shape(client, claude, names, said):
    asks = [
        lambda: client.chat.completions.create(
            model="demo", messages=ASK, tools=[{"type": "function", "function": {"name": n}} for n in names]),
        lambda: client.responses.create(
            model="demo", input="Left?", tools=[{"type": "function", "name": n, "parameters": TURN} for n in names]),
        lambda: claude.messages.create(
            model="demo", max_tokens=8, messages=ASK, tools=[{"name": n, "input_schema": TURN} for n in names]),
    ]
    for ask in asks:
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as raised:
            ask()
        assert said in raised.value.message


@pytest.mark.parametrize("member, value, said", [
    ("parameters", 7, "tools[0].function.parameters must be a JSON Schema"),
    ("parameters", "{}", "tools[0].function.parameters must be a JSON Schema"),
    ("strict", "yes", "tools[0].function.strict must be true or false"),
])
def test_members_of_tools_have_types(client, member, value, said):
    function = {"name": "turn", "parameters": TURN, member: value}
    for more in ({}, {"tool_choice": "required"}):
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(
                model="demo", messages=ASK, tools=[{"type": "function", "function": function}], **more)
        assert said in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="demo", input="Left?", tools=[{"type": "function", **function}])
    assert member in raised.value.message
