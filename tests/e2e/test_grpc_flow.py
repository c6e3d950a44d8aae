"""gRPC clients that read slowly, and messages that are cut off, made up or too large."""

import random

import grpc
import pytest
from conftest import few
from test_grpc import stub_of, stubs  # noqa: F401  (a fixture)

METHODS = ("Generate", "GenerateStream", "Chat", "ChatStream", "Embed", "Tokenize", "Detokenize", "ListModels",
           "GetModel")
# What a slow reader has not read stays at the server, but for what HTTP/2 lets it send ahead.
NARROW = [("grpc.http2.lookahead_bytes", 65536), ("grpc.http2.bdp_probe", 0)]


def idle(server):
    return server.metric("vllm:num_requests_running") == 0 and server.metric("vllm:kv_cache_usage_perc") == 0


def large(pb):
    """A stream of megabytes: log-probs are most of it."""
    return pb.GenerateRequest(prompt="Once", max_tokens=few(1900), n=4, temperature=0, ignore_eos=True, logprobs=20)


def text_of(call):
    return "".join(choice.text for piece in call for choice in piece.choices)


def pieces_of(call):
    texts = {}
    for piece in call:
        for choice in piece.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return texts


def test_a_slow_reader_stalls_only_itself(serve, stubs):  # noqa: F811
    server = serve("--set", "limits.stream_buffer=16KiB", "--set", "limits.write_stall=2s")
    pb = stubs[0]
    small = pb.GenerateRequest(prompt="The sea", max_tokens=12, temperature=0, ignore_eos=True)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=NARROW) as channel:
        same, other = stubs[1].InferenceStub(channel), stub_of(server, stubs)
        alone = text_of(other.GenerateStream(small))
        slow = same.GenerateStream(large(pb))
        next(slow)
        while server.metric("penstock_cancelled_total", reason="slow_reader") == 0:
            for stub in (same, other):
                assert text_of(stub.GenerateStream(small, timeout=60)) == alone
                assert stub.Generate(small, timeout=60).choices[0].text == alone
        with pytest.raises(grpc.RpcError) as cut:
            text_of(slow)
        assert cut.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "too slowly" in cut.value.details()
        server.until(lambda: idle(server))
        assert text_of(same.GenerateStream(small)) == alone


def test_a_reader_that_pauses_loses_nothing(serve, stubs):  # noqa: F811
    # Four megabytes of pieces, of which one waits for the reader; the tokens of the rest do.
    server = serve("--set", "limits.stream_buffer=1MiB", "--set", "limits.write_stall=1h")
    pb = stubs[0]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=NARROW) as channel:
        stub = stubs[1].InferenceStub(channel)
        whole = {c.index: c.text for c in stub.Generate(large(pb)).choices}
        slow = stub.GenerateStream(large(pb))
        first = next(slow)
        # The engine goes on to the end by itself: it never waits for a reader.
        server.until(lambda: idle(server), seconds=120)
        texts = pieces_of([first, *slow])
        assert texts == whole and len(texts) == 4


def bytes_methods(channel):
    """Method -> a function that sends bytes as they are and gives the status."""
    def call(name):
        kind = channel.unary_stream if name.endswith("Stream") else channel.unary_unary
        method = kind(f"/penstock.v1.Inference/{name}", request_serializer=bytes, response_deserializer=bytes)

        def send(message):
            try:
                answer = method(message, timeout=60)
                if name.endswith("Stream"):
                    list(answer)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""
        return send
    return {name: call(name) for name in METHODS}


def test_messages_that_are_cut_off_are_refused(demo, stubs):  # noqa: F811
    pb, code = stubs[0], grpc.StatusCode
    refused = demo.metric("penstock_requests_total", code="400")
    with grpc.insecure_channel(f"127.0.0.1:{demo.grpc_port}") as channel:
        methods = bytes_methods(channel)
        wholes = {
            "Generate": pb.GenerateRequest(prompt="The sea", max_tokens=2, temperature=0.5, stop=["q"]),
            "GenerateStream": pb.GenerateRequest(prompt="The sea", max_tokens=2, temperature=0.5, stop=["q"]),
            "Chat": pb.ChatRequest(messages=[pb.ChatMessage(role="user", content="Hi")], max_tokens=2),
            "ChatStream": pb.ChatRequest(messages=[pb.ChatMessage(role="user", content="Hi")], max_tokens=2),
            "Tokenize": pb.TokenizeRequest(text="The old house"),
            "Detokenize": pb.DetokenizeRequest(ids=[300, 301, 302]),
            "GetModel": pb.GetModelRequest(model="demo"),
        }
        unread = 0
        for name, message in wholes.items():
            wire = message.SerializeToString()
            assert methods[name](wire)[0] == code.OK
            for length in range(len(wire)):
                try:
                    type(message).FromString(wire[:length])
                    readable = True  # cut between two fields: a smaller message
                except Exception:  # noqa: BLE001  (protobuf's implementations raise their own)
                    readable = False
                got, details = methods[name](wire[:length])
                if readable:
                    assert got in (code.OK, code.INVALID_ARGUMENT), (name, length, got, details)
                else:
                    assert got == code.INVALID_ARGUMENT and "protobuf" in details, (name, length, got, details)
                    unread += 1
        drawn = random.Random(7)
        for name, send in methods.items():
            for size in (1, 3, 17, 300):
                got, details = send(drawn.randbytes(size))
                assert got in (code.OK, code.INVALID_ARGUMENT, code.NOT_FOUND), (name, size, got, details)
            # A length that goes on for ever, a text that is no UTF-8, a group that never ends.
            for wire in (b"\x0a" + b"\xff" * 9 + b"\x7f", b"\x0a\x02\xff\xfe", b"\x0b" * 200, b"\xff" * 50):
                assert send(wire)[0] in (code.INVALID_ARGUMENT, code.OK), (name, wire)
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/penstock.v1.Inference/Nothing", bytes, bytes)(b"")
        assert unknown.value.code() == code.UNIMPLEMENTED
    assert unread > 50
    assert demo.metric("penstock_requests_total", code="400") >= refused + unread
    demo.until(lambda: idle(demo))
    assert stub_of(demo, stubs).Generate(wholes["Generate"]).choices


def test_messages_beyond_the_bound_are_refused_and_those_within_are_not(serve, stubs):  # noqa: F811
    server = serve("--set", "limits.max_body=256KiB")
    pb, code = stubs[0], grpc.StatusCode
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        methods = bytes_methods(channel)
        assert methods["Tokenize"](pb.TokenizeRequest(text="a " * 120_000).SerializeToString())[0] == code.OK
        for name, send in methods.items():
            if name in ("ListModels", "GetModel"):
                continue  # nothing is made of what they are sent
            # A field that nobody knows counts as well; far beyond, gRPC reads no further.
            for size in (300_000, 3_000_000):
                length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
                got, details = send(b"\xfa\x3f" + length + b"x" * size)
                assert got == code.RESOURCE_EXHAUSTED and str(size)[:1] in details, (name, size, got, details)
        assert methods["Generate"](pb.GenerateRequest(prompt="x", max_tokens=1).SerializeToString())[0] == code.OK
