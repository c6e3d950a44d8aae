"""Every field of /openapi.json with values of every kind: what its schema refuses the server
refuses by name, what the schema takes is never a fault of ours, and answers are as their schema
says."""

import http.client
import json

import pytest

BASE = {
    "/v1/completions": {"prompt": "Once", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 1},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/embeddings": {"input": "Hi"},
}
DEEP = json.loads("[" * 60 + "]" * 60)
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    -7,
    0.5,
    1e300,
    2**31,
    2**63,
    -(2**70),
    "",
    "text",
    "x" * 20000,
    "\u0000\u00e4\U0001f600",
    [],
    ["text"],
    [7],
    [-1],
    [[1]],
    [{}],
    [None],
    {},
    {"7": 1},
    {"7": "x"},
    {"text": 1},
    {"type": "text"},
    {"type": "nothing"},
    DEEP,
]


def allows(schema, value, root):
    """Whether a schema of the kind that the server writes takes a value."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return allows(root["components"]["schemas"][name], value, root)
    if "anyOf" in schema and not any(allows(each, value, root) for each in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema:
        only = schema["const"]
        if value != only or type(value) is not type(only):
            return False
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_of = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "integer": number and whole,
        "number": number,
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(is_of[kind] for kind in kinds):
            return False
    if number:
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            return False
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return False
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        return False
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return False
        if "items" in schema and not all(allows(schema["items"], item, root) for item in value):
            return False
    if isinstance(value, dict):
        if any(name not in value for name in schema.get("required", [])):
            return False
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if inner is not None and not allows(inner, item, root):
                return False
    return True


class Client:
    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body))
        answer = self.connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()


@pytest.fixture(scope="module")
def document(demo):
    return json.loads(demo.get("/openapi.json"))


def test_the_judge_judges():
    ranged = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "null"}]}
    assert [allows(ranged, v, {}) for v in (0, 1, 0.5, None, "1", True)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    texts = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    assert [allows(texts, v, {}) for v in ([], ["a"], [1], "a")] == [False, True, False, False]
    assert not allows({"type": "object", "required": ["a"]}, {}, {})


@pytest.mark.parametrize("path", BASE)
def test_what_a_schema_refuses_is_refused_by_name(demo, document, path):
    client = Client(demo)
    operation = document["paths"][path]["post"]
    properties = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    good = operation["responses"]["200"]["content"]["application/json"]["schema"]
    error = operation["responses"]["default"]["content"]["application/json"]["schema"]
    refused = 0
    for name, schema in properties.items():
        for value in VALUES:
            status, kind, body = client.post(path, {**BASE[path], name: value})
            about = (path, name, value if value is not DEEP else "deep", status, body[:300])
            assert status < 500, about
            if kind == "text/event-stream":
                assert status == 200 and name == "stream", about
                continue
            answer = json.loads(body)
            assert allows(good if status == 200 else error, answer, document), about
            if status == 200:
                assert allows(schema, value, document), about
            elif not allows(schema, value, document):
                assert status in (400, 404), about
                param = answer["error"]["param"] or ""
                assert param.split(".")[0].split("[")[0] == name, about
                refused += 1
    assert refused > len(properties), "hardly anything was refused"
