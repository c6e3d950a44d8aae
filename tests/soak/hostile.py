#!/usr/bin/env python3
"""Schemas, expressions and grammars that are meant to hurt: each is refused with its path, or bounded. Exits 1 where
one takes more than 256 MiB of the server's memory beyond what it had, or more than --seconds of its processor time
(1 unless said), or where a refusal does not say where: a schema's by the keyword's path, a grammar's by its
line. Prints what each took. About a minute; no part of ./dev test.

    build/venv/bin/python tests/soak/hostile.py build/release/bin/penstock models/demo
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MIB = 1 << 20


def schema(value):
    return {"guided_json": value}


def nested(depth, inner, wrap):
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def tag(members):
    return {"response_format": {"type": "structural_tag", **members}}


def doubling(depth, keyword):
    """Each definition names the next one twice: 2^depth ways."""
    defs = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(depth)}
    defs[f"d{depth}"] = {"type": "integer"}
    return {"$defs": defs, "$ref": "#/$defs/d0"}


def cases():
    string = {"type": "string"}
    # Size.
    yield "10 MB of properties", True, schema({"properties": {f"p{i:07}": string for i in range(330_000)}})
    yield "10 MB of enum", True, schema({"enum": [f"value {i:07}" for i in range(600_000)]})
    yield "10 MB of description", True, schema({"type": "string", "description": "x" * 10_000_000})
    yield "10 MB of empty arrays", True, schema({"enum": [[] for _ in range(3_300_000)]})
    yield "10 MB of brackets", True, {"guided_json": "[" * 10_000_000}
    yield "10 MB pattern", True, schema({"type": "string", "pattern": "a" * 10_000_000})
    yield "1 MB of properties", False, schema({"properties": {f"p{i:06}": string for i in range(30_000)}})
    yield "1 MB of enum", False, schema({"enum": [f"value {i:06}" for i in range(60_000)]})
    yield "10,000 choices", False, {"guided_choice": [f"{i * 7919} one of many" for i in range(10_000)]}
    yield "100,000 choices", True, {"guided_choice": [f"choice {i}" for i in range(100_000)]}
    yield "1 MB choice", False, {"guided_choice": ["lorem ipsum " * 80_000]}
    yield "1 MB const", False, schema({"const": "lorem ipsum " * 80_000})
    yield "1 MB literal", False, {"guided_grammar": 'root ::= "' + "lorem ipsum " * 80_000 + '"'}
    yield "20,000 different characters", True, schema({
        "const": "".join(chr(0x4E00 + i % 20_000) for i in range(200_000))})
    yield "1 MB regex", False, {"guided_regex": "lorem ipsum " * 80_000}
    # Depth.
    yield "100 deep objects", False, schema(nested(100, string, lambda s: {"properties": {"a": s}}))
    yield "100 deep arrays", False, schema(nested(100, string, lambda s: {"type": "array", "items": s}))
    yield "100 deep anyOf", False, schema(nested(100, string, lambda s: {"anyOf": [s, {"type": "null"}]}))
    yield "100 deep not", False, schema(nested(100, string, lambda s: {"not": s}))
    yield "5,000 deep", True, {"guided_json": nested(5000, '{"type":"null"}', lambda s: '{"items":' + s + "}")}
    # Alternations.
    for keyword in ("anyOf", "oneOf", "allOf"):
        yield f"2^30 {keyword}", False, schema(doubling(30, keyword))
    yield "10^20 allOf of anyOf", False, schema({"allOf": [
        {"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(10)]} for i in range(20)]})
    yield "oneOf of 300 strings", False, schema({
        "type": "string", "oneOf": [{"pattern": f"^{i}.*"} for i in range(300)]})
    yield "2^40 if then else", False, schema({"allOf": [
        {"if": {"properties": {f"a{i}": {"const": 1}}}, "then": {"required": [f"b{i}"]}} for i in range(40)]})
    yield "60 patternProperties", False, schema({
        "patternProperties": {f"^.*{i}.*$": {"minLength": i} for i in range(60)}})
    yield "300 dependentRequired", False, schema({
        "properties": {f"p{i}": {} for i in range(300)},
        "dependentRequired": {f"p{i}": [f"p{(i * 7) % 300}"] for i in range(300)}})
    yield "unevaluated of 40 anyOf", False, schema({"anyOf": [
        {"properties": {f"p{i}": {}}} for i in range(40)], "unevaluatedProperties": False})
    # Expressions.
    for pattern in ("(a|aa)+$", "^(a{1,100}){1,100}$", "^((a{1,50}){1,50}){1,50}$", "(.*a){25}", "^.*a.{24}$",
                    "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "[a-z]{1,1000}[0-9]{1,1000}.{1,1000}",
                    "^(\\w{1,60}@){1,60}$", "(?=a)(?!b)(?<c>d)\\1", "(" * 3000 + "a" + ")" * 3000,
                    "[" + "a-z" * 20_000 + "]",
                    "\\p{L}{1,500}\\p{Lu}{1,500}", "a{1000000000}", "(a*)*(b*)*((c|d)*e?)*{1,9}"):
        yield f"pattern {pattern[:30]}", False, schema({"type": "string", "pattern": pattern})
        yield f"regex {pattern[:30]}", False, {"guided_regex": pattern}
    # References.
    yield "$ref to itself", True, schema({"$ref": "#"})
    a, b = {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}
    yield "$ref in a ring", True, schema({"$defs": {"a": b, "b": a}, **a})
    yield "allOf of itself", True, schema({"$defs": {"a": {"allOf": [a, string]}}, **a})
    yield "endless object", True, schema({
        "$defs": {"a": {"type": "object", "properties": {"a": a}, "required": ["a"]}}, **a})
    yield "not itself", True, schema({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"})
    yield "$ref elsewhere", True, schema({"$ref": "file:///etc/passwd"})
    yield "$ref to nothing", True, schema({"$ref": "#/$defs/none"})
    # Contradictions.
    for name, value in {
        "minimum > maximum": {"type": "integer", "minimum": 5, "maximum": 4},
        "no number between": {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 5},
        "minLength > maxLength": {"type": "string", "minLength": 5, "maxLength": 4},
        "minItems > maxItems": {"type": "array", "minItems": 5, "maxItems": 4},
        "minProperties > maxProperties": {"type": "object", "minProperties": 5, "maxProperties": 4},
        "empty enum": {"enum": []},
        "empty enum within": {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]},
        "const of another type": {"type": "string", "const": 1},
        "allOf of two types": {"allOf": [{"type": "string"}, {"type": "integer"}]},
        "required and forbidden": {"properties": {"a": False}, "required": ["a"], "type": "object"},
        "required beyond all": {"type": "object", "additionalProperties": False, "required": ["a"]},
        "false": False,
        "not anything": {"not": {}},
        "pattern and maxLength": {"type": "string", "pattern": "^aaaa$", "maxLength": 3},
        "multipleOf 0": {"type": "integer", "multipleOf": 0},
    }.items():
        yield name, True, schema(value)
    # Large numbers.
    for name, value in {
        "minLength 10^15": {"type": "string", "minLength": 10**15},
        "maxLength 10^300": {"type": "string", "maxLength": 1e300},
        "minItems 10^9": {"type": "array", "minItems": 10**9},
        "items of items 10^6": nested(5, string, lambda s: {"type": "array", "minItems": 10**6, "items": s}),
        "minimum 1e308": {"type": "number", "minimum": 1e308},
        "maximum 10^400 digits": {"type": "integer", "maximum": 10**400},
        "multipleOf 10^18": {"type": "integer", "multipleOf": 10**18 - 1},
        "multipleOf 99991": {"type": "integer", "multipleOf": 99_991},
        "multipleOf 1e-300": {"type": "number", "multipleOf": 1e-300},
        "pattern and length": {"type": "string", "pattern": "^(ab|cd)*$", "minLength": 9000, "maxLength": 10_000},
    }.items():
        yield name, False, schema(value)
    host = {"type": "string", "format": "hostname"}
    yield "400 hostnames", False, schema({"properties": {f"p{i}": host for i in range(400)}})
    yield "hostnames of 250 lengths", False, schema({
        "properties": {f"p{i}": {**host, "maxLength": i} for i in range(3, 253)}})
    yield "a hostname but for 1,500", False, schema({
        **host, "not": {"enum": [f"{i * 7919:010}x" for i in range(1500)]}})
    yield "hostnames and patterns", False, schema({
        "properties": {f"p{i}": {**host, "pattern": f"^(.*{i}){{3}}.*$"} for i in range(60)}})
    # Grammars.
    for name, text in {
        "left recursion": 'root ::= a\na ::= b "x"\nb ::= a',
        "nullable loops": 'root ::= (("a"*)*)*',
        "turns of turns": 'root ::= (("a"{1000,1000000}){1000,1000000}){1000,1000000}',
        "ambiguous": 'root ::= "a" root root | "a" root | "a"',
        "ambiguous and empty": 'root ::= s\ns ::= "a" s s | ""',
        "nothing at all": 'root ::= root',
        "9,000 rules": "\n".join(["root ::= r0"] + [f'r{i} ::= "x" r{i + 1}' for i in range(9_000)]
                                  + ['r9000 ::= "y"']),
        "2,000 deep groups": "root ::= " + "(" * 2000 + '"a"' + ")" * 2000,
        "9,000 rules the other way": "\n".join([f'r{i} ::= "x" r{i - 1}' for i in range(9_000, 0, -1)][::-1]
                                                + ['r0 ::= "y"', "root ::= r9000"]),
        "a row of 100,000 rules": "root ::= " + "a " * 100_000 + '\na ::= b\nb ::= "x"',
        "2^30 rules": "\n".join([f"r{i} ::= r{i + 1} r{i + 1}" for i in range(30)] + ['r30 ::= "a"', "root ::= r0"]),
    }.items():
        yield "gbnf " + name, False, {"guided_grammar": text}
    yield "lark terminals", False, {"guided_grammar": "start: A+\nA: /" + "(a|b)*" * 20 + "a" + "(a|b)" * 18 + "/"}
    # Structural tags.
    one = {"begin": "<a>", "content": {"type": "any_text"}, "end": "</a>"}
    yield "600 tags", True, tag({"format": {"type": "tags_with_separator", "separator": "", "tags": [one] * 600}})
    yield "500 tags of text", False, tag({"format": {"type": "triggered_tags", "triggers": ["<a"], "tags": [
        {**one, "begin": f"<a{i}>"} for i in range(500)]}})
    yield "500 tags of schemas", False, tag({"triggers": ["<"], "structures": [
        {"begin": f"<{i}>", "end": ">", "schema": {"type": "string", "pattern": f"^(.*{i}){{3}}$"}}
        for i in range(500)]})
    for number, text in ((33, ""), (31, "x" * 26)):
        begins = [f"<{i:02}{text}" for i in range(number)]
        yield f"{number} triggers", number > 32, tag({"format": {
            "type": "triggered_tags", "triggers": begins, "tags": [{**one, "begin": begin} for begin in begins]}})
    yield "400 free texts", False, tag({"format": {"type": "sequence", "elements": [
        {**one, "type": "tag", "end": [f"{i}" + "y" * 30 + f"{j:02}" for j in range(30)]} for i in range(100, 500)]}})
    yield "100 deep formats", True, tag({
        "format": nested(100, {"type": "any_text"}, lambda f: {"type": "sequence", "elements": [f]})})
    yield "10 MB tag", True, tag({"format": {"type": "const_string", "value": "x" * 10_000_000}})
    yield "1 MB of begin", True, tag({"format": {"type": "const_string", "value": "lorem ipsum " * 80_000}})


PARSERS = ("hermes", "qwen3_coder")  # of the second each property is compiled by itself


def tool_cases(parser):
    """Many schemas in one request: what bounds one must bound them all."""
    def tools(schemas):
        return {"tools": [
            {"type": "function", "function": {"name": f"f{i}", "strict": True, "parameters": schema}}
            for i, schema in enumerate(schemas)], "tool_choice": "required", "model": parser}

    costly = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a{1,60}b?){1,60}$"}}}
    yield "500 costly tools", True, tools([costly] * 500)
    yield "20,000 small tools", False, tools([{"type": "object", "properties": {"a": {"type": "integer"}}}] * 20_000)
    yield "a tool of 1,000 patterns", False, tools([{"type": "object", "properties": {
        f"p{i}": {"type": "string", "pattern": f"^(x{i}y?){{1,40}}$"} for i in range(1000)}}])
    yield "10 MB of tools", True, tools([{"type": "object", "description": "x" * 100_000}] * 100)


class Server:
    def __init__(self, binary, model, folder):
        ready = pathlib.Path(folder) / "ready.json"
        models = []
        for parser in PARSERS:
            models += ["--set", f"models.{parser}.path={model}", "--set", f"models.{parser}.tool_parser={parser}"]
        self.log = open(pathlib.Path(folder) / "log", "w")
        self.process = subprocess.Popen(
            [binary, "serve", "--port", "0", "--set", "server.public.grpc=", "--set",
             f"server.ready_file={ready}", "--set", "limits.max_body=64MiB", *models],
            stderr=self.log, stdout=subprocess.DEVNULL)
        while not ready.exists():
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{json.loads(ready.read_text())['http']}/v1/"

    def ask(self, fields):
        route, prompt = "completions", {"prompt": "The sea"}
        if "tools" in fields:
            route, prompt = "chat/completions", {"messages": [{"role": "user", "content": "The sea"}]}
        body = json.dumps({"model": PARSERS[0], "max_tokens": 8, "temperature": 0, **prompt, **fields}).encode()
        request = urllib.request.Request(self.url + route, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def memory(self, name):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split(name + ":")[1].split()[0]) * 1024

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def says_where(fields, error):
    """The field always, or the place in the body; in the field its place, unless it is the whole."""
    field, message = next(iter(fields)), error["message"]
    if "the body is not valid JSON" in message:
        return bool(re.search(rf"\(in {field}|column \d+", message))
    if not (error.get("param") or "").startswith(field):
        return False
    whole = r"more than|too large|deeper than|longer than|nothing can match the grammar"
    if re.search(whole, message) or field in ("guided_regex", "guided_choice"):
        return True
    return bool(re.search(r"(?:^|[^\w])#|line \d+|column \d+|\.format|rule", message))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(args.binary, args.model, folder)
        server.ask({"guided_choice": ["a"]})  # what is made at the first use
        of_tools = [(f"{parser}: {name}", *rest) for parser in PARSERS for name, *rest in tool_cases(parser)]
        for name, refused, fields in [*of_tools, *cases()]:
            if args.only not in name:
                continue
            before = server.memory("VmRSS")
            server.forget_peak()
            processor, wall = server.processor_seconds(), time.monotonic()
            status, answer = server.ask(fields)
            wall = time.monotonic() - wall
            processor = server.processor_seconds() - processor
            memory = server.memory("VmHWM") - before
            error = answer.get("error", {}) if status != 200 else {}
            said = f"{error.get('param')}: {error.get('message')}"
            said = said if error else answer["choices"][0]["finish_reason"]
            took = f"{processor:6.2f} s {wall:6.2f} s {memory / MIB:7.1f} MiB"
            print(f"{status} {took}  {name}: {said[:110]!r}", flush=True)
            if status not in (200, 400) or (refused and status != 400):
                wrong.append(f"{name}: {status}")
            if error and not says_where(fields, error):
                wrong.append(f"{name}: the refusal does not say where")
            if memory > 256 * MIB:
                wrong.append(f"{name}: {memory / MIB:.0f} MiB")
            if processor > args.seconds:
                wrong.append(f"{name}: {processor:.2f} s")
        server.process.send_signal(signal.SIGTERM)
        if server.process.wait(60) != 0:
            wrong.append("the server did not end well")
    print("\n".join(wrong) or "all were bounded")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
