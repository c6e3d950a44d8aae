#!/usr/bin/env python3
"""Generations under random schemas, by the demo model and by one of random weights: every one that ends by itself
must parse and validate by the jsonschema package. Exits 1 where one does not, or where more than 3 % of the schemas
are refused. Takes minutes, so no part of ./dev test.

    build/venv/bin/python tests/soak/structured.py build/release/bin/penstock models/demo [--generations N] [--seed S]
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import jsonschema
import numpy

# What jsonschema checks without further packages.
FORMATS = [f for f in ("date", "time", "email", "ipv4", "ipv6", "uuid") if f in jsonschema.FormatChecker.checkers]
PATTERNS = ["^[a-z]{2,6}$", "^(red|green|blue)$", "^[A-Z][a-z]{0,4}-[0-9]{2}$", "^\\d{3}$", "sea", "^[^0-9]{1,5}$"]
NAMES = ["name", "age", "id", "the sea", "x", "tags", "next", "a/b", "é", "$value", "kind", 'quote"d']


class Schemas:
    """Random ones, of the keywords that this server keeps exactly."""

    def __init__(self, rng):
        self.rng = rng

    def one(self):
        schema = self.any(0)
        if self.rng.random() < 0.2:  # a list or a tree
            inner = self.any(2)
            schema = {
                "$defs": {"node": {
                    "type": "object",
                    "properties": {"value": inner, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                    "required": ["value", "next"], "additionalProperties": False,
                }},
                "$ref": "#/$defs/node",
            }
        return schema

    def any(self, depth):
        kinds = [self.string, self.integer, self.number, self.enum, self.simple, self.constant, self.other_than]
        if depth < 3:
            kinds += [self.object, self.object, self.array, self.either, self.one_of]
        if depth == 0:
            kinds = [self.object, self.object, self.array, self.either, self.object]
        return self.rng.choice(kinds)(depth)

    def string(self, _):
        r = self.rng.random()
        if r < 0.2:
            return {"type": "string", "format": self.rng.choice(FORMATS)}
        if r < 0.45:
            return {"type": "string", "pattern": self.rng.choice(PATTERNS), "maxLength": self.rng.randint(8, 20)}
        least = self.rng.randint(0, 5)
        return {"type": "string", "minLength": least, "maxLength": least + self.rng.randint(0, 15)}

    def integer(self, _):
        low = self.rng.randint(-1000, 1000)
        schema = {"type": "integer", "minimum": low, "maximum": low + self.rng.randint(20, 100000)}
        if self.rng.random() < 0.2:
            schema["multipleOf"] = self.rng.choice([2, 3, 5, 10])
        if self.rng.random() < 0.2:
            schema["exclusiveMinimum"] = schema.pop("minimum")
        return schema

    def number(self, _):
        low = round(self.rng.uniform(-100, 100), 2)
        return {"type": "number", "minimum": low, "exclusiveMaximum": low + self.rng.randint(1, 50)}

    def enum(self, _):
        values = ["a", "the sea", 'with "quotes"', 12, -3.5, None, True, [1, 2], {"k": "v"}, "é", ""]
        return {"enum": self.rng.sample(values, self.rng.randint(1, 5))}

    def simple(self, _):
        return {"type": self.rng.choice(["boolean", "null", ["boolean", "null"]])}

    def object(self, depth):
        names = self.rng.sample(NAMES, self.rng.randint(1, 5))
        schema = {
            "type": "object", "properties": {name: self.any(depth + 1) for name in names},
            "required": self.rng.sample(names, self.rng.randint(0, len(names))), "additionalProperties": False,
        }
        r = self.rng.random()
        if r < 0.15:
            schema["additionalProperties"] = {"type": "integer", "minimum": 0, "maximum": 9}
            schema["maxProperties"] = len(names) + 1
        elif r < 0.25:
            schema["dependentRequired"] = {names[0]: names[-1:]}
        elif r < 0.35:
            del schema["additionalProperties"]
            schema["patternProperties"] = {"^z_": self.any(depth + 1)}
            schema["unevaluatedProperties"] = False
        elif r < 0.45:
            schema["if"] = {"required": [names[0]]}
            schema["then"] = {"required": names[-1:]}
            schema["else"] = {"minProperties": len(schema["required"])}
        elif r < 0.5:
            schema = {"allOf": [schema, {"type": "object", "minProperties": 1}]}
        return schema

    def array(self, depth):
        least = self.rng.randint(0, 2)
        most = least + self.rng.randint(0, 3)
        schema = {"type": "array", "items": self.any(depth + 1), "minItems": least, "maxItems": most}
        if self.rng.random() < 0.2:
            schema["prefixItems"] = [self.any(depth + 1)]
        elif self.rng.random() < 0.1:
            schema["contains"], schema["minItems"] = schema["items"], max(1, least)
            schema["maxItems"] = max(1, most)
        return schema

    def constant(self, _):
        return {"const": self.rng.choice(["the end", 7, None, {"a": [1, "b"]}, [], 'q"'])}

    def one_of(self, depth):
        return {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "integer", "minimum": 0, "maximum": 99},
                          {"type": "array", "items": self.any(depth + 1), "maxItems": 2}]}

    def other_than(self, _):
        return {"type": "string", "maxLength": 3, "not": {"enum": ["", "a", "no"]}}

    def either(self, depth):
        return {"anyOf": [self.any(depth + 1) for _ in range(self.rng.randint(2, 3))]}


def random_model(source, target, seed):
    """The model of `source` with other weights: its tokenizer, no sense."""
    shutil.copytree(source, target)
    path = target / "model.safetensors"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    rng = numpy.random.default_rng(seed)
    for name, tensor in json.loads(data[8:8 + length]).items():
        if name == "__metadata__" or "norm" in name:
            continue
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        bits = rng.normal(0, 0.08, (end - begin) // (4 if tensor["dtype"] == "F32" else 2)).astype(numpy.float32)
        if tensor["dtype"] == "BF16":
            bits = (bits.view(numpy.uint32) >> 16).astype(numpy.uint16)
        elif tensor["dtype"] == "F16":
            bits = bits.astype(numpy.float16)
        data[begin:end] = bits.tobytes()
    path.write_bytes(data)
    return target


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Count:
    def __init__(self):
        self.ended = self.length = self.refused = self.tokens = 0
        self.wrong = []


def generate(url, schema, seed, temperature, stream):
    body = {
        "messages": [{"role": "user", "content": f"Story {seed % 97}, please."}], "max_tokens": 400,
        "temperature": temperature, "seed": seed, "stream": stream,
        "response_format": {"type": "json_schema", "json_schema": {"name": "random", "schema": schema}},
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        if not stream:
            answer = json.load(response)
            choice = answer["choices"][0]
            return choice["message"]["content"], choice["finish_reason"], answer["usage"]["completion_tokens"]
        text, reason, tokens = "", None, 0
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
        return text, reason, tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--generations", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print(f"seed {args.seed}", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        strange = random_model(args.model, pathlib.Path(folder) / "random", args.seed)
        models = {"demo": args.model, "random": str(strange)}
        for name, path in models.items():
            port = free_port()
            log = open(os.path.join(folder, name + ".log"), "w+")
            command = [args.program, "serve", path, "--port", str(port), "--grpc-port", "0"]
            server = subprocess.Popen(command, stdout=log, stderr=log)
            base = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(base + "/ready").close()
                    break
                except OSError:
                    time.sleep(0.1)
            count = Count()

            def one(work):
                schema, seed, temperature, stream = work
                try:
                    text, reason, tokens = generate(base + "/v1/chat/completions", schema, seed, temperature, stream)
                except urllib.error.HTTPError as error:
                    count.refused += 1
                    message = json.load(error)["error"]["message"]
                    if error.code != 400 or not re.search(r"response_format|#", message):
                        count.wrong.append((schema, f"{error.code}: {message}"))
                    return
                count.tokens += tokens
                if reason == "length":
                    count.length += 1
                    return
                count.ended += 1
                try:
                    value = json.loads(text)
                    kind = jsonschema.Draft202012Validator
                    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(value)
                    assert reason == "stop", reason
                except (ValueError, AssertionError, jsonschema.ValidationError) as error:
                    count.wrong.append((schema, f"{text!r}: {error}"))

            schemas = Schemas(rng)
            work = ((schemas.one(), rng.randrange(1 << 31), rng.choice([0, 0.7, 1, 1.5]), rng.random() < 0.3)
                    for _ in range(args.generations // len(models)))
            began = time.time()
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(one, work))
            took = time.time() - began
            server.terminate()
            clean = server.wait(60) == 0
            failed = failed or bool(count.wrong) or not clean or count.ended == 0
            failed = failed or count.refused > 0.03 * (args.generations // len(models))
            told = {"model": name, "ended": count.ended, "by_length": count.length, "refused": count.refused,
                    "wrong": len(count.wrong), "tokens": count.tokens, "seconds": round(took, 1), "clean_exit": clean}
            print(json.dumps(told), flush=True)
            for schema, why in count.wrong[:5]:
                print(json.dumps(schema), why, file=sys.stderr)
    return 1 if failed else 0


sys.exit(main())
