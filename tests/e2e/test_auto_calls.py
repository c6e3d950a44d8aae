"""Calls that a model makes by itself, in every format, by the official clients."""

import json
import pathlib

import anthropic
import jsonschema
import openai
import pytest
from conftest import DEMO, SANITIZED
from test_tools import ASK, SCHEMAS, TOOLS, joined

# What calls begin with where a model makes them by itself.
MARKS = {
    "hermes": "<tool_call>",
    "mistral": "[TOOL_CALLS]",
    "qwen3_coder": "<tool_call>",
    "glm45": "<tool_call>",
    "nemotron": "<TOOLCALL>",
    "granite": "<|tool_call|>",
    "phi4_mini": "<|tool_call|>",
    "deepseek_v3": "<｜tool▁calls▁begin｜>",
    "deepseek_v31": "<｜tool▁calls▁begin｜>",
    "kimi_k2": "<|tool_calls_section_begin|>",
    "command_r": "<|START_ACTION|>",
    "functionary_v31": "<function=",
    "llama3_json": "<|python_tag|>",
    "pythonic": "<|python_start|>",
    # Of which no tokenizer makes a special token; up to where they can be nothing but calls.
    "phi4": 'functools[{"name": "',
    "command_r_plus": 'Action:\n```json\n[\n    {\n        "tool_name": "',
    "functionary": ">>>weather\n{",
}
WORDS = ["phi4", "command_r_plus", "functionary"]
FORMATS = ["hermes", "kimi_k2", "llama3_json"] if SANITIZED else list(MARKS)


@pytest.fixture
def calling(serve, tmp_path):
    """A token of the demo model that it never draws becomes the mark of a call, and a bias makes it draw that."""
    def start(parser):
        for file in pathlib.Path(DEMO).iterdir():
            if file.name.startswith("tokenizer"):
                text = file.read_text().replace("<|pad|>", json.dumps(MARKS[parser], ensure_ascii=False)[1:-1])
                tokenizer = json.loads(text)
                for token in tokenizer.get("added_tokens", []):
                    token["special"] = token["special"] and not (token["id"] == 0 and parser in WORDS)
                (tmp_path / file.name).write_text(json.dumps(tokenizer))
            else:
                (tmp_path / file.name).symlink_to(file)
        return serve("--set", f"models.demo.path={tmp_path}", "--set", f"models.demo.tool_parser={parser}", model=None)
    return start


BIAS = {"0": 100}
# What Command R+ is told to call where it calls nothing.
ANSWER = {"type": "object", "maxProperties": 0}
ALLOWED = {**SCHEMAS, "directly-answer": ANSWER, "directly_answer": ANSWER}


def check(parser, name, arguments):
    jsonschema.validate(arguments, (ALLOWED if parser == "command_r_plus" else SCHEMAS)[name])


@pytest.mark.parametrize("parser", FORMATS)
def test_strict_functions_are_kept(calling, parser):
    server = calling(parser)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)

    def ask(strict, **more):
        tools = [{"type": "function", "function": {**t["function"], "strict": strict}} for t in TOOLS]
        return client.chat.completions.create(
            model="demo", messages=ASK, tools=tools, max_tokens=300, parallel_tool_calls=False, logit_bias=BIAS,
            temperature=1.0, **more)

    for seed in range(2):
        choice = ask(True, seed=seed).choices[0]
        assert choice.finish_reason == "tool_calls" and not choice.message.content
        for call in choice.message.tool_calls:
            check(parser, call.function.name, json.loads(call.function.arguments))
        streamed, finish = joined(ask(True, seed=seed, stream=True))
        assert finish == "tool_calls"
        assert streamed == [(c.function.name, c.function.arguments) for c in choice.message.tool_calls]
    for call in ask(False, seed=0).choices[0].message.tool_calls or []:
        assert parser == "functionary"  # whose mark is a call's begin, so that the last may be cut off
        with pytest.raises(json.JSONDecodeError):
            json.loads(call.function.arguments)

    extra = {"logit_bias": BIAS, "seed": 1}
    tools = [{"type": "function", "name": n, "parameters": s, "strict": True} for n, s in SCHEMAS.items()]
    asked = dict(model="demo", input=ASK, tools=tools, parallel_tool_calls=False, max_output_tokens=300,
                 temperature=1.0, extra_body=extra)
    answer = client.responses.create(**asked)
    assert [item.type for item in answer.output] == ["function_call"]
    check(parser, answer.output[0].name, json.loads(answer.output[0].arguments))
    events = list(client.responses.create(**asked, stream=True))
    assert events[-1].response.output[0].arguments == answer.output[0].arguments

    claude = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    tools = [{"name": n, "input_schema": s, "strict": True} for n, s in SCHEMAS.items()]
    asked = dict(model="demo", max_tokens=300, messages=ASK, tools=tools, extra_body={**extra, "temperature": 1.0},
                 tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    said = claude.messages.create(**asked)
    assert [block.type for block in said.content] == ["tool_use"] and said.stop_reason == "tool_use"
    check(parser, said.content[0].name, said.content[0].input)
    with claude.messages.stream(**asked) as stream:
        assert stream.get_final_message().content[0].input == said.content[0].input


@pytest.mark.parametrize("parser", ["llama3_json", "pythonic", "functionary"])
def test_calls_stand_beside_a_form_that_does_not_begin_as_they_do(serve, parser):
    server = serve("--set", f"models.demo.path={DEMO}", "--set", f"models.demo.tool_parser={parser}", model=None)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    form = {"type": "object", "properties": {"mood": {"enum": ["dark", "bright"]}}, "required": ["mood"],
            "additionalProperties": False}
    kinds = set()
    # What is drawn where the two part.
    begins = {"llama3_json": ("name", "mood"), "pythonic": ("[", "{"), "functionary": ("now", "{")}[parser]
    tokens = [client.post(server.url + "/tokenize", cast_to=object, body={"prompt": begin, "add_special_tokens": False})
              ["tokens"][0] for begin in begins]
    for seed in range(8):
        bias = {tokens[seed % 2]: 100}
        given = {"name": "m", "schema": form, "strict": True}
        ask = dict(model="demo", messages=ASK, tools=TOOLS, seed=seed, temperature=2.0, max_tokens=300,
                   parallel_tool_calls=False, response_format={"type": "json_schema", "json_schema": given},
                   logit_bias=bias)
        answer = client.chat.completions.create(**ask)
        said = answer.choices[0]
        assert not getattr(answer, "warnings", None) or said.finish_reason == "length", answer
        if said.finish_reason == "length":
            continue
        for call in said.message.tool_calls or []:
            check(parser, call.function.name, json.loads(call.function.arguments))
        kinds.add("call" if said.message.tool_calls else "instance")
        if not said.message.tool_calls:
            jsonschema.validate(json.loads(said.message.content), form)
        with client.chat.completions.stream(**ask) as stream:
            again = stream.get_final_completion().choices[0].message
        assert (again.content or None) == said.message.content
        assert [c.function.arguments for c in again.tool_calls or []] == [
            c.function.arguments for c in said.message.tool_calls or []]
    assert kinds == {"call", "instance"}
    loose = {**ask, "response_format": {"type": "json_schema", "json_schema": {"name": "m", "schema": {}}}}
    told = getattr(client.chat.completions.create(**loose), "warnings", None) or []
    assert any("no calls are made" in warning for warning in told) == (parser != "functionary"), told
