"""Generated stubs of grpcio-tools against the demo model."""

import pathlib
import signal
import subprocess
import sys
import urllib.error

import grpc
import pytest
from conftest import DEMO, MANY, ROOT
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from lora_adapters import make_adapter


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """(messages, services), generated from the .proto as a user would."""
    out = tmp_path_factory.mktemp("stubs")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{ROOT}/proto/penstock/v1",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            "inference.proto",
        ],
        check=True,
    )
    sys.path.insert(0, str(out))
    import inference_pb2
    import inference_pb2_grpc

    return inference_pb2, inference_pb2_grpc


def stub_of(server, stubs):
    return stubs[1].InferenceStub(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))


def test_adapters_are_models(serve, stubs, tmp_path):
    make_adapter(tmp_path / "one", 1)
    server = serve("--lora", f"one={tmp_path}/one")
    stub, pb = stub_of(server, stubs), stubs[0]
    models = stub.ListModels(pb.ListModelsRequest()).models
    assert [(m.id, m.parent) for m in models] == [("demo", ""), ("one", "demo")]
    assert stub.GetModel(pb.GetModelRequest(model="one")).parent == "demo"
    texts = {
        name: stub.Generate(pb.GenerateRequest(
            model=name, prompt="The old house", max_tokens=32, temperature=0, ignore_eos=True))
        for name in ("demo", "one")
    }
    assert texts["one"].model == "one"
    assert texts["one"].choices[0].text != texts["demo"].choices[0].text


@pytest.fixture
def stub(demo, stubs):
    return stub_of(demo, stubs)


def test_lists_models(stub, stubs):
    models = stub.ListModels(stubs[0].ListModelsRequest()).models
    assert [m.id for m in models] == ["demo"] and models[0].max_model_len == 2048


def test_generates_what_http_generates(demo, stub, stubs):
    answer = stub.Generate(
        stubs[0].GenerateRequest(model="demo", prompt="The old house", max_tokens=20, temperature=0)
    )
    assert answer.choices[0].text and answer.usage.completion_tokens <= 20
    import json
    import urllib.request

    body = json.dumps({"prompt": "The old house", "max_tokens": 20, "temperature": 0}).encode()
    http = json.loads(urllib.request.urlopen(demo.url + "/v1/completions", body).read())
    assert http["choices"][0]["text"] == answer.choices[0].text


def test_streams_what_it_would_answer_at_once(stub, stubs):
    request = stubs[0].GenerateRequest(prompt="It was a dark night", max_tokens=40, temperature=0)
    whole = stub.Generate(request)
    pieces = list(stub.GenerateStream(request))
    assert "".join(c.text for p in pieces for c in p.choices) == whole.choices[0].text
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [c.finish_reason for p in pieces for c in p.choices if c.finish_reason]
    assert reasons == [whole.choices[0].finish_reason]


def test_names_the_field_that_is_wrong(stub, stubs):
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(stubs[0].GenerateRequest(prompt="x", temperature=7))
    assert (
        error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        and "temperature" in error.value.details()
    )
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(stubs[0].GenerateRequest(prompt="x", model="nope"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        list(stub.GenerateStream(stubs[0].GenerateRequest(prompt="x", n=1, best_of=2)))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "best_of" in error.value.details()


def test_a_trace_is_continued_and_bad_words_are_kept_out(demo, stub, stubs):
    trace = "4bf92f3577b34da6a3ce929d0e0e4737"
    request = stubs[0].GenerateRequest(prompt="The old house was", max_tokens=24, temperature=0)
    request.ignore_eos = True
    request.return_token_ids = True
    metadata = [("traceparent", f"00-{trace}-00f067aa0ba902b7-01"), ("x-request-id", "grpc-traced")]
    free, call = stub.Generate.with_call(request, metadata=metadata)
    echoed = dict(call.initial_metadata())["traceparent"].split("-")
    assert echoed[1] == trace and echoed[2] != "00f067aa0ba902b7"
    demo.until(lambda: any(line.get("request_id") == "grpc-traced" for line in demo.log_lines()))
    line = next(line for line in demo.log_lines() if line.get("request_id") == "grpc-traced")
    assert line["trace_id"] == trace and line["span_id"] == echoed[2]
    for token in free.choices[0].token_ids:
        text = stub.Detokenize(stubs[0].DetokenizeRequest(ids=[token])).text
        ask = stubs[0].TokenizeRequest(text=text, add_special_tokens=False)
        if list(stub.Tokenize(ask).ids) == [token]:
            break
    else:
        pytest.fail("no token that is a text of its own")
    request.bad_words.append(text)
    assert token not in stub.Generate(request).choices[0].token_ids


def test_a_deadline_is_the_requests_deadline(demo, stub, stubs):
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(
            stubs[0].GenerateRequest(prompt="Once", max_tokens=MANY, n=16, ignore_eos=True), timeout=0.05
        )
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    demo.until(
        lambda: demo.metric("vllm:num_requests_running") == 0
        and demo.metric("vllm:kv_cache_usage_perc") == 0
    )


def test_a_cancelled_call_frees_its_blocks(demo, stub, stubs):
    calls = [
        stub.GenerateStream(
            stubs[0].GenerateRequest(prompt="Once", max_tokens=MANY, ignore_eos=True)
        )
        for _ in range(8)
    ]
    for call in calls:
        next(call)
        call.cancel()
    demo.until(
        lambda: demo.metric("vllm:num_requests_running") == 0
        and demo.metric("vllm:kv_cache_usage_perc") == 0
    )


def health_of(server, service, channel=None):
    channel = channel or grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    except grpc.RpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_health_follows_the_names_and_the_life_of_the_server(serve, stubs, tmp_path):
    config = tmp_path / "penstock.yaml"
    text = "drain: {announce: 60s}\nmodels: {demo: {path: %s, aliases: [%s]}}\n"
    config.write_text(text % (DEMO, "one"))
    server = serve("--config", config, model=None)
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    assert [health_of(server, name, channel) for name in ("", "demo", "one", "two")] == ["SERVING"] * 3 + ["NOT_FOUND"]
    config.write_text(text % (DEMO, "two"))
    server.until(lambda: health_of(server, "two", channel) == "SERVING")
    assert health_of(server, "one", channel) == "NOT_SERVING"
    # Leaving: health says so at once, while calls are still taken.
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: health_of(server, "", channel) == "NOT_SERVING")
    assert health_of(server, "demo", channel) == "NOT_SERVING"
    request = stubs[0].GenerateRequest(prompt="a", max_tokens=1)
    assert stub_of(server, stubs).Generate(request, timeout=60).usage.completion_tokens == 1
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == -signal.SIGTERM


def test_health_and_reflection(demo):
    channel = grpc.insecure_channel(f"127.0.0.1:{demo.grpc_port}")
    for service in ("", "demo"):
        assert health_of(demo, service, channel) == "SERVING"
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    answer = next(
        reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
    )
    names = {s.name for s in answer.list_services_response.service}
    assert {"penstock.v1.Inference", "grpc.health.v1.Health"} <= names


def test_a_key_is_asked_for(serve, stubs):
    server = serve("--api-key", "s3cret")
    stub = stub_of(server, stubs)
    with pytest.raises(grpc.RpcError) as error:
        stub.ListModels(stubs[0].ListModelsRequest())
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert stub.ListModels(
        stubs[0].ListModelsRequest(), metadata=[("authorization", "Bearer s3cret")]
    ).models


def test_a_port_in_use(serve):
    server = serve()
    from test_lifecycle import fails, run

    fails(
        run("serve", DEMO, "--port", "0", "--grpc-port", str(server.grpc_port)),
        str(server.grpc_port),
    )


def test_many_streams_at_once(demo, stub, stubs):
    requests = [
        stubs[0].GenerateRequest(prompt="The king " * (1 + i % 7), max_tokens=10 + i, temperature=0)
        for i in range(24)
    ]
    alone = [stub.Generate(r).choices[0].text for r in requests]
    calls = [stub.GenerateStream(r) for r in requests]
    assert ["".join(c.text for p in call for c in p.choices) for call in calls] == alone
