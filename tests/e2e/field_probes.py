"""What each field of a request is tried with, and what must be seen of it.

A field of the server's own table that has no probe here fails tests/e2e/test_fields.py."""

import itertools
from dataclasses import dataclass
from typing import Any, Callable

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
GENERATING = (COMPLETIONS, CHAT, RESPONSES, MESSAGES)

TALK = [{"role": "user", "content": "Tell me of the sea."}]
GREEDY = {"temperature": 0}
ASK = {
    COMPLETIONS: {"prompt": "The king said", "max_tokens": 8, **GREEDY},
    CHAT: {"messages": TALK, "max_tokens": 8, **GREEDY},
    RESPONSES: {"input": TALK[0]["content"], "max_output_tokens": 8, **GREEDY},
    MESSAGES: {"messages": TALK, "max_tokens": 8, **GREEDY},
    COUNT: {"messages": TALK},
    EMBEDDINGS: {"input": "the old house by the sea"},
    RERANK: {"query": "the sea", "documents": ["a ship on the sea", "an old house", "bread"]},
    "/tokenize": {"prompt": "The old house."},
    "/detokenize": {"tokens": [5, 6, 7]},
    "/v1/load_lora_adapter": {"lora_name": "one", "lora_path": "one"},
    "/v1/unload_lora_adapter": {"lora_name": "one"},
}
# Where the calls of gRPC name a field otherwise than the body of the route.
GRPC_NAMES = {"/tokenize": {"prompt": "text", "messages": "chat"}, "/detokenize": {"tokens": "ids"}}
TOOL = {"type": "function", "function": {"name": "now", "description": "What time it is.", "parameters": {
    "type": "object", "properties": {}, "additionalProperties": False}}}
TOOLS = {
    CHAT: [TOOL],
    RESPONSES: [{"type": "function", **TOOL["function"]}],
    MESSAGES: [{"name": "now", "description": "What time it is.", "input_schema": TOOL["function"]["parameters"]}],
}
TOOLS[COUNT] = TOOLS[MESSAGES]
TAG = {"type": "structural_tag", "format": {"type": "tag", "begin": "<n>", "content": {
    "type": "regex", "pattern": "[0-9]"}, "end": "</n>"}}
DIGIT = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
unique = itertools.count()


@dataclass
class Probe:
    value: Any  # or of the walk
    saw: Callable  # of the answer with the field, that without, and the walk
    says: str
    base: Any = None  # further fields of both requests, or of the walk
    statuses: tuple = (200,)
    same: bool = True  # all clients get the same answer


def tokens(walk, count):
    """The output's bound under the name that the route has for it."""
    return {"max_output_tokens" if walk.route == RESPONSES else "max_tokens": count}


def hot(walk):
    return {"temperature": 2, "seed": 7, **tokens(walk, 24)}


def template(text):
    return lambda walk: {"chat_template": text}


def spread(body):
    return lambda walk: {**body, **tokens(walk, 40)}


def is_json(w, _wo, _walk):
    return w.text.lstrip().startswith("{")


def other_text(w, wo, _walk):
    return w.text != wo.text


def other_prompt(w, wo, _walk):
    return w.prompt != wo.prompt


def alike(w, wo, _walk):
    return w.gist() == wo.gist()


def anything(_w, _wo, _walk):
    return True


ACCEPTED = "accepted"
ALIKE = "the same answer"
WITH_TOOLS = template("{% if tools %}{{ tools | tojson }}{% endif %} it is")
WITH_DOCUMENTS = template("{% if documents %}{{ documents | tojson }}{% endif %} it is")
CHANGED = "the text changes"
PROMPT = "the prompt has other tokens"
LIKELIEST = "the likeliest tokens alone"


def on(routes, probe):
    return [(routes, probe)]


def anywhere(*arguments, **more):
    return on(None, Probe(*arguments, **more))


def formed(value, check=is_json, says="the text has that form"):
    return anywhere(value, check, says, spread({}))


def chosen(w, _wo, _walk):
    return w.text in ("yes", "no")


LONG = "The old house stood by the sea, and the wind went round it. " * 12
LONG_PROMPT = {
    COMPLETIONS: {"prompt": LONG},
    CHAT: {"messages": [{"role": "user", "content": LONG}]},
    MESSAGES: {"messages": [{"role": "user", "content": LONG}]},
    RESPONSES: {"input": LONG},
}


def stopped(walk):
    """A piece of what the greedy answer says: a stop string."""
    return walk.greedy[3:6]


def stays_in(w, _wo, walk):
    return w.text.endswith(stopped(walk)) or walk.route in (RESPONSES, MESSAGES)


def several(routes, *arguments, **more):
    return on(routes, Probe(*arguments, **more))


TEXTS = lambda w, wo, walk: w.raw["choices"][0]  # noqa: E731

# By field; of several probes of a field the first that is for the route counts.
PROBES = {
    "model": several((RERANK, "/tokenize", "/detokenize", COUNT), lambda walk: walk.model, anything, ACCEPTED)
    + anywhere(lambda walk: walk.model, lambda w, wo, walk: w.raw["model"] == walk.model, "the answer repeats it"),
    "prompt": several(("/tokenize",), "The sea.", other_text, "other ids")
    + anywhere("The old house stood", other_text, CHANGED),
    "prompt_ids": anywhere([5, 6, 7], other_text, CHANGED),
    "messages": several(("/tokenize",), TALK, other_text, "other ids")
    + anywhere([{"role": "user", "content": "And of the king?"}], other_prompt, PROMPT),
    "system": anywhere("Be brief.", other_prompt, PROMPT),
    "input": several((EMBEDDINGS,), "bread", other_text, "another vector")
    + anywhere("And of the king?", other_prompt, PROMPT),
    "instructions": anywhere("Be brief.", other_prompt, PROMPT),
    "previous_response_id": anywhere(lambda walk: walk.kept(), other_prompt, PROMPT),
    "store": anywhere(False, lambda w, wo, walk: walk.is_kept(wo) and not walk.is_kept(w), "it is not kept"),
    "query": anywhere("an old house", other_text, "other scores"),
    "documents": several((RERANK,), ["bread", "an old house"], other_text, "other scores")
    + anywhere([{"text": "A whale."}], other_prompt, PROMPT, WITH_DOCUMENTS),
    "max_tokens": several((COUNT,), 3, anything, ACCEPTED)
    + anywhere(3, lambda w, wo, walk: w.completion == 3, "so many tokens"),
    "max_completion_tokens": anywhere(3, lambda w, wo, walk: w.completion == 3, "so many tokens"),
    "max_output_tokens": anywhere(3, lambda w, wo, walk: w.completion == 3, "so many tokens"),
    "min_tokens": anywhere(
        6, lambda w, wo, walk: wo.completion <= 3 and w.completion >= 6, "no end before",
        lambda walk: {"stop_token_ids": [walk.ids[2]]}),
    "n": anywhere(2, lambda w, wo, walk: len(w.texts) == 2, "so many choices"),
    "best_of": anywhere(
        3, lambda w, wo, walk: len(w.texts) == 2 and 2 * w.completion == 3 * wo.completion,
        "so many candidates, n choices", {"n": 2}),
    "seed": anywhere(
        7, lambda w, wo, walk: walk.again().gist() == w.gist() != wo.gist(), "the same tokens each time",
        lambda walk: {"temperature": 2, **tokens(walk, 24)}),
    "temperature": anywhere(2, other_text, CHANGED, lambda walk: {"seed": 7, **tokens(walk, 24)}),
    "top_p": anywhere(1e-6, lambda w, wo, walk: walk.greedy.startswith(w.text), LIKELIEST, hot),
    "top_k": anywhere(1, lambda w, wo, walk: walk.greedy.startswith(w.text), LIKELIEST, hot),
    "min_p": anywhere(1, lambda w, wo, walk: walk.greedy.startswith(w.text), LIKELIEST, hot),
    "repetition_penalty": anywhere(5, other_text, CHANGED, lambda walk: {**hot(walk), **tokens(walk, 60)}),
    "presence_penalty": anywhere(2, other_text, CHANGED, lambda walk: {**hot(walk), **tokens(walk, 60)}),
    "frequency_penalty": anywhere(2, other_text, CHANGED, lambda walk: {**hot(walk), **tokens(walk, 60)}),
    "logit_bias": anywhere(lambda walk: {str(walk.ids[4]): 100}, other_text, CHANGED),
    "bad_words": anywhere(
        lambda walk: [walk.greedy.split()[0]], lambda w, wo, walk: walk.greedy.split()[0] not in w.text.split(),
        "they are not written"),
    "allowed_token_ids": anywhere(lambda walk: [walk.ids[4]], other_text, "only these are drawn"),
    "stop": anywhere(
        lambda walk: [stopped(walk)], lambda w, wo, walk: w.text == walk.greedy[: walk.greedy.index(stopped(walk))],
        "the text ends before it"),
    "stop_sequences": anywhere(
        lambda walk: [stopped(walk)], lambda w, wo, walk: w.text == walk.greedy[: walk.greedy.index(stopped(walk))],
        "the text ends before it"),
    "stop_token_ids": anywhere(
        lambda walk: [walk.ids[2]], lambda w, wo, walk: w.completion <= 3 < wo.completion, "the text ends there"),
    "include_stop_str_in_output": several(
        (MESSAGES,), True, other_text, "the string is in the text", lambda walk: {"stop_sequences": [stopped(walk)]})
    + several((RESPONSES,), True, anything, ACCEPTED + " (there are no stop strings)")
    + anywhere(
        True, lambda w, wo, walk: w.text.endswith(stopped(walk)), "the string is in the text",
        lambda walk: {"stop": [stopped(walk)]}),
    "ignore_eos": anywhere(
        True, lambda w, wo, walk: wo.completion < 8 == w.completion, "it goes on", {"logit_bias": {"2": 100}}),
    "skip_special_tokens": anywhere(
        False, lambda w, wo, walk: "<|begin|>" in w.text and "<|begin|>" not in wo.text, "they are in the text",
        {"logit_bias": {"1": 100}}),
    "logprobs": several(
        (COMPLETIONS,), 1, lambda w, wo, walk: bool(TEXTS(w, wo, walk)["logprobs"]), "the answer has them")
    + anywhere(True, lambda w, wo, walk: bool(TEXTS(w, wo, walk)["logprobs"]), "the answer has them"),
    "top_logprobs": anywhere(
        2, lambda w, wo, walk: str(TEXTS(w, wo, walk)["logprobs"]) > "" and
        len(str(TEXTS(w, wo, walk)["logprobs"])) > len(str(TEXTS(wo, wo, walk)["logprobs"])),
        "the answer has them", {"logprobs": True}),
    "logprob_token_ids": anywhere(
        [5, 9], lambda w, wo, walk:
        len(str(TEXTS(w, wo, walk)["logprobs"])) > len(str(TEXTS(wo, wo, walk)["logprobs"])),
        "the answer has them", lambda walk: {"logprobs": 0 if walk.route == COMPLETIONS else True}),
    "prompt_logprobs": anywhere(
        1, lambda w, wo, walk: bool(w.raw.get("prompt_logprobs") or TEXTS(w, wo, walk).get("prompt_logprobs")),
        "the answer has them"),
    "echo": anywhere(True, lambda w, wo, walk: w.text == "The king said" + wo.text, "the prompt is in the text"),
    "truncate_prompt_tokens": several((COUNT,), 4, other_text, "fewer tokens")
    + several((RERANK,), 7, other_text, "other scores")
    + several((EMBEDDINGS,), 4, other_text, "another vector")
    + anywhere(3, lambda w, wo, walk: w.prompt == 3 < wo.prompt, "so many tokens of the prompt"),
    "add_special_tokens": several((COMPLETIONS, EMBEDDINGS), False, other_prompt, PROMPT)
    + several(("/tokenize",), False, other_text, "other ids")
    + several((COUNT,), True, other_text, "other tokens")
    + anywhere(True, other_prompt, PROMPT),
    "add_generation_prompt": anywhere(False, other_prompt, PROMPT),
    "continue_final_message": anywhere(
        True, other_prompt, PROMPT, {"messages": [*TALK, {"role": "assistant", "content": "It is"}]}),
    "chat_template": several((COUNT,), "{{ messages[0].content }} and", other_text, "other tokens")
    + anywhere("{{ messages[0].content }} and", other_prompt, PROMPT),
    "chat_template_kwargs": several(
        (COUNT,), {"word": "blue whales"}, other_text, "other tokens", template("{{ word }} it is"))
    + anywhere({"word": "blue whales"}, other_prompt, PROMPT, template("{{ word }} it is")),
    "tools": several((COUNT,), lambda walk: TOOLS[walk.route], other_text, "other tokens",
                     WITH_TOOLS)
    + anywhere(lambda walk: TOOLS[walk.route], other_prompt, PROMPT, WITH_TOOLS),
    "tool_choice": several((COUNT,), {"type": "any"}, anything, ACCEPTED, {"tools": TOOLS[MESSAGES]})
    + anywhere(
        lambda walk: {"type": "any"} if walk.route == MESSAGES else "required",
        lambda w, wo, walk: w.calls[:1] == ["now"], "the reply is calls",
        lambda walk: {"tools": TOOLS[walk.route], **tokens(walk, 120)}),
    "parallel_tool_calls": anywhere(
        False, lambda w, wo, walk: w.calls == ["now"], "one call",
        lambda walk: {"tools": TOOLS[walk.route], "tool_choice": "required", **tokens(walk, 120)}),
    "reasoning_effort": several(
        (COUNT,), "high", other_text, "other tokens", template("{{ reasoning_effort }} it is"))
    + anywhere("high", other_prompt, PROMPT, template("{{ reasoning_effort }} it is")),
    "thinking_token_budget": anywhere(4, anything, ACCEPTED + " (e2e.reasoning sees it end)"),
    "stream": several((COUNT,), True, anything, ACCEPTED)
    + anywhere(True, lambda w, wo, walk: w.events and w.streamed_text() == wo.text, "the same text in events"),
    "stream_options": several((RESPONSES,), {"include_obfuscation": False}, anything, ACCEPTED)
    + anywhere(
        {"include_usage": True},
        lambda w, wo, walk: w.events[-1].get("usage") and not wo.events[-1].get("usage"), "the last event has it",
        {"stream": True}),
    "stream_interval": several((COUNT,), 4, anything, ACCEPTED)
    + anywhere(
        4, lambda w, wo, walk: w.pieces <= 3 and w.gist() == wo.gist(), "the same text in fewer events",
        lambda walk: {} if walk.client == "gRPC" else {"stream": True}),
    "return_token_ids": anywhere(
        True, lambda w, wo, walk: TEXTS(w, wo, walk)["token_ids"] == walk.ids[:8], "the answer has them"),
    "priority": anywhere(3, alike, ALIKE),
    "cache_salt": several((COUNT, EMBEDDINGS, RERANK), "salt", alike, ALIKE)
    + anywhere(
        lambda walk: f"salt {next(unique)}", lambda w, wo, walk: w.cached == 0 < walk.again_without().cached,
        "nothing is found in the cache", lambda walk: LONG_PROMPT[walk.route], same=False),
    "request_id": several((COUNT,), "mine", anything, ACCEPTED)
    + anywhere(
        lambda walk: f"mine-{next(unique)}", lambda w, wo, walk: walk.is_logged(), "the log names it", same=False),
    "user": anywhere("somebody", alike, ALIKE),
    "response_format": formed({"type": "json_object"}),
    "structured_outputs": several((COUNT,), {"choice": ["yes", "no"]}, anything, ACCEPTED)
    + formed({"choice": ["yes", "no"]}, chosen),
    "guided_json": several((COUNT,), DIGIT, anything, ACCEPTED) + formed(DIGIT),
    "guided_regex": several((COUNT,), "yes|no", anything, ACCEPTED) + formed("yes|no", chosen),
    "guided_choice": several((COUNT,), ["yes", "no"], anything, ACCEPTED) + formed(["yes", "no"], chosen),
    "guided_grammar": several((COUNT,), 'root ::= "yes" | "no"', anything, ACCEPTED)
    + formed('root ::= "yes" | "no"', chosen),
    "guided_json_object": several((COUNT,), True, anything, ACCEPTED) + formed(True),
    "text": formed({"format": {"type": "json_object"}}),
    "output_format": several((COUNT,), {"type": "json_schema", "schema": DIGIT}, anything, ACCEPTED)
    + formed({"type": "json_schema", "schema": DIGIT}),
    "reasoning": anywhere({"effort": "high"}, other_prompt, PROMPT, template("{{ reasoning_effort }} it is")),
    "thinking": several(
        (COUNT,), {"type": "enabled", "budget_tokens": 1024}, other_text, "other tokens",
        template("{% if enable_thinking %}think of{% endif %} it"))
    + anywhere(
        {"type": "enabled", "budget_tokens": 1024}, other_prompt, PROMPT,
        template("{% if enable_thinking %}think of{% endif %} it")),
    "output_config": several((COUNT,), {"effort": "high"}, other_text, "other tokens",
                             template("{{ reasoning_effort }} it is"))
    + anywhere({"effort": "high"}, other_prompt, PROMPT, template("{{ reasoning_effort }} it is")),
    "metadata": several((RESPONSES,), {"a": "b"}, lambda w, wo, walk: w.raw["metadata"] == {"a": "b"},
                        "the answer repeats it")
    + anywhere({"user_id": "b"}, alike, ALIKE),
    "truncation": anywhere("disabled", alike, ALIKE),
    "include": anywhere(
        ["reasoning.encrypted_content"], alike, ALIKE),
    "modalities": anywhere(["text"], alike, ALIKE),
    "spaces_between_special_tokens": anywhere(True, alike, ALIKE),
    "encoding_format": anywhere(
        "base64", lambda w, wo, walk: isinstance(w.text[0]["embedding"], str), "the vectors are base64"),
    "top_n": anywhere(1, lambda w, wo, walk: len(w.text) == 1 < len(wo.text), "so many results"),
    "return_documents": anywhere(
        False, lambda w, wo, walk: "document" not in w.text[0] and "document" in wo.text[0], "the texts are left out"),
    "dimensions": anywhere(5, lambda w, wo, walk: len(w.text[0]["embedding"]) == 5, "so many numbers"),
    "timeout_ms": several((EMBEDDINGS, RERANK, COUNT), 60000, lambda w, wo, walk: w.gist() == wo.gist(),
                          "the same answer")
    + anywhere(
        1, lambda w, wo, walk: w.status in (408, 429), "it is over",
        lambda walk: {"ignore_eos": True, **tokens(walk, 500)}, statuses=(408, 429)),
    "ttft_timeout_ms": anywhere(60000, alike, ALIKE),
    # Of routes beside the table of calls.
    "return_token_strs": anywhere(
        True, lambda w, wo, walk: len(w.raw["token_strs"]) == len(w.text), "the answer has them"),
    "tokens": anywhere([8, 9], other_text, "another text"),
    "lora_name": several(("/v1/load_lora_adapter",), "two", lambda w, wo, walk: "two" in walk.models(), "it is a model",
                         same=False)
    + anywhere("two", lambda w, wo, walk: "two" not in walk.models(), "it is a model no more", same=False),
    "lora_path": anywhere("one", anything, ACCEPTED, {"lora_name": "three"}, same=False),
    "base_model_name": anywhere("demo", anything, ACCEPTED, {"lora_name": "four"}, same=False),
    "load_inplace": anywhere(True, anything, "loads what is loaded already", same=False),
}


# What the count of tokens depends on; of the rest of a conversation's fields it takes what may be sent.
COUNTED = ("messages", "system")


def probe_of(field, route):
    for routes, probe in PROBES.get(field, []):
        if routes is None and route == COUNT and field not in COUNTED:
            return Probe(probe.value, anything, ACCEPTED + ", nothing is generated")
        if routes is None or route in routes:
            return probe
    return None
