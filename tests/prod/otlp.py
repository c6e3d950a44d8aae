"""Traces: spans at a collector that checks every field; collectors that are dead, slow or lie, which nobody notices."""

import json
import re
import socket
import time

from otlp_sink import Sink
from rig import QUIET, expect, serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def config(url, **observe):
    return lambda _: {
        "observe": {"log": "json", "otlp": url, **observe},
        "engine": {"threads": 1},
    }


def ask(server, trace=None, tokens=4, stream=False, path="/v1/completions", **more):
    body = {"model": "demo", "prompt": "Once upon", "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    headers = {"Content-Type": "application/json"}
    if trace:
        headers["traceparent"] = trace
    connection = server.connect()
    connection.request("POST", path, json.dumps({**body, **more}), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status, answer.getheader("traceparent"), text


def spans(server, sink, trace, count):
    server.wait(lambda: len(sink.of(trace)) >= count, f"{count} spans of {trace}: {sink.complaints}", 60)
    return {s["name"].split()[0]: s for s in sink.of(trace)}


def counts(server):
    page = server.call("GET", "/metrics")[1]
    found = re.finditer(r'^penstock_trace_spans_total\{outcome="(\w+)"\} (\S+)$', page, re.M)
    return {m[1]: float(m[2]) for m in found}


def requests_become_spans():
    sink = Sink()
    with serving(config(sink.url, trace_sample="0%", trace_slow="0s")) as server:
        began = time.time_ns()
        status, echoed, _ = ask(server, f"00-{TRACE}-{PARENT}-01")
        expect(status == 200 and re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", echoed), echoed)
        own = echoed.split("-")[2]
        found = spans(server, sink, TRACE, 4)
        expect(sorted(found) == ["decode", "prefill", "queue", "text_completion"], found)
        request = found["text_completion"]
        expect(request["id"] == own and request["parent"] == PARENT and request["kind"] == 2, request)
        expect(request["name"] == "text_completion demo" and request["flags"] == 1, request)
        expect(request["status"] == 0, request)
        said = request["attributes"]
        for key, value in {"gen_ai.operation.name": "text_completion",
                           "gen_ai.request.model": "demo",
                           "gen_ai.usage.output_tokens": 4, "gen_ai.response.finish_reasons": ["length"],
                           "http.response.status_code": 200}.items():
            expect(said.get(key) == value, key, said)
        expect(said["gen_ai.usage.input_tokens"] > 0, said)
        resource = request["resource"]
        expect(resource["service.name"] == "penstock" and resource["service.instance.id"], resource)
        expect(began - 1e9 < request["begin"] <= request["end"] < time.time_ns() + 1e9, request)
        for part in ("queue", "prefill", "decode"):
            inner = found[part]
            expect(inner["parent"] == own and inner["kind"] == 1, inner)
            expect(request["begin"] <= inner["begin"] <= inner["end"] <= request["end"], part, inner, request)
        expect(found["queue"]["end"] == found["prefill"]["begin"], found)
        expect(found["prefill"]["end"] == found["decode"]["begin"], found)
        expect(len({s["id"] for s in sink.of(TRACE)}) == 4, found)
        lines = [json.loads(line) for line in server.log.splitlines() if '"request"' in line]
        expect(any(line["trace_id"] == TRACE and line["span_id"] == own for line in lines), lines)

        # Somebody's mark says no; without anybody's the share, here 0 %, says no.
        ask(server, f"00-{'1' * 32}-{PARENT}-00")
        ask(server)
        # A chat, an embedding and a bad request in traces that are recorded: the last one never ran.
        chat = [{"role": "user", "content": "hello"}]
        ask(server, f"00-{'2' * 32}-{PARENT}-01", path="/v1/chat/completions", messages=chat, prompt=None)
        ask(server, f"00-{'3' * 32}-{PARENT}-01", tokens=-5)
        status, _, text = ask(server, f"00-{'4' * 32}-{PARENT}-01", model="x" * 100_000)
        expect(status == 404, status, text[:200])
        chat = spans(server, sink, "2" * 32, 4)
        expect(chat["chat"]["name"] == "chat demo", chat)
        for trace, code in (("3" * 32, 400), ("4" * 32, 404)):
            refused = spans(server, sink, trace, 1)["text_completion"]
            expect(refused["name"] == "text_completion" and refused["status"] == 0, refused)
            expect(refused["attributes"]["error.type"] == str(code), refused)
        expect(not sink.of("1" * 32) and {s["trace"] for s in sink.spans} == {TRACE, "2" * 32, "3" * 32, "4" * 32},
               sink.spans)
        expect(not sink.complaints, sink.complaints)
        server.wait(lambda: counts(server) == {"sent": 10, "dropped": 0, "failed": 0}, f"the count: {counts(server)}")
    sink.stop()


def the_chain_is_a_part():
    sink = Sink()
    chain = {"guards": {"words": {"use": "ban", "words": ["bomb"]}}, "chain": ["words"]}
    with serving(lambda folder: {**config(sink.url)(folder), **chain}) as server:
        own = ask(server, f"00-{TRACE}-{PARENT}-01")[1].split("-")[2]
        found = spans(server, sink, TRACE, 5)
        guard, request = found["guard"], found["text_completion"]
        expect(guard["parent"] == own and guard["kind"] == 1, guard)
        expect(request["begin"] == guard["begin"] < guard["end"] <= request["end"], guard, request)
    expect(not sink.complaints, sink.complaints)
    sink.stop()


def grpc_is_traced_too():
    try:
        import grpc
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
    except ImportError:
        print("gRPC's Python is not there: gRPC is left out")
        return
    sink = Sink()
    with serving(config(sink.url, trace_sample="0%")) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("penstock.v1.Inference")
        method = service.FindMethodByName("Generate")
        request = message_factory.GetMessageClass(method.input_type)(model="demo", prompt="Once")
        call = channel.unary_unary(f"/{service.full_name}/{method.name}",
                                   request_serializer=lambda m: m.SerializeToString(),
                                   response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
        _, done = call.with_call(request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")], timeout=60)
        echoed = dict(done.initial_metadata())["traceparent"]
        found = spans(server, sink, TRACE, 3)
        expect(found["text_completion"]["id"] == echoed.split("-")[2], echoed, found)
        expect(found["text_completion"]["parent"] == PARENT, found)
        expect(found["text_completion"]["attributes"]["network.protocol.name"] == "grpc", found)
        channel.close()
    expect(not sink.complaints, sink.complaints)
    sink.stop()


def a_share_is_sampled_and_slow_ones_always():
    sink = Sink()
    with serving(config(sink.url, trace_sample="50%", trace_slow="0s")) as server:
        flags = [ask(server, tokens=1)[1][-2:] for _ in range(60)]
        sampled = flags.count("01")
        expect(5 <= sampled <= 55 and set(flags) == {"00", "01"}, sampled)  # 1e-10 of being elsewhere
        server.wait(lambda: len({s["trace"] for s in sink.spans}) >= sampled, "all that are marked")
        expect(len({s["trace"] for s in sink.spans}) == sampled, sampled, len(sink.spans))
    expect(not sink.complaints, sink.complaints)
    sink.stop()
    sink = Sink()
    with serving(config(sink.url, trace_sample="0%", trace_slow="1ns")) as server:
        echoed = ask(server)[1]
        found = spans(server, sink, echoed.split("-")[1], 4)
        expect(echoed.endswith("-00") and found["text_completion"]["parent"] is None, found)
    expect(not sink.complaints, sink.complaints)
    sink.stop()


def slow(handler):
    time.sleep(30)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100_000):
        handler.wfile.write(b"x" * 4096)


def refusing(handler):
    handler.say(400, b'{"message": "no"}')


def lying(handler):
    handler.say(200, b'{"partialSuccess": {"rejectedSpans": "999999999999", "errorMessage": "\\u0000"}}')


def hanging_up(handler):
    handler.connection.close()


def bad_collectors_disturb_nobody():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        urls = {"dead": (f"http://127.0.0.1:{nobody.getsockname()[1]}", None),
                "no such host": ("http://h.invalid", None)}
        sinks = {f.__name__: Sink(f) for f in (slow, endless, refusing, lying, hanging_up)}
        urls |= {name: (sink.url, sink) for name, sink in sinks.items()}
        for name, (url, sink) in urls.items():
            with serving(config(url, trace_sample="100%")) as server:
                for _ in range(20):
                    status, _, text = ask(server, tokens=2)
                    expect(status == 200, name, status, text)
                server.wait(lambda: sink is None or sink.calls > 0, f"a call to the collector: {name}")
                if name in ("refusing", "lying"):
                    server.wait(lambda: counts(server)["failed"] >= 20, f"the count of {name}: {counts(server)}")
                    expect(counts(server)["sent"] == 0, name, counts(server))
                if name == "endless":
                    server.wait(lambda: counts(server)["sent"] >= 20, f"the count: {counts(server)}")
                if name != "endless":
                    server.wait(lambda: "does not take spans" in server.log, f"a line about it: {name}", 60)
                    expect(server.log.count("does not take spans") == 1, server.log)
                began = time.monotonic()
                server.stop()
                print(f"{name}: ended in {time.monotonic() - began:.1f} s")
            if sink:
                expect(not sink.complaints, name, sink.complaints)
                sink.stop()


def what_does_not_fit_is_counted():
    sink = Sink(slow)
    with serving(config(sink.url, trace_sample="100%")) as server:
        connection, made = server.connect(), 0
        body = json.dumps({"model": "demo", "prompt": "a", "max_tokens": -1})  # refused, which is quick

        def full():
            nonlocal made
            for _ in range(500):
                connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                expect(answer.status == 400, answer.status)
                made += 1
            return counts(server)["dropped"] > 0

        server.wait(full, "the queue full", 120)
        expect(made > 2048, made)
    sink.stop()


def what_is_queued_goes_out_at_the_end():
    for _ in range(1 if QUIET else 5):  # two seconds are all that it waits for a collector, of a busy machine too
        sink = Sink()
        with serving(config(sink.url, trace_sample="100%")) as server:
            made = {ask(server, tokens=1)[1].split("-")[1] for _ in range(10)}
            began = time.monotonic()
            server.stop()
            took = time.monotonic() - began
        sink.stop()
        if took < 2:
            break
    expect({s["trace"] for s in sink.spans} == made and not sink.complaints, sink.complaints, len(sink.spans), took)


requests_become_spans()
the_chain_is_a_part()
grpc_is_traced_too()
a_share_is_sampled_and_slow_ones_always()
bad_collectors_disturb_nobody()
what_does_not_fit_is_counted()
what_is_queued_goes_out_at_the_end()
print("traces hold")
