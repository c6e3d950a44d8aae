"""Reasoning before what has a form, and its budget, in every shape of answers."""

import json
import pathlib

import anthropic
import jsonschema
import openai
import pytest
from conftest import DEMO, Server

# The prompt begins the reasoning, as that of DeepSeek R1 does. The demo model would never end it.
THINKS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content or '') + '<|end|>' }}{% endfor %}"
    "<|assistant|><think>"
)
MAY_THINK = THINKS.replace("<think>", "")
ENDED = THINKS.replace("<think>", "<think>\n\n</think>\n\n")
SCHEMA = {
    "type": "object",
    "properties": {"side": {"enum": ["left", "right"]}},
    "required": ["side"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}
TOOL = {"name": "turn", "parameters": SCHEMA}
BUDGET = 6
ASK = [{"role": "user", "content": "Left or right?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = []
    for name, value in (("path", DEMO), ("tool_parser", "hermes"), ("reasoning_parser", "think")):
        options += ["--set", f"models.demo.{name}={value}"]
    started = Server(tmp_path_factory.mktemp("reasoning"), *options, model=None)
    yield started
    assert started.stop() == 0, started.log


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def ask(client, template=THINKS, budget=BUDGET, stream=False, **more):
    extra = {"chat_template": template}
    if budget is not None:
        extra["thinking_token_budget"] = budget
    arguments = dict(temperature=0, max_tokens=120)
    arguments.update(more)
    return client.chat.completions.create(
        model="demo", messages=ASK, stream=stream, extra_body=extra, **arguments)


def test_the_form_begins_where_the_reasoning_ends(client):
    for seed in range(4):
        answer = ask(client, response_format=FORM, temperature=1, seed=seed)
        message = answer.choices[0].message
        assert message.reasoning_content and "</think>" not in message.reasoning_content
        jsonschema.validate(json.loads(message.content), SCHEMA)
        details = answer.usage.completion_tokens_details
        assert BUDGET <= details.reasoning_tokens <= BUDGET + len("</think>")


def test_streams_the_same(client):
    whole = ask(client, response_format=FORM).choices[0].message
    reasoning = content = ""
    for chunk in ask(client, response_format=FORM, stream=True):
        delta = chunk.choices[0].delta
        reasoning += getattr(delta, "reasoning_content", None) or ""
        content += delta.content or ""
    assert (reasoning, content) == (whole.reasoning_content, whole.content)


def test_without_a_budget_it_takes_what_it_takes(client):
    choice = ask(client, budget=None, response_format=FORM, max_tokens=40).choices[0]
    assert choice.finish_reason == "length" and not choice.message.content


def test_a_budget_alone_leaves_the_answer_free(client):
    message = ask(client, max_tokens=60).choices[0].message
    assert message.reasoning_content and message.content
    longer = ask(client, budget=20, max_tokens=60).choices[0].message
    assert longer.reasoning_content.startswith(message.reasoning_content.strip()[:4])
    assert len(longer.reasoning_content) > len(message.reasoning_content)


def test_reasoning_that_never_began_is_no_matter(client):
    for template in (MAY_THINK, ENDED):
        message = ask(client, template=template, response_format=FORM).choices[0].message
        jsonschema.validate(json.loads(message.content), SCHEMA)
    plain = ask(client, template=ENDED, budget=0).choices[0].message
    assert plain.content == ask(client, template=ENDED, budget=None).choices[0].message.content


def test_forced_calls_come_behind_it(client):
    choice = ask(
        client, tools=[{"type": "function", "function": TOOL}], tool_choice="required",
        parallel_tool_calls=False,
    ).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.reasoning_content
    jsonschema.validate(json.loads(choice.message.tool_calls[0].function.arguments), SCHEMA)


def test_responses_have_a_reasoning_item(client):
    arguments = dict(
        model="demo", input="Left or right?", temperature=0, max_output_tokens=120,
        tools=[{"type": "function", **TOOL}], tool_choice={"type": "function", "name": "turn"},
        extra_body={"chat_template": THINKS, "thinking_token_budget": BUDGET},
    )
    answer = client.responses.create(**arguments)
    assert [item.type for item in answer.output] == ["reasoning", "function_call"]
    assert answer.usage.output_tokens_details.reasoning_tokens >= BUDGET
    events = list(client.responses.create(**arguments, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    assert text == answer.output[0].content[0].text
    assert events[-1].response.output[1].arguments == answer.output[1].arguments


def test_messages_have_a_thinking_block(server):
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    arguments = dict(
        model="demo", max_tokens=120, messages=ASK,
        thinking={"type": "enabled", "budget_tokens": BUDGET},
        tools=[{"name": "turn", "input_schema": SCHEMA}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        extra_body={"chat_template": THINKS, "temperature": 0},
    )
    answer = client.messages.create(**arguments)
    assert answer.content[0].type == "thinking" and answer.content[0].thinking
    assert {block.type for block in answer.content[1:]} == {"tool_use"}
    jsonschema.validate(answer.content[1].input, SCHEMA)
    with client.messages.stream(**arguments) as stream:
        final = stream.get_final_message()
    assert final.content[0].thinking == answer.content[0].thinking
    assert final.content[1].input == answer.content[1].input


@pytest.mark.parametrize("begun", ["<think>It may be", "It may be"])
def test_a_thought_that_was_begun_goes_on(client, begun):
    """The last message is the assistant's own, cut off within its reasoning."""
    last = {"role": "assistant", "content": begun}
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
        # Some templates begin the reasoning themselves.
        + ("{% if m.role == 'assistant' %}<think>{% endif %}" if "<think>" not in begun else "")
        + "{{ m.content }}{% if not loop.last %}<|end|>{% endif %}{% endfor %}"
    )
    extra = {"chat_template": template, "thinking_token_budget": BUDGET, "continue_final_message": True,
             "add_generation_prompt": False}
    asked = dict(model="demo", messages=[*ASK, last], temperature=0, max_tokens=120, extra_body=extra)
    message = client.chat.completions.create(**asked, response_format=FORM).choices[0].message
    assert message.reasoning_content
    jsonschema.validate(json.loads(message.content), SCHEMA)
    ended = {**last, "content": begun + ".</think>"}
    asked["messages"] = [*ASK, ended]
    message = client.chat.completions.create(**asked, response_format=FORM).choices[0].message
    assert not getattr(message, "reasoning_content", None)
    jsonschema.validate(json.loads(message.content), SCHEMA)


MARKS = {
    "magistral": ("[THINK]", "[/THINK]"),
    "command_r": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "granite": ("<think>", "</think>"),
    "granite_prose": ("Here is my thought process:", "Here is my response:"),
    "harmony": ("<|channel|>analysis<|message|>", "<|end|>"),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    options = ["--set", "engine.kv_memory=64MiB"]
    # For gpt-oss <|end|> is the end of a message; the demo model's replies end with it.
    messages = tmp_path_factory.mktemp("messages")
    for file in pathlib.Path(DEMO).iterdir():
        if file.name.endswith("config.json"):
            (messages / file.name).write_text(file.read_text().replace('"eos_token_id": 2', '"eos_token_id": 1'))
        else:
            (messages / file.name).symlink_to(file)
    for family in MARKS:
        path, calls = (messages, family) if family == "harmony" else (DEMO, "hermes")
        for name, value in (("path", path), ("tool_parser", calls), ("reasoning_parser", family)):
            options += ["--set", f"models.{family}.{name}={value}"]
    started = Server(tmp_path_factory.mktemp("families"), *options, model=None)
    yield started
    assert started.stop() == 0, started.log


@pytest.mark.parametrize("family", MARKS)
def test_other_families_reason_likewise(families, family):
    begin, end = MARKS[family]
    extra = {"chat_template": THINKS.replace("<think>", begin), "thinking_token_budget": BUDGET}
    client = openai.OpenAI(base_url=families.url + "/v1", api_key="none", max_retries=0, timeout=120)
    chat = dict(model=family, messages=ASK, temperature=0, max_tokens=120, response_format=FORM, extra_body=extra)
    whole = client.chat.completions.create(**chat).choices[0].message
    assert whole.reasoning == whole.reasoning_content
    assert whole.reasoning_content and begin not in whole.reasoning_content and end not in whole.reasoning_content
    jsonschema.validate(json.loads(whole.content), SCHEMA)
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**chat, stream=True)]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == whole.reasoning_content
    assert "".join(d.content or "" for d in deltas) == whole.content
    called = dict(model=family, input="Left or right?", temperature=0, max_output_tokens=120, extra_body=extra,
                  tools=[{"type": "function", **TOOL}], tool_choice={"type": "function", "name": "turn"})
    answer = client.responses.create(**called)
    assert [item.type for item in answer.output] == ["reasoning", "function_call"]
    jsonschema.validate(json.loads(answer.output[1].arguments), SCHEMA)
    events = list(client.responses.create(**called, stream=True))
    assert events[-1].response.output[0].content[0].text == answer.output[0].content[0].text
    message = dict(
        model=family, max_tokens=120, messages=ASK, thinking={"type": "enabled", "budget_tokens": BUDGET},
        tools=[{"name": "turn", "input_schema": SCHEMA}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        extra_body={"chat_template": extra["chat_template"], "temperature": 0},
    )
    claude = anthropic.Anthropic(base_url=families.url, api_key="none", max_retries=0)
    said = claude.messages.create(**message)
    assert [block.type for block in said.content] == ["thinking", "tool_use"]
    with claude.messages.stream(**message) as stream:
        final = stream.get_final_message()
    assert [final.content[0].thinking, final.content[1].input] == [said.content[0].thinking, said.content[1].input]


def test_a_form_and_tools_are_either(client):
    """The demo model draws what comes first at random: both happen, and both are whole."""
    calls = instances = 0
    for seed in range(24):
        choice = ask(
            client, template=ENDED, tools=[{"type": "function", "function": TOOL}], temperature=2,
            response_format=FORM, parallel_tool_calls=False, seed=seed,
        ).choices[0]
        if choice.message.tool_calls:
            calls += 1
            jsonschema.validate(json.loads(choice.message.tool_calls[0].function.arguments), SCHEMA)
            assert choice.finish_reason == "tool_calls" and not choice.message.content
        else:
            instances += 1
            jsonschema.validate(json.loads(choice.message.content), SCHEMA)
    assert calls and instances
