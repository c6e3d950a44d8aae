#!/usr/bin/env python3
"""Arguments as Qwen3-Coder writes them (structural tags of type qwen_xml_parameter): which random texts we allow and
which XGrammar does. Prints how often both agree, and of each kind of disagreement some texts.

    pip install --no-deps xgrammar==0.2.9 transformers apache-tvm-ffi numpy    # it asks for torch: see grammar_bench.py
    grammar_texts.py GRAMMAR_TEXTS_PROGRAM [SCHEMAS [SEED]]
"""
import collections
import importlib.machinery
import importlib.util
import json
import random
import subprocess
import sys
import types

import numpy
import tvm_ffi  # noqa: F401  (before a stand-in that it would take for the real one)

if importlib.util.find_spec("torch") is None:
    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.__getattr__ = lambda name: type(name, (), {})
    torch.int32, torch.Tensor = "int32", numpy.ndarray
    torch.tensor = lambda value, dtype=None: numpy.array(value, numpy.int32)
    sys.modules["torch"] = torch

import xgrammar  # noqa: E402

STRING = {"type": "string"}
KINDS = {
    "string": STRING, "words": {"type": "string", "enum": ["red", "12", "null"]}, "integer": {"type": "integer"},
    "number": {"type": "number"}, "boolean": {"type": "boolean"}, "null": {"type": "null"},
    "array": {"type": "array", "items": {"type": "integer"}},
    "object": {"type": "object", "properties": {"k": STRING}, "required": ["k"], "additionalProperties": False},
    "words without a type": {"enum": ["red", "12"]}, "one word": {"const": "red"},
    "list of string": {"type": ["string"]},
    "string by $ref": {"$ref": "#/$defs/s"}, "string or null": {"type": ["string", "null"]},
    "any of string and null": {"anyOf": [STRING, {"type": "null"}]}, "anything": {},
}
VALUES = ["red", "12", "-7", "1.5", "null", "true", "x\ny", "a < b", "[1, 2]", "[]", '{"k": "v"}', '"red"', "", "01",
          "</param", "[true]", "é"]
GAPS = ["\n", "\n", "\n", "", "\n\n", " ", "\r\n"]


def random_text(rng, names):
    """As the chat template writes it, but for a few slips."""
    slips = rng.random() < 0.5
    gap = lambda usual="\n": rng.choice(GAPS) if slips and rng.random() < 0.2 else usual  # noqa: E731
    order = [name for name in names if rng.random() < 0.85]
    if slips and rng.random() < 0.1:
        rng.shuffle(order)
    if slips and rng.random() < 0.1:
        order.append(rng.choice([*names, "other"]))
    text = gap()
    for name in order:
        end = "" if slips and rng.random() < 0.05 else "</parameter>"
        text += f"<parameter={name}>{gap()}{rng.choice(VALUES)}{gap()}{end}{gap()}"
    return text


def main():
    program, num, seed = sys.argv[1], *map(int, [*sys.argv[2:], 300, 1][:2])
    rng = random.Random(seed)
    info = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)] + [b"</s>"], xgrammar.VocabType.RAW, vocab_size=257,
                                  stop_token_ids=[256])
    compiler = xgrammar.GrammarCompiler(info)
    ours = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    counts, examples = collections.Counter(), collections.defaultdict(list)
    for _ in range(num):
        kinds = {name: rng.choice(list(KINDS)) for name in ("a", "b_2", "c")[:rng.randint(1, 3)]}
        schema = {"type": "object", "properties": {name: KINDS[kind] for name, kind in kinds.items()},
                  "required": [name for name in kinds if rng.random() < 0.6], "additionalProperties": False,
                  "$defs": {"s": STRING}}
        tag = {"type": "structural_tag", "format": {"type": "qwen_xml_parameter", "json_schema": schema}}
        compiled = compiler.compile_grammar(xgrammar.Grammar.from_structural_tag(tag))
        texts = [random_text(rng, list(kinds)) for _ in range(100)]
        ours.stdin.write(json.dumps({"tag": {"format": tag["format"]}, "texts": texts}) + "\n")
        ours.stdin.flush()
        for text, we in zip(texts, json.loads(ours.stdout.readline())["matches"]):
            matcher = xgrammar.GrammarMatcher(compiled)
            they = matcher.accept_string(text) and matcher.accept_token(256)
            what = ("both" if they else "ours alone") if we else ("theirs alone" if they else "neither")
            counts[what] += 1
            if we != they:
                examples[what].append((kinds, text))
    print(dict(counts))
    for what, found in sorted(examples.items()):
        for kinds, text in sorted(found, key=lambda one: len(one[1]))[:40]:
            print(f"{what}: {kinds} {text!r}")


main()
