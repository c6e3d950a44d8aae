"""The table route x field x client: every field that the server's own documents list is sent by every
client that can send it, with a value whose effect is seen, and with values that are refused by name.
docs/fields.md is written by it: PENSTOCK_WRITE_FIELDS=1 tests/e2e/run build/venv/bin/python tests/e2e/test_fields.py"""

import json
import os
import re
import subprocess

import pytest
from conftest import BINARY, DEMO, HAS_GRPC, ROOT, Server
from field_clients import Anthropic, Grpc, Http, OpenAi
from field_probes import (
    ASK, CHAT, COMPLETIONS, COUNT, EMBEDDINGS, GENERATING, GRPC_NAMES, MESSAGES, RERANK, RESPONSES,
    probe_of)
from lora_adapters import make_adapter
from test_openapi import DEEP, VALUES, allows

if HAS_GRPC:
    from test_grpc import stubs  # noqa: F401  (a fixture)
else:
    @pytest.fixture(scope="module")
    def stubs():
        return None

PAGE = ROOT / "docs/fields.md"
ENCODERS = ROOT / "tests/goldens/encoders"
ADAPTERS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")


def stopped_well(server):
    assert server.stop() == 0, server.log
    assert "Sanitizer" not in server.log and "runtime error:" not in server.log, server.log


class Table:
    """Servers, what they list, and their clients."""

    def __init__(self, folder, stubs):  # noqa: F811
        adapters = folder / "adapters"
        adapters.mkdir()
        make_adapter(adapters / "one", 1)
        # Equal kernels and a batch of one give equal answers, whoever asks.
        self.servers = {
            "demo": Server(
                folder, "--set", f"models.demo.path={DEMO}", "--set", "models.demo.tool_parser=hermes",
                "--set", f"models.demo.lora.dir={adapters}", "--set", "models.demo.lora.allow_runtime=true",
                "--set", "models.demo.lora.max_adapters=8", model=None),
        }
        for name in ("bert", "bert_reranker"):
            (folder / name).mkdir()
            self.servers[name] = Server(folder / name, model=str(ENCODERS / name))
        self.document = json.loads(self.servers["demo"].get("/openapi.json"))
        self.routes = {}  # route -> field -> schema
        for route, methods in self.document["paths"].items():
            body = methods.get("post", {}).get("requestBody")
            if body is None:
                continue
            schema = body["content"]["application/json"]["schema"]
            if "$ref" in schema:
                schema = self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            self.routes[route] = schema
        self.clients = {}
        for name, server in self.servers.items():
            kinds = [Http(server), OpenAi(server), Anthropic(server)]
            self.clients[name] = kinds + ([Grpc(server, stubs)] if stubs else [])
        self.rows = {}  # (route, field) -> {"type", "clients", "saw"}
        self.greedy, self.ids = {}, {}
        for route in (COMPLETIONS, CHAT):
            more = {"max_tokens": 64, "return_token_ids": True, "ignore_eos": True}
            seen = self.http(route).post(route, {**ASK[route], **more})
            self.greedy[route], self.ids[route] = seen.text, seen.raw["choices"][0]["token_ids"]
        for route in (RESPONSES, MESSAGES, COUNT):
            self.greedy[route], self.ids[route] = self.greedy[CHAT], self.ids[CHAT]

    def model(self, route):
        return {EMBEDDINGS: "bert", RERANK: "bert_reranker"}.get(route, "demo")

    def http(self, route):
        return self.clients[self.model(route)][0]

    def senders(self, route, field):
        """The clients that can send this field there; gRPC's names are its own."""
        for client in self.clients[self.model(route)]:
            if client.has(route) and (client.name == "gRPC" or field in self.routes[route]["properties"]):
                known = GRPC_NAMES.get(route, {}).get(field, field)
                if client.name != "gRPC" or known in client.fields(route):
                    yield client

    def fields(self, route):
        """Those of the body, and those that only gRPC has."""
        listed = dict(self.routes[route]["properties"])
        for client in self.clients[self.model(route)]:
            if client.name == "gRPC" and client.has(route):
                theirs = {ours for ours in GRPC_NAMES.get(route, {}).values()}
                listed.update({f: None for f in client.fields(route) if f not in theirs and f not in listed})
        return listed


@pytest.fixture(scope="module")
def table(tmp_path_factory, stubs):  # noqa: F811
    made = Table(tmp_path_factory.mktemp("fields"), stubs)
    yield made
    for server in made.servers.values():
        stopped_well(server)


class Walk:
    """One field on its way through one client."""

    def __init__(self, table, route, field, client, probe):
        self.table, self.route, self.field, self.sender = table, route, field, client
        self.client, self.model = client.name, table.model(route)
        self.greedy, self.ids = table.greedy.get(route), table.ids.get(route)
        base = probe.base(self) if callable(probe.base) else probe.base or {}
        self.without = {**ASK[route], **base}
        if field in ("prompt_ids", "temperature"):
            self.without.pop({"prompt_ids": "prompt"}.get(field, "-"), None)
        if field == "seed":
            self.without.pop("seed", None)
        self.value = probe.value(self) if callable(probe.value) else probe.value
        self.body = {**self.without, field: self.value}

    def send(self, body):
        if self.client == "gRPC":
            names = GRPC_NAMES.get(self.route, {})
            body = {names.get(name, name): value for name, value in body.items()}
        return self.sender.post(self.route, body)

    def again(self):
        return self.send(self.body)

    def again_without(self):
        return self.send(self.without)

    def kept(self):
        return self.sender.post(RESPONSES, ASK[RESPONSES]).raw["id"]  # whoever made it finds it

    def is_kept(self, seen):
        headers = {} if self.client == "HTTP" else {"Authorization": "Bearer none"}
        connection = self.table.http(self.route).connection
        connection.request("GET", f"{RESPONSES}/{seen.raw['id']}", headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    def is_logged(self):
        return bool(self.table.servers[self.model].logged(request_id=self.value))

    def models(self):
        return [m["id"] for m in json.loads(self.table.servers["demo"].get("/v1/models"))["data"]]

    def prepare(self):
        """Adapters are state: each try begins with the same ones."""
        if self.route not in ADAPTERS:
            return
        http = self.table.http(self.route)
        for name in self.models():
            if name != "demo":
                http.post(ADAPTERS[1], {"lora_name": name})
        wanted = {"load_inplace": ["one"]}.get(self.field, [])
        for name in ["one", "two"] if self.route == ADAPTERS[1] else wanted:
            assert http.post(ADAPTERS[0], {"lora_name": name, "lora_path": "one"}).status == 200


def walk_field(table, route, field):
    """Sends the field by every client; what was seen becomes a row."""
    probe = probe_of(field, route)
    assert probe, f"{route} has a field {field} that tests/e2e/field_probes.py tries nowhere"
    clients, first = [], None
    for client in table.senders(route, field):
        walk = Walk(table, route, field, client, probe)
        walk.prepare()
        about = (route, field, client.name, walk.value)
        without = None
        if route not in ADAPTERS:
            without = walk.again_without() if field != "prompt_ids" else client.post(route, ASK[route])
            assert without.status in (200, *probe.statuses), (*about, without.raw)
        got = walk.again()
        assert got.status in probe.statuses, (*about, got.raw)
        assert probe.saw(got, without, walk), (*about, got.raw, without and without.raw)
        if probe.same and field != "model" and "same" not in probe.says:
            first = first or got
            # An embedding that gRPC hands on as float32 is written in fewer digits by HTTP.
            if EMBEDDINGS != route and len(probe.statuses) == 1 and field not in ("prompt_ids",):
                assert comparable(got, route) == comparable(first, route), about
        clients.append(client.name + client.manner(route, field))
    assert clients, (route, field)
    table.rows[route, field] = {"clients": clients, "saw": probe.says}


def comparable(seen, route):
    if route in ("/tokenize", "/detokenize", RERANK):
        return seen.text
    gist = seen.gist()
    return gist[:2] if seen.events else gist


ROUTES = [*ASK]


@pytest.mark.parametrize("route", ROUTES)
def test_every_field_by_every_client(table, route):
    assert set(ROUTES) == set(table.routes), "a route with a body that nothing here asks"
    for field in table.fields(route):
        walk_field(table, route, field)


# Bad input.

MARK = "xyzzy-of-the-client"  # what no log may have
NAMED = "a-name"  # what it may: models, adapters, requests and members are called so
NAMES = ("model", "request_id", "lora_name", "lora_path", "base_model_name", "previous_response_id")
LONG = 1_000_000


def far(field):
    word = NAMED if field in NAMES else MARK
    return [2**31, 2**63, -(2**70), 1e300, [word], {NAMED: [word]}, [[word]], [None], True, "x" * LONG, word, DEEP]


def shape(route, seen):
    """A refusal in the form of the route's API."""
    raw = seen.raw
    assert set(raw["error"]) >= {"message", "type"} and raw["error"]["message"], (route, raw)
    if route in (MESSAGES, COUNT):
        assert raw["type"] == "error" and raw["request_id"], raw
    else:
        assert set(raw["error"]) == {"message", "type", "param", "code"}, raw
        assert raw["error"]["code"] == seen.status, raw
    return re.split(r"[.\[]", raw["error"].get("param") or "")[0]


def refused_by_name(route, field, seen, about):
    assert seen.status in (400, 404), about
    assert shape(route, seen) == field, about


def raw_twice(body, field, first, second):
    """The field two times; what JSON's own writers cannot write."""
    rest = {k: v for k, v in body.items() if k != field}
    both = f"{json.dumps(field)}:{json.dumps(first)},{json.dumps(field)}:{json.dumps(second)}"
    return (json.dumps(rest)[:-1] + ("," if rest else "") + both + "}").encode()


def bad_field(table, route, field, schema):
    """Returns what is refused; every answer is judged."""
    http, required = table.http(route), field in table.routes[route].get("required", [])
    ask = {**ASK[route]}
    refused = []
    values = far(field) + (VALUES if route not in BASE_OF_OPENAPI else [])
    for value in values:
        seen = http.post(route, {**ask, field: value})
        about = (route, field, str(value)[:80], seen.status, str(seen.raw)[:300])
        assert seen.status < 500, about
        if seen.status >= 400:
            shape(route, seen)
            assert len(str(seen.raw)) < 10_000, (*about, "so much is said of it")
        if not allows(schema, value, table.document):
            refused_by_name(route, field, seen, about)
            refused.append(value)
        elif route in ADAPTERS and seen.status == 200:
            http.post(ADAPTERS[1], {"lora_name": value if field == "lora_name" else "one"})
    seen = http.post(route, {**ask, field: None})
    if required or (field in ask and field not in ("max_tokens", "temperature", "max_output_tokens", "input")):
        refused_by_name(route, field, seen, (route, field, None, seen.raw))
    elif route not in ADAPTERS:
        assert seen.status == 200 or field in ("input", "max_tokens"), (route, field, None, seen.raw)
    # Deeper than any parser's stack. Where it is, the message says.
    deep = json.dumps({**ask, field: "HERE"}).replace('"HERE"', "[" * 50_000 + "]" * 50_000).encode()
    seen = http.post(route, deep)
    assert seen.status == 400 and "deep" in seen.raw["error"]["message"], (route, field, seen.raw)
    if refused and route not in ADAPTERS:
        # Of two the last counts.
        probe = probe_of(field, route)
        walk = Walk(table, route, field, http, probe)
        bad = refused[0]
        seen = http.post(route, raw_twice(walk.body, field, walk.value, bad))
        refused_by_name(route, field, seen, (route, field, "twice", seen.raw))
        seen = http.post(route, raw_twice(walk.body, field, bad, walk.value))
        assert seen.status in probe.statuses, (route, field, "twice", seen.raw)
    return refused


def bad_by_clients(table, route, field, refused):
    """The same refusal comes through every client: the field of that name arrived."""
    for client in table.senders(route, field):
        if client.name == "HTTP":
            continue
        if client.name == "gRPC":
            bad_by_grpc(table, route, field, client)
            continue
        for value in refused[:1]:
            seen = client.post(route, {**ASK[route], field: value})
            about = (route, field, client.name, value, seen.status, seen.raw)
            assert seen.status in (400, 404), about
            assert re.split(r"[.\[]", seen.param)[0] == field, about


def bad_by_grpc(table, route, field, client):
    """Types are protobuf's; what is left to refuse are ranges, ids and JSON."""
    kind = client.fields(route)[GRPC_NAMES.get(route, {}).get(field, field)]
    bounds = (table.routes[route]["properties"].get(field) or {}).get("anyOf", [{}])[0]
    if "enum" in bounds or field in ("tools", "documents", "chat_template_kwargs", "response_format",
                                     "structured_outputs", "tool_choice"):
        values = ["{", '"x', "[1"]
        values = [[v] for v in values] if field in ("tools", "documents") else values
    elif "minimum" in bounds or "exclusiveMinimum" in bounds:
        values = [bounds.get("minimum", bounds.get("exclusiveMinimum", 0) + 1) - 1]
        values += [bounds["maximum"] + 1] if "maximum" in bounds else []
        if field == "seed" or kind.type == kind.TYPE_INT64:
            values.append(2**62)
    elif kind.type == kind.TYPE_INT32:
        values = [[-1], [2**31 - 1]]
    elif field == "logit_bias":
        values = [{"5": 101}, {"5": float("nan")}, {"-1": 1}]
    else:
        return
    for value in values:
        seen = client.post(route, {GRPC_NAMES.get(route, {}).get(k, k): v
                                   for k, v in {**ASK[route], field: value}.items()})
        about = (route, field, value, seen.status, seen.raw)
        assert seen.status == 400 and GRPC_NAMES.get(route, {}).get(field, field) in seen.message, about


BASE_OF_OPENAPI = (COMPLETIONS, CHAT, RESPONSES, MESSAGES, COUNT, EMBEDDINGS)


@pytest.mark.parametrize("route", ROUTES)
def test_bad_values_are_refused_by_name_whoever_sends_them(table, route):
    any_refused = 0
    for field, schema in table.routes[route]["properties"].items():
        refused = bad_field(table, route, field, schema)
        bad_by_clients(table, route, field, refused)
        any_refused += bool(refused)
        row = table.rows.setdefault((route, field), {})
        row["bad"] = len(refused)
    assert any_refused == len(table.routes[route]["properties"]), "a field takes anything"
    quiet = table.servers[table.model(route)]
    assert quiet.process.poll() is None and MARK not in quiet.log
    assert max(map(len, quiet.log.splitlines())) < 5_000


# What is refused because it is not supported, and what official clients name beside the table.


def refused_fields():
    """(field, routes) of the second table of `penstock check-config --api`."""
    page = subprocess.run([BINARY, "check-config", "--api"], capture_output=True, text=True, check=True).stdout
    titles = {"completions": [COMPLETIONS], "chat": [CHAT], "messages": [MESSAGES], "responses": [RESPONSES]}
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| ", page.partition("## Refused")[2], re.M)
    return [(field, route) for field, where in rows for title in where.split(", ") for route in titles[title]]


def test_what_is_not_supported_is_refused_by_name(table):
    rows = refused_fields()
    assert len(rows) > 20
    for field, route in rows:
        for client in table.clients["demo"][:3]:
            if not client.has(route):
                continue
            value = 3 if field in ("n", "max_tokens", "prompt_logprobs", "max_tool_calls", "top_logprobs") else "x"
            seen = client.post(route, {**ASK[route], field: value})
            about = (route, field, client.name, seen.raw)
            assert seen.status == 400, about
            assert re.split(r"[.\[]", seen.param)[0] == field, about
        for nothing in (None, False, "", [], {}):
            seen = table.http(route).post(route, {**ASK[route], field: nothing})
            assert seen.status == 200, (route, field, nothing, seen.raw)
        table.rows[route, field] = {"clients": [], "saw": "refused by name"}


def ignored_fields(table):
    """What the official clients have names for and the table has not."""
    refused = set(refused_fields())
    for client in table.clients["demo"][:3]:
        for route in GENERATING:
            if client.name == "HTTP" or not client.has(route):
                continue
            for field in sorted(client.named(route) - set(table.routes[route]["properties"])):
                if (field, route) not in refused:
                    yield client, route, field


def test_what_clients_name_beside_the_table_does_no_harm(table):
    for client, route, field in ignored_fields(table):
        plain = client.post(route, ASK[route])
        seen = client.post(route, {**ASK[route], field: "auto"})
        assert seen.gist() == plain.gist(), (route, field, seen.raw)
        table.rows[route, field] = {"clients": [client.name], "saw": "ignored"}


# The page, made of what the tests before it saw.


def kind_of(table, route, field):
    schema = table.routes[route]["properties"].get(field)
    if schema is None:
        return ""
    kinds = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    names = []
    for kind in kinds:
        of = kind.get("type", "one of several" if "anyOf" in kind else "one value" if "const" in kind else "a word")
        of = " or ".join(t for t in (of if isinstance(of, list) else [of]) if t != "null")
        low, high = kind.get("minimum", kind.get("exclusiveMinimum")), kind.get("maximum")
        if low is not None:
            of += f" from {low}" if "minimum" in kind else f" above {low}"
        names.append(of + (f" to {high}" if high is not None else ""))
    return " or ".join(names)


def page_of(table):
    out = [
        "# Fields by route and client", "",
        "Generated by `tests/e2e/test_fields.py`, which sends each field of each route by each client that can, and",
        "fails where this page is not what it saw: `PENSTOCK_WRITE_FIELDS=1 tests/e2e/run build/venv/bin/python "
        "tests/e2e/test_fields.py`",
        "writes it anew. The fields are those of `/openapi.json` and of the `.proto`; their meaning is in `api.md`. "
        "*extra_body*: the client",
        "has no name for the field and hands it on. *Seen*: what a good value was seen to do, with the same answer "
        "whichever client asked.",
        "*Bad*: how many bad values of other types, beyond the range, of megabytes or deeply nested were each a 400 "
        "(a name that nothing has: 404)",
        "that names the field; through each client at least one, where a bad value can be said at all (protobuf has "
        "types). `null` is as left",
        "out, or named as missing where the field is needed; of a field that is there twice the last counts; arrays "
        "50,000 deep are refused.", "",
    ]
    for route in ROUTES:
        out += [f"## {route}", "", "| field | type | clients | seen | bad |", "|---|---|---|---|---|"]
        listed = [f for (r, f) in table.rows if r == route]
        for field in sorted(listed, key=lambda f: (table.rows[route, f]["saw"] in ("refused by name", "ignored"), f)):
            row = table.rows[route, field]
            out.append(f"| `{field}` | {kind_of(table, route, field)} | {', '.join(row['clients'])} | {row['saw']} | "
                       f"{row.get('bad', '')} |")
        out.append("")
    return "\n".join(out)


def test_the_page_is_what_was_seen(table):
    listed = [(route, field) for route in ROUTES for field in table.routes[route]["properties"]]
    whole = all({"saw", "bad"} <= table.rows.get(row, {}).keys() for row in listed)
    if not whole or not HAS_GRPC:
        pytest.skip("needs all that stands before it, and gRPC")
    page = page_of(table)
    if os.environ.get("PENSTOCK_WRITE_FIELDS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "PENSTOCK_WRITE_FIELDS=1 writes it"
