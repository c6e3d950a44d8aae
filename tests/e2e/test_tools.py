"""Calls of functions that must be made, in every model family's format, by the official clients."""

import json
import re

import anthropic
import jsonschema
import openai
import pytest
from conftest import DEMO, SANITIZED, Server

FORMATS = [
    "hermes",
    "qwen3_coder",
    "glm45",
    "nemotron",
    "mistral",
    "llama3_json",
    "granite",
    "phi4",
    "phi4_mini",
    "deepseek_v3",
    "deepseek_v31",
    "kimi_k2",
    "pythonic",
    "command_r",
    "command_r_plus",
    "functionary",
    "functionary_v31",
    "harmony",
]
if SANITIZED:  # each has unit tests
    FORMATS = FORMATS[::3]
# Calls in no block that could be closed, so that min_tokens asks for more of them.
ENDLESS = {"hermes", "qwen3_coder", "glm45", "llama3_json", "functionary", "functionary_v31"}
CALL_ID = {"mistral": "[0-9A-Za-z]{9}", "kimi_k2": r"functions\.(weather|now):[0-9]+"}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Rome", "Sao Paulo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "exact": {"type": "boolean"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
SCHEMAS = {"weather": WEATHER, "now": {"type": "object", "properties": {}, "additionalProperties": False}}
TOOLS = [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in SCHEMAS.items()]
ASK = [{"role": "user", "content": "How is the weather?"}]
WITH_TOOLS = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}" \
    "[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}\n{% endfor %}"


# As Mistral's templates do, it takes no call back whose id has another length.
STRICT = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}" \
    "{% if c.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}[{{ c.id }}]" \
    "{% endfor %}{% if m.role == 'tool' and m.tool_call_id | length != 9 %}" \
    "{{ raise_exception('ids have 9 characters') }}{% endif %}\n{% endfor %}"


def options(parser):
    return ("--set", f"models.demo.path={DEMO}", "--set", f"models.demo.tool_parser={parser}")


def served(serve, parser):
    return serve(*options(parser), model=None)


def client_of(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def hermes(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("hermes"), *options("hermes"), model=None)
    yield server
    assert server.stop() == 0, server.log


def check(calls):
    assert calls
    for call in calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def joined(chunks):
    """The calls of a stream, put together; what is not the first piece has no name. A call that is
    cut off before its name is content."""
    calls, content, finish = [], "", None
    for chunk in chunks:
        choice = chunk.choices[0]
        finish = choice.finish_reason or finish
        content += choice.delta.content or ""
        for piece in choice.delta.tool_calls or []:
            if piece.index == len(calls):
                assert piece.id and piece.function.name
                calls.append([piece.function.name, ""])
            else:
                assert not piece.id and not piece.function.name
            calls[piece.index][1] += piece.function.arguments or ""
    assert not content or finish == "length"
    return [tuple(c) for c in calls], finish


@pytest.mark.parametrize("parser", FORMATS)
def test_every_format_can_be_forced(serve, parser):
    server = served(serve, parser)
    client = client_of(server)
    finished = 0
    seeds = 2 if SANITIZED else 6  # what a sanitizer looks for is in the readers' own tests
    for seed in range(seeds):
        ask = dict(
            model="demo", messages=ASK, tools=TOOLS, seed=seed, temperature=1.0, max_tokens=400,
            tool_choice="required", parallel_tool_calls=seed % 2 == 0,
        )
        choice = client.chat.completions.create(**ask).choices[0]
        streamed, finish = joined(client.chat.completions.create(**ask, stream=True))
        calls = choice.message.tool_calls or []
        assert [(c.function.name, c.function.arguments) for c in calls] == streamed
        assert finish == choice.finish_reason
        if choice.finish_reason == "length":
            continue
        finished += 1
        assert choice.finish_reason == "tool_calls" and not choice.message.content
        check(calls)
        form = CALL_ID.get(parser, "call_[0-9a-f]{24}")
        assert all(re.fullmatch(form, call.id) for call in calls), [call.id for call in calls]
        assert len({call.id for call in calls}) == len(calls)
        assert seed % 2 == 0 or len(calls) == 1
    assert finished >= seeds / 2
    if parser in ENDLESS:
        several, _ = joined(client.chat.completions.create(**{
            **ask, "parallel_tool_calls": True, "max_tokens": 600, "stream": True, "extra_body": {"min_tokens": 150}}))
        assert len(several) > 1
        for name, arguments in several[:-1]:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    named = client.chat.completions.create(
        model="demo", messages=ASK, tools=TOOLS, max_tokens=200,
        tool_choice={"type": "function", "function": {"name": "weather"}},
    ).choices[0].message.tool_calls
    assert [c.function.name for c in named] == ["weather"]
    check(named)

    # The same in the other shapes.
    tools = [{"type": "function", "name": n, "parameters": s} for n, s in SCHEMAS.items()]
    choice = {"type": "function", "name": "weather"}
    call = dict(model="demo", input="How is the weather?", tools=tools, tool_choice=choice, temperature=0,
                parallel_tool_calls=False, max_output_tokens=200)
    answer = client.responses.create(**call)
    assert [item.type for item in answer.output] == ["function_call"]
    jsonschema.validate(json.loads(answer.output[0].arguments), WEATHER)
    events = list(client.responses.create(**call, stream=True))
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == answer.output[0].arguments == events[-1].response.output[0].arguments
    message = dict(
        model="demo", max_tokens=200, messages=ASK, extra_body={"temperature": 0},
        tools=[{"name": n, "input_schema": s} for n, s in SCHEMAS.items()],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    )
    claude = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    said = claude.messages.create(**message)
    assert [block.type for block in said.content] == ["tool_use"] and said.stop_reason == "tool_use"
    jsonschema.validate(said.content[0].input, WEATHER)
    with claude.messages.stream(**message) as stream:
        assert stream.get_final_message().content[0].input == said.content[0].input


def test_what_cannot_be_forced_is_refused(hermes, demo):
    def refused(server, **more):
        with pytest.raises(openai.BadRequestError) as raised:
            client_of(server).chat.completions.create(model="demo", messages=ASK, **more)
        return raised.value

    assert refused(demo, tools=TOOLS, tool_choice="required").param == "tool_choice"
    assert refused(hermes, tool_choice="required").param == "tool_choice"
    other = {"type": "function", "function": {"name": "other"}}
    assert "other" in refused(hermes, tools=TOOLS, tool_choice=other).message
    strict = {"name": "f", "strict": True, "parameters": {"type": "object", "uniqueItems": True,
              "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}}
    for choice in ("required", "auto"):
        error = refused(hermes, tools=[{"type": "function", "function": strict}], tool_choice=choice)
        assert "#/properties/a/uniqueItems" in error.message
    assert "name" in refused(
        hermes, tools=[{"type": "function", "function": {"name": "a b"}}]).message
    loose = {**strict, "strict": False}
    answer = client_of(hermes).chat.completions.create(
        model="demo", messages=ASK, tools=[{"type": "function", "function": loose}], max_tokens=100,
        tool_choice="required",
    )
    assert any("uniqueItems" in warning for warning in answer.warnings)


def test_strict_functions_leave_text_as_it_is(hermes):
    client = client_of(hermes)

    def told(strict):
        tools = [{"type": "function", "function": {**t["function"], "strict": strict}} for t in TOOLS]
        answer = client.chat.completions.create(model="demo", messages=ASK, tools=tools, max_tokens=60, temperature=0)
        assert not answer.choices[0].message.tool_calls
        return answer.choices[0].message.content

    assert told(True) == told(False) != ""


def test_responses_call_and_go_on(hermes):
    client = client_of(hermes)
    tools = [{"type": "function", "name": n, "parameters": s, "strict": True} for n, s in SCHEMAS.items()]
    ask = dict(model="demo", input="How is the weather?", tools=tools, temperature=0, max_output_tokens=200,
               tool_choice={"type": "function", "name": "weather"})
    answer = client.responses.create(**ask)
    call = answer.output[0]
    assert [item.type for item in answer.output] == ["function_call"] and call.name == "weather"
    jsonschema.validate(json.loads(call.arguments), WEATHER)
    assert answer.tools[0].name == "weather" and answer.tool_choice.name == "weather"

    events = list(client.responses.create(**ask, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    kinds = [e.type for e in events]
    assert kinds.index("response.output_item.added") < kinds.index("response.function_call_arguments.delta")
    assert kinds[-3:] == [
        "response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    assert events[-1].response.output[0].arguments == call.arguments
    with client.responses.stream(**ask) as stream:
        final = stream.get_final_response()
    assert final.output[0].arguments == call.arguments

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    further = dict(model="demo", max_output_tokens=8, temperature=0, extra_body={"chat_template": WITH_TOOLS})
    kept = client.responses.create(**further, previous_response_id=answer.id, input=[result])
    whole = client.responses.create(**further, input=[
        {"role": "user", "content": "How is the weather?"},
        {"type": "function_call", "call_id": call.call_id, "name": "weather", "arguments": call.arguments},
        result,
    ])
    assert kept.output_text == whole.output_text
    assert kept.usage.input_tokens == whole.usage.input_tokens
    items = client.responses.input_items.list(whole.id, order="asc").data
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]
    assert items[0].content[0].text == "How is the weather?" and items[2].output == "Sun."


def test_calls_go_back_through_a_template_that_checks_their_ids(serve, tmp_path):
    (tmp_path / "strict.jinja").write_text(STRICT)
    server = serve(*options("mistral"), "--set", f"models.demo.chat_template={tmp_path / 'strict.jinja'}", model=None)
    client = client_of(server)
    chat = dict(model="demo", tools=TOOLS, max_tokens=200, temperature=0)
    named = {"type": "function", "function": {"name": "weather"}}
    message = client.chat.completions.create(**chat, messages=ASK, tool_choice=named).choices[0].message

    def second_turn(call_id):
        call = {**message.tool_calls[0].model_dump(), "id": call_id}
        return client.chat.completions.create(**{**chat, "max_tokens": 4}, tool_choice="none", messages=ASK + [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "Sun."}])

    assert second_turn(message.tool_calls[0].id).usage.completion_tokens > 0
    with pytest.raises(openai.BadRequestError) as refused:  # another server's id
        second_turn("call_0123456789abcdef01234567")
    assert refused.value.param == "messages" and "ids have 9 characters" in refused.value.message

    flat = [{"type": "function", "name": n, "parameters": s} for n, s in SCHEMAS.items()]
    answer = client.responses.create(model="demo", input="How is the weather?", tools=flat, temperature=0,
                                     max_output_tokens=200, tool_choice={"type": "function", "name": "weather"})
    result = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "Sun."}
    further = client.responses.create(model="demo", previous_response_id=answer.id, input=[result], max_output_tokens=4)
    assert further.usage.output_tokens > 0

    messages = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0).messages
    tools = [{"name": n, "input_schema": s} for n, s in SCHEMAS.items()]
    use = messages.create(model="demo", max_tokens=200, messages=ASK, tools=tools, extra_body={"temperature": 0},
                          tool_choice={"type": "tool", "name": "weather"}).content[0]
    told = messages.create(model="demo", max_tokens=4, messages=ASK + [
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "Sun."}]}])
    assert told.usage.output_tokens > 0


def test_calls_of_kimi_are_counted_through_the_chat(serve):
    client = client_of(served(serve, "kimi_k2"))
    ask = dict(model="demo", tools=TOOLS, max_tokens=200, temperature=0,
               tool_choice={"type": "function", "function": {"name": "weather"}},
               extra_body={"chat_template": WITH_TOOLS})
    first = client.chat.completions.create(**ask, messages=ASK).choices[0].message.tool_calls
    assert [call.id for call in first] == ["functions.weather:0"]
    turns = ASK + [{"role": "assistant", "content": None, "tool_calls": [call.model_dump() for call in first]},
                   {"role": "tool", "tool_call_id": first[0].id, "content": "Sun."}]
    second = client.chat.completions.create(**ask, messages=turns).choices[0].message.tool_calls
    assert [call.id for call in second] == ["functions.weather:1"]


def test_input_items_come_in_pages(hermes):
    client = client_of(hermes)
    said = [{"role": "user", "content": f"Line {i}."} for i in range(25)]
    answer = client.responses.create(model="demo", input=said, max_output_tokens=4)
    texts = [f"Line {i}." for i in range(25)]
    for order, expected in (("asc", texts), ("desc", texts[::-1])):
        first = client.responses.input_items.list(answer.id, order=order, limit=10)
        assert [item.content[0].text for item in first.data] == expected[:10] and first.has_more
        # The client goes on from page to page by `after`.
        assert [item.content[0].text for item in first] == expected
    last_first = client.responses.input_items.list(answer.id, include=["reasoning.encrypted_content"])
    assert len(last_first.data) == 20 and last_first.data[0].content[0].text == "Line 24."
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_items.list(answer.id, limit=0)
    assert refused.value.param == "limit"


def test_allowed_tools(hermes):
    client = client_of(hermes)
    function = {"type": "function", "function": {"name": "now"}}
    ask = dict(model="demo", messages=ASK, tools=TOOLS, max_tokens=60, temperature=1.0)

    def allowed(mode, tools=(function,)):
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}

    for seed in range(8):  # the other one could be called as well
        whole = client.chat.completions.create(**ask, seed=seed, tool_choice=allowed("required")).choices[0]
        streamed, _ = joined(client.chat.completions.create(
            **ask, seed=seed, tool_choice=allowed("required"), stream=True))
        calls = [(c.function.name, c.function.arguments) for c in whole.message.tool_calls or []]
        assert calls == streamed and calls and {name for name, _ in calls} == {"now"}
    # The template is shown the allowed ones alone.
    shown = "{% for t in tools or [] %}{{ t.function.name }},{% endfor %}{{ messages[0].content }}"
    sizes = [
        client.chat.completions.create(
            **{**ask, "max_tokens": 1, "tools": TOOLS if tools is None else tools}, extra_body={"chat_template": shown},
            **({"tool_choice": choice} if choice else {}),
        ).usage.prompt_tokens
        for tools, choice in ((None, None), (None, allowed("auto")), (TOOLS[1:], None))
    ]
    assert sizes[0] > sizes[1] == sizes[2]
    answer = client.responses.create(
        model="demo", input="How is the weather?", max_output_tokens=60, tools=[
            {"type": "function", "name": n, "parameters": s} for n, s in SCHEMAS.items()],
        tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "now"}]})
    assert {item.name for item in answer.output if item.type == "function_call"} == {"now"}
    assert answer.tool_choice.type == "allowed_tools" and answer.tool_choice.mode == "required"
    for choice, param in (
        (allowed("all"), "tool_choice.allowed_tools.mode"),
        (allowed("auto", []), "tool_choice.allowed_tools.tools"),
        (allowed("auto", [{"type": "mcp", "server_label": "x"}]), "tool_choice.allowed_tools.tools[0]"),
        (allowed("auto", [{"type": "function", "function": {"name": "other"}}]), "tool_choice"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**ask, tool_choice=choice)
        assert refused.value.param == param


def test_messages_use_tools(hermes):
    client = anthropic.Anthropic(base_url=hermes.url, api_key="none", max_retries=0)
    ask = dict(
        model="demo", max_tokens=200, messages=ASK, tool_choice={"type": "tool", "name": "weather"},
        tools=[{"name": n, "input_schema": s} for n, s in SCHEMAS.items()],
        extra_body={"temperature": 0},
    )
    answer = client.messages.create(**ask)
    assert [block.type for block in answer.content] == ["tool_use"]
    assert answer.stop_reason == "tool_use"
    use = answer.content[0]
    jsonschema.validate(use.input, WEATHER)
    with client.messages.stream(**ask) as stream:
        pieces = [e.partial_json for e in stream if e.type == "input_json"]
        final = stream.get_final_message()
    assert json.loads("".join(pieces)) == use.input == final.content[0].input
    assert final.stop_reason == "tool_use"
    several = client.messages.create(**{**ask, "tool_choice": {"type": "any"}})
    uses = [block for block in several.content if block.type == "tool_use"]
    # A call that max_tokens cuts off before its name is known is text, or its input is not whole.
    assert len(several.content) - len(uses) <= (several.stop_reason == "max_tokens")
    for block in uses[:-1] if several.stop_reason == "max_tokens" else uses:
        jsonschema.validate(block.input, SCHEMAS[block.name])
    assert uses

    turns = ASK + [
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use.model_dump()]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Sun."}]},
            {"type": "text", "text": "And now?"}]},
    ]
    more = {"chat_template": WITH_TOOLS}
    counted = client.messages.count_tokens(model="demo", messages=turns, extra_body=more).input_tokens
    plain = client.messages.count_tokens(
        model="demo", messages=[{"role": "user", "content": "How is the weather?"}], extra_body=more)
    assert counted > plain.input_tokens + 10
    told = client.messages.create(model="demo", max_tokens=8, messages=turns, extra_body=more)
    assert told.content[0].type == "text"
