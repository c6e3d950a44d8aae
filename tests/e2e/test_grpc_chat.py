"""Chat, embeddings and models over gRPC beside the same requests over HTTP."""

import contextlib
import json
import pathlib
import re
import socket
import threading
import urllib.error
import urllib.request

import grpc
import pytest
from conftest import DEMO, ROOT
from test_grpc import stub_of, stubs  # noqa: F401  (a fixture)

TALK = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "of it."}],
    },
    {"role": "assistant", "content": "Of what?"},
    {"role": "user", "content": "The sea."},
]
CODES = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND}


@pytest.fixture
def stub(demo, stubs):  # noqa: F811
    return stub_of(demo, stubs)


def post(server, path, body):
    """(status, answer)"""
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def chat_request(pb, messages=TALK, **fields):
    """The request that HTTP's body of these fields is."""
    request = pb.ChatRequest(**fields)
    for message in messages:
        row = request.messages.add()
        for key, value in message.items():
            if key == "content" and isinstance(value, list):
                for part in value:
                    row.content_parts.parts.add(**part)
            else:
                setattr(row, key, value)
    return request


def idle(server):
    return (
        server.metric("vllm:num_requests_running") == 0
        and server.metric("vllm:kv_cache_usage_perc") == 0
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "max_tokens": 30},
        {"temperature": 0, "max_completion_tokens": 5, "max_tokens": 30, "ignore_eos": True},
        {"temperature": 1.5, "seed": 7, "max_tokens": 20, "n": 3, "top_k": 20},
        {"temperature": 0, "max_tokens": 60, "stop": ["e", " the"]},
        {"temperature": 0, "max_tokens": 8, "continue_final_message": True},
        {"temperature": 0, "max_tokens": 8, "truncate_prompt_tokens": 4},
        {"temperature": 0, "max_tokens": 8, "chat_template": "{{ messages[-1].content }} is"},
    ],
)
def test_a_chat_is_what_http_answers(demo, stub, stubs, fields):  # noqa: F811
    status, http = post(demo, "/v1/chat/completions", {"messages": TALK, **fields})
    assert status == 200, http
    request = chat_request(stubs[0], **fields)
    whole = stub.Chat(request)
    assert len(whole.choices) == len(http["choices"])
    for mine, theirs in zip(whole.choices, http["choices"]):
        assert mine.message.content == theirs["message"]["content"]
        assert mine.message.role == "assistant"
        assert {1: "stop", 2: "length"}[mine.finish_reason] == theirs["finish_reason"]
        assert mine.stop_string == (theirs["stop_reason"] or "")
    assert whole.usage.prompt_tokens == http["usage"]["prompt_tokens"]
    assert whole.usage.completion_tokens == http["usage"]["completion_tokens"]
    assert whole.model == "demo"

    pieces = list(stub.ChatStream(request))
    for i, choice in enumerate(whole.choices):
        mine = [c for p in pieces for c in p.choices if c.index == i]
        assert "".join(c.message.content for c in mine) == choice.message.content
        assert [c.message.role for c in mine] == ["assistant"] + [""] * (len(mine) - 1)
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
    assert not pieces[-1].choices
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(not p.HasField("usage") for p in pieces[:-1])


def test_log_probabilities_are_those_of_http(demo, stub, stubs):  # noqa: F811
    fields = {"temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    fields["return_token_ids"] = True
    _, http = post(demo, "/v1/chat/completions", {"messages": TALK, **fields})
    request = chat_request(stubs[0], **fields)
    whole = stub.Chat(request)
    choice, theirs = whole.choices[0], http["choices"][0]
    assert list(choice.token_ids) == theirs["token_ids"]
    assert list(whole.prompt_token_ids) == theirs["prompt_token_ids"]
    assert len(choice.logprobs) == len(theirs["logprobs"]["content"]) > 0
    for mine, row in zip(choice.logprobs, theirs["logprobs"]["content"]):
        assert list(mine.token.token) == row["bytes"]
        assert mine.token.logprob == pytest.approx(row["logprob"], abs=1e-5)
        assert [list(t.token) for t in mine.top] == [t["bytes"] for t in row["top_logprobs"]]
        assert [t.logprob for t in mine.top] == pytest.approx(
            [t["logprob"] for t in row["top_logprobs"]], abs=1e-5
        )
    pieces = list(stub.ChatStream(request))
    assert [i for p in pieces for c in p.choices for i in c.token_ids] == theirs["token_ids"]
    assert sum(len(c.logprobs) for p in pieces for c in p.choices) == len(choice.logprobs)


USER = {"role": "user", "content": "x"}
TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "", "content": "x"}]},
        {"messages": [USER, {"role": "user"}]},
        {"messages": [USER, {"role": "user", "content": [TEXT, {"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [USER], "temperature": 2.01},
        {"messages": [USER], "top_p": 0},
        {"messages": [USER], "n": 0},
        {"messages": [USER], "n": 2**40},
        {"messages": [USER], "max_tokens": 0},
        {"messages": [USER], "max_tokens": 10**6},
        {"messages": [USER], "max_tokens": -(2**63)},
        {"messages": [USER], "top_logprobs": 2},
        {"messages": [USER], "logprobs": True, "top_logprobs": 21},
        {"messages": [USER], "stop": ["a"] * 65},
        {"messages": [USER], "stop": ["a" * 5000]},
        {"messages": [USER], "stop_token_ids": [2**31 - 1]},
        {"messages": [USER], "min_tokens": 9, "max_tokens": 8},
        {"messages": [USER], "chat_template": "{{ 1 / 0 }}"},
        {"messages": [USER], "chat_template": "{% for %}"},
        {"messages": [USER], "continue_final_message": True, "add_generation_prompt": True},
        {"messages": [USER], "truncate_prompt_tokens": 0},
        {"messages": [{"role": "user", "content": "word " * 3000}]},
        {"messages": [USER], "model": "no-such-model"},
    ],
)
def test_refusals_are_those_of_http(demo, stub, stubs, body):  # noqa: F811
    status, http = post(demo, "/v1/chat/completions", body)
    with pytest.raises(grpc.RpcError) as error:
        stub.Chat(chat_request(stubs[0], **body))
    assert error.value.code() == CODES[status]
    assert error.value.details() == http["error"]["message"]
    assert dict(error.value.trailing_metadata())["x-error-param"] == http["error"]["param"]
    with pytest.raises(grpc.RpcError) as error:
        list(stub.ChatStream(chat_request(stubs[0], **body)))
    assert error.value.details() == http["error"]["message"]


def test_a_field_at_fault_may_have_any_name(demo, stub, stubs):  # noqa: F811
    """gRPC ends the process where metadata is not printable ASCII."""
    structure = {"begin": "<a>", "schema": {}, "end": "</a>", "\u00e9": 1}
    tag = {"type": "structural_tag", "triggers": ["<a>"], "structures": [structure]}
    cases = [({"structured_outputs": {"\u00e9\n\u0000 x": 1}}, "structured_outputs.%C3%A9%0A%00 x"),
             ({"structured_outputs": {"a" * 1_000_000: 1}}, "structured_outputs.aaa"),
             ({"response_format": tag}, "response_format.structures[0].%C3%A9"),
             ({"response_format": {"type": "\u00e9" * 100_000}}, "response_format")]
    for fields, param in cases:
        ask = chat_request(stubs[0], [USER])
        for name, value in fields.items():
            setattr(ask, name, json.dumps(value, ensure_ascii=False))
        for call in (lambda: stub.Chat(ask), lambda: list(stub.ChatStream(ask))):
            with pytest.raises(grpc.RpcError) as error:
                call()
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value
            assert dict(error.value.trailing_metadata())["x-error-param"].startswith(param)
    assert demo.process.poll() is None


def test_a_cancelled_chat_frees_its_blocks(demo, stub, stubs):  # noqa: F811
    request = chat_request(stubs[0], max_tokens=1500, ignore_eos=True, n=16)  # longer than a page of metrics takes
    streams = [stub.ChatStream(request) for _ in range(4)]
    for stream in streams:
        next(stream)
        stream.cancel()
    whole = [stub.Chat.future(request) for _ in range(4)]
    demo.until(lambda: demo.metric("vllm:num_requests_running") > 0)
    for call in whole:
        call.cancel()
    demo.until(lambda: idle(demo))
    with pytest.raises(grpc.RpcError) as error:
        stub.Chat(request, timeout=0.05)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    demo.until(lambda: idle(demo))


def test_embeddings_are_those_of_http(serve, stubs):  # noqa: F811
    server = serve("--set", "engine.dtype=float32", model=str(ROOT / "tests/goldens/encoders/bert"))
    stub, pb = stub_of(server, stubs), stubs[0]
    texts = ["the sea", "old house", "a light in the wind"]
    for fields in (
        {},
        {"dimensions": 5},
        {"truncate_prompt_tokens": 3},
        {"add_special_tokens": False},
    ):
        _, http = post(server, "/v1/embeddings", {"input": texts, **fields})
        mine = stub.Embed(pb.EmbedRequest(input=[pb.EmbedInput(text=t) for t in texts], **fields))
        assert [e.index for e in mine.embeddings] == [0, 1, 2]
        for got, want in zip(mine.embeddings, http["data"]):
            assert list(got.values) == pytest.approx(want["embedding"], abs=1e-6)
        assert mine.usage.prompt_tokens == http["usage"]["prompt_tokens"]
    _, http = post(server, "/v1/embeddings", {"input": [[5, 6], [7]]})
    ids = [pb.EmbedInput(ids=pb.TokenIds(ids=i)) for i in ([5, 6], [7])]
    for got, want in zip(stub.Embed(pb.EmbedRequest(input=ids)).embeddings, http["data"]):
        assert list(got.values) == pytest.approx(want["embedding"], abs=1e-6)
    for body in (
        {"input": ["x"], "dimensions": 33},
        {"input": ["x"], "dimensions": 0},
        {"input": ["x", "a " * 100]},
        {"input": ["x"], "truncate_prompt_tokens": 65},
        {"input": ["x"], "model": "nope"},
    ):
        status, http = post(server, "/v1/embeddings", body)
        inputs = [pb.EmbedInput(text=t) for t in body["input"]]
        with pytest.raises(grpc.RpcError) as error:
            stub.Embed(pb.EmbedRequest(**{**body, "input": inputs}))
        assert error.value.code() == CODES[status]
        assert error.value.details() == http["error"]["message"]
        assert dict(error.value.trailing_metadata())["x-error-param"] == http["error"]["param"]
    with pytest.raises(grpc.RpcError) as error:
        stub.Embed(pb.EmbedRequest())
    assert dict(error.value.trailing_metadata())["x-error-param"] == "input"
    with pytest.raises(grpc.RpcError) as error:
        stub.Chat(chat_request(pb))
    assert "/v1/embeddings" in error.value.details()


def test_names_a_model(demo, stub, stubs):  # noqa: F811
    http = json.loads(demo.get("/v1/models/demo"))
    model = stub.GetModel(stubs[0].GetModelRequest(model="demo"))
    assert (model.id, model.created, model.max_model_len) == (
        http["id"],
        http["created"],
        http["max_model_len"],
    )
    with pytest.raises(grpc.RpcError) as error:
        stub.GetModel(stubs[0].GetModelRequest(model="nope"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


class Relay:
    """Forwards one connection to a port and counts the bytes that come back."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.received = 0
        self.target = port
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        client = self.listener.accept()[0]
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
        self.pump(server, client, True)

    def pump(self, source, sink, count):
        with contextlib.suppress(OSError):  # the other side may close first
            while data := source.recv(65536):
                self.received += len(data) if count else 0
                sink.sendall(data)


def test_a_call_chooses_its_encodings(demo, stubs):  # noqa: F811
    text = "the sea and the sea " * 5000

    def bytes_of(metadata, **keywords):
        relay = Relay(demo.grpc_port)
        with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            ids = stubs[1].InferenceStub(channel).Tokenize(
                stubs[0].TokenizeRequest(text=text), metadata=metadata, **keywords
            )
            assert len(ids.ids) > 10_000
        return relay.received

    plain = bytes_of([])
    assert plain > 10_000
    for encoding in ("gzip", "deflate"):
        assert bytes_of([("x-response-encoding", encoding)]) < plain / 4


def peak_memory(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


def test_messages_have_a_bound(serve, stubs):  # noqa: F811
    server = serve("--set", "limits.max_body=1MiB", model=DEMO)
    stub, pb = stub_of(server, stubs), stubs[0]
    assert stub.Tokenize(pb.TokenizeRequest(text="a " * 400_000)).ids
    with pytest.raises(grpc.RpcError) as error:
        stub.Chat(chat_request(pb, [{"role": "user", "content": "a " * 600_000}]))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    before = peak_memory(server)
    with pytest.raises(grpc.RpcError) as error:  # 200 KB on the wire
        stub.Tokenize(
            pb.TokenizeRequest(text="a" * 200_000_000), compression=grpc.Compression.Gzip
        )
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert peak_memory(server) < before + 50_000_000
    assert stub.Tokenize(pb.TokenizeRequest(text="still here")).ids


def test_structural_tags_and_allowed_tools(stub, stubs):  # noqa: F811
    pb = stubs[0]
    form = {"type": "structural_tag", "triggers": ["<"], "structures": [
        {"begin": "<n>", "schema": {"type": "integer", "minimum": 0, "maximum": 9}, "end": "</n>"}]}
    one = {"type": "structural_tag", "format": {"type": "tag", "begin": "<n>", "content": {
        "type": "regex", "pattern": "[0-9]"}, "end": "</n>"}}
    ask = dict(model="demo", messages=[pb.ChatMessage(role="user", content="Hi")], max_tokens=20)
    answer = stub.Chat(pb.ChatRequest(**ask, response_format=json.dumps(one)))
    assert re.fullmatch("<n>[0-9]</n>", answer.choices[0].message.content)
    assert stub.Chat(pb.ChatRequest(**ask, structured_outputs=json.dumps({"structural_tag": form}))).choices
    with pytest.raises(grpc.RpcError) as refused:
        stub.Chat(pb.ChatRequest(**ask, response_format=json.dumps({**form, "triggers": ["x"]})))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "response_format.structures[0].begin" in refused.value.details()
    tool = json.dumps({"type": "function", "function": {"name": "f"}})
    other = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
        {"type": "function", "function": {"name": "g"}}]}}
    with pytest.raises(grpc.RpcError) as refused:
        stub.Chat(pb.ChatRequest(**ask, tools=[tool], tool_choice=json.dumps(other)))
    assert '"g"' in refused.value.details()
