"""Structural tags and allowed tools on Messages and Responses, and arguments written one by one on all routes."""

import json
import re

import anthropic
import openai
import pytest
from test_structured import ASK, OLDER, check_older, client_of

CODER = {
    "type": "structural_tag",
    "format": {
        "type": "tag", "begin": "<function=travel>", "end": "</function>",
        "content": {"type": "qwen_xml_parameter", "json_schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"], "type": "string"},
                           "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
        }},
    },
}
CODED = re.compile(
    r"<function=travel>\n?<parameter=city>\n?(Rome|Oslo)\n?</parameter>\n?"
    r"<parameter=days>\n?[1-9]\n?</parameter>\n?</function>")


def messages_of(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.mark.parametrize("place", ["output_format", "output_config", "structured_outputs"])
def test_messages_have_tags(demo, place):
    client = messages_of(demo)

    def asked(form):
        return {"output_format": form} if place == "output_format" else {
            "output_config": {"format": form}} if place == "output_config" else {
            "structured_outputs": {"structural_tag": form}}

    ask = dict(model="demo", messages=ASK, max_tokens=150)
    whole = client.messages.create(**ask, extra_body={"temperature": 0, **asked(OLDER)})
    check_older(whole.content[0].text, "length" if whole.stop_reason == "max_tokens" else "stop")
    with client.messages.stream(**ask, extra_body={"temperature": 0, **asked(OLDER)}) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    coded = client.messages.create(**ask, extra_body={"temperature": 1.5, "seed": 3, **asked(CODER)})
    assert CODED.fullmatch(coded.content[0].text), coded.content[0].text
    wrong = {**OLDER, "triggers": ["<"]}
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**ask, extra_body=asked(wrong))
    assert "structures[0].begin" in str(refused.value)


def test_messages_have_no_allowed_tools(demo):
    client = messages_of(demo)
    tools = [{"name": n, "input_schema": {"type": "object"}} for n in ("now", "then")]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            model="demo", messages=ASK, max_tokens=5, tools=tools,
            tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "now"}]})
    assert '"auto", "any", "tool" or "none"' in str(refused.value)


@pytest.mark.parametrize("place", ["text", "structured_outputs"])
def test_responses_have_tags(demo, place):
    client = client_of(demo)

    def asked(form):
        return {"text": {"format": form}} if place == "text" else {"structured_outputs": {"structural_tag": form}}

    ask = dict(model="demo", input="Describe someone.", max_output_tokens=150, temperature=0)
    whole = client.responses.create(**ask, extra_body=asked(OLDER))
    check_older(whole.output_text, "length" if whole.status == "incomplete" else "stop")
    events = client.responses.create(**ask, extra_body=asked(OLDER), stream=True)
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert CODED.fullmatch(client.responses.create(**ask, extra_body=asked(CODER)).output_text)
    wrong = {"type": "structural_tag", "format": {**CODER["format"], "content": {
        "type": "qwen_xml_parameter", "json_schema": {"anyOf": [{}, {}]}}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ask, extra_body=asked(wrong))
    assert "format.content.json_schema" in refused.value.param and "#/anyOf" in refused.value.message


def test_chats_and_completions_have_arguments_one_by_one(demo):
    client = client_of(demo)
    for seed in range(4):
        ask = dict(model="demo", max_tokens=100, temperature=1.5, seed=seed, extra_body={"response_format": CODER})
        chat = client.chat.completions.create(**ask, messages=ASK).choices[0]
        assert CODED.fullmatch(chat.message.content), chat.message.content
        assert CODED.fullmatch(client.completions.create(**ask, prompt="x").choices[0].text)
    style = json.loads(
        json.dumps(CODER).replace('"qwen_xml_parameter"', '"json_schema", "style": "qwen_xml"'))
    chat = client.chat.completions.create(
        model="demo", max_tokens=100, messages=ASK, extra_body={"response_format": style}).choices[0]
    assert CODED.fullmatch(chat.message.content), chat.message.content
