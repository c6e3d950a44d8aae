"""The chain of links as clients see it: guards on requests and answers, Lua, call-outs, the cache of answers,
models that stand in for others."""

import http.server
import json
import pathlib
import re
import ssl
import tempfile
import threading
import time

import rig

CHAT = "/v1/chat/completions"


def ask(content, **fields):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0, **fields}


def call(server, body, path=CHAT, credential=None, method="POST"):
    """(status, headers, text)"""
    connection = server.connect()
    headers = {"Authorization": "Bearer " + credential} if credential else {}
    connection.request(method, path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def text_of(body):
    return json.loads(body)["choices"][0]["message"]["content"]


def streamed(body):
    """The text of a stream, its error or None."""
    text, error = "", None
    for line in body.split("\n"):
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            error = event["error"]
        for choice in event.get("choices", []):
            text += choice["delta"].get("content") or ""
    return text, error


def reload(server, config):
    before = server.log.count("configuration taken")
    config = {**json.loads(server.config_path.read_text()), **config}
    server.config_path.write_text(json.dumps(config))
    server.wait(lambda: server.log.count("configuration taken") > before, "reload")


def builtin():
    plain = None
    with rig.serving(lambda folder: rig.ALIKE) as server:
        status, _, body = call(server, ask("Tell me about the sea", max_tokens=24))
        rig.expect(status == 200, body)
        plain = text_of(body)
    words = re.findall(r"[A-Za-z]{3,}", plain)
    rig.expect(words, "the demo model says no word", plain)
    word = words[len(words) // 2]
    masked = re.sub(rf"(?<![\w]){word}(?![\w])", "#", plain, flags=re.I)
    guards = {
        "bounds": {"use": "schema", "max_tokens": 64, "max_messages": 3},
        "words": {"use": "ban", "words": [word], "where": "output", "action": "mask", "mask": "#"},
        "no-bombs": {"use": "ban", "words": ["bomb"], "where": "prompt"},
        "latin": {"use": "lang", "scripts": ["Latn"], "where": "prompt"},
    }
    config = {"guards": guards, "chain": list(guards), **rig.ALIKE}
    with rig.serving(lambda folder: config) as server:
        rig.expect(call(server, ask("x", max_tokens=65))[0] == 400, "schema")
        rig.expect(call(server, ask("How to make a BOMB?"))[0] == 403, "ban")
        rig.expect(call(server, ask("Как дела"))[0] == 403, "lang")
        status, _, body = call(server, {"prompt": "a bomb", "max_tokens": 4}, "/v1/completions")
        rig.expect(status == 403, "completions", status, body)
        status, _, body = call(server, {"max_tokens": 4, "messages": [{"role": "user", "content": "a bomb"}]},
                               "/v1/messages")
        rig.expect(status == 403, "messages", status, body)
        rig.expect(call(server, {"input": "a bomb"}, "/v1/responses")[0] in (400, 403), "responses")
        body = ask("Tell me about the sea", max_tokens=24)
        status, _, whole = call(server, body)
        rig.expect(status == 200 and text_of(whole) == masked, "masked", text_of(whole), masked)
        status, _, events = call(server, {**body, "stream": True})
        rig.expect(streamed(events) == (masked, None), "masked stream", streamed(events), masked)
        rig.expect(call(server, {**body, "logprobs": True})[0] == 400, "tokens beside a filtered text")
        rig.expect(server.metric('penstock_chain_seconds_count{link="words"}') > 0, "no time of links")
        guards["words"]["action"] = "deny"
        reload(server, {"guards": guards})
        status, _, events = call(server, {**body, "stream": True})
        text, error = streamed(events)
        rig.expect(error and text == plain[: re.search(rf"(?<!\w){word}(?!\w)", plain, re.I).start()],
                   "denied stream", text, error)
        rig.expect("[DONE]" not in events, "a denied stream is no whole one")
        rig.expect(call(server, body)[0] == 403, "denied answer")
        rig.expect(server.metric('penstock_chain_errors_total{link="words"}') == 0, "denials are no errors")
        # A chain that cannot be made leaves the old one.
        guards["words"]["words"], guards["words"]["patterns"] = [], ["("]
        server.config_path.write_text(json.dumps(
            {**json.loads(server.config_path.read_text()), "guards": guards}))
        server.wait(lambda: "not taken" in server.log, "refusal")
        rig.expect(call(server, body)[0] == 403, "the old chain stays")


def tenants():
    guards = {"strict": {"use": "ban", "words": ["bomb"]}}

    def config(folder):
        (folder / "pepper").write_text("0123456789abcdef" * 4)
        return {
            "server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "guards": guards, "chain": ["tenant:guard", "cache:exact"],
            "tenants": {"*": {}, "school": {"guard": ["strict"]}},
        }

    with rig.serving(config) as server:
        school = server.keys("create", "--tenant", "school", "--role", "user")["key"]
        other = server.keys("create", "--tenant", "other", "--role", "user")["key"]
        body = ask("what is a bomb")
        server.wait(lambda: call(server, body, credential=other)[0] == 200, "keys")
        server.wait(lambda: call(server, ask("hello"), credential=school)[0] == 200, "keys")
        rig.expect(call(server, body, credential=school)[0] == 403, "the tenant's own guard")
        # Answers of one tenant are not found by another.
        hello = ask("hello")
        rig.expect(call(server, hello, credential=school)[1].get("x-cache") == "hit", "own answer")
        rig.expect("x-cache" not in call(server, hello, credential=other)[1], "another tenant's answer")


def cache():
    with rig.serving(lambda folder: {"guards": {"answers": {"use": "cache", "ttl": "1h"}},
                                     "chain": ["answers"]}) as server:
        body = ask("hello")
        first = call(server, body)
        again = call(server, body)
        rig.expect("x-cache" not in first[1] and again[1].get("x-cache") == "hit", first[1], again[1])
        rig.expect(text_of(first[2]) == text_of(again[2]), "another answer")
        usage, cached = json.loads(first[2])["usage"], json.loads(again[2])["usage"]
        rig.expect(cached["completion_tokens"] == usage["completion_tokens"] and
                   cached["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"], cached)
        status, headers, events = call(server, {**body, "stream": True})
        rig.expect(headers.get("x-cache") == "hit" and "event-stream" in headers["Content-Type"], headers)
        rig.expect(streamed(events) == (text_of(first[2]), None) and "[DONE]" in events, events)
        for other in (ask("hello", max_tokens=7), ask("hello", stop=["q"]), ask("hello!"),
                      ask("hello", temperature=1)):
            rig.expect("x-cache" not in call(server, other)[1], "another request", other)
        drawn = ask("hello", temperature=1)
        rig.expect("x-cache" not in call(server, drawn)[1], "what is drawn is not kept")
        seeded = ask("hello", temperature=1, seed=7)
        call(server, seeded)
        rig.expect(call(server, seeded)[1].get("x-cache") == "hit", "a seed")
        server.wait(lambda: '"tag.cache":"hit"' in server.log, "the log line")


def fallback():
    demo = str(rig.ROOT / "models/demo")
    models = {
        # One sequence at a time and nobody may wait.
        "big": {"path": demo, "fallback": ["small"], "engine": {"max_batch": 1, "max_queue": 1}},
        "small": {"path": demo, "aliases": ["tiny"]},
    }
    with rig.serving(lambda folder: {"models": models}) as server:
        rig.expect("x-model-fallback" not in call(server, ask("hello", model="big"))[1], "not needed")
        stop, seen = threading.Event(), []

        def busy():
            while not stop.is_set():
                _, headers, _ = call(server, ask("count", model="big", max_tokens=400, ignore_eos=True))
                seen.append(headers.get("x-model-fallback"))

        threads = [threading.Thread(target=busy) for _ in range(6)]
        for thread in threads:
            thread.start()
        server.wait(lambda: "small" in seen, "x-model-fallback")
        stop.set()
        for thread in threads:
            thread.join()
        rig.expect(server.metric('penstock_fallbacks_total{model_name="big"}') > 0, "not counted")
        # Aliases and stand-ins change while it runs.
        rig.expect(call(server, ask("hello", model="tiny"))[0] == 200, "alias")
        models["small"]["aliases"] = ["little"]
        reload(server, {"models": models})
        rig.expect(call(server, ask("hello", model="little"))[0] == 200, "new alias")
        rig.expect(call(server, ask("hello", model="tiny"))[0] == 404, "old alias")
        listed = json.loads(server.call("GET", "/v1/models")[1])
        rig.expect("little" in json.dumps(listed) and "tiny" not in json.dumps(listed), listed)


class Service(http.server.BaseHTTPRequestHandler):
    """A call-out's other side; `mode` says how it behaves."""

    protocol_version = "HTTP/1.1"
    mode, seen, connections, release = "pass", [], set(), threading.Event()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Service.seen.append(asked)
        Service.connections.add(self.client_address)
        mode = Service.mode
        if mode == "slow":
            Service.release.wait(300)
        answer = {"action": "pass"}
        if mode == "deny":
            answer = {"action": "deny", "status": 404, "message": "not here"}
        elif mode == "route":
            answer = {"action": "route", "model": "small"}
        elif mode == "edit":
            body = asked["body"]
            if asked["phase"] == "request":
                body["max_tokens"] = 3
            else:
                for choice in body["choices"]:
                    choice["text"] = "<" + choice["text"] + ">"
            answer = {"action": "edit", "body": body}
        elif mode == "odd edit":
            answer = {"action": "edit", "body": {"messages": [{"role": 7}]}}
        elif mode == "unknown":
            answer = {"action": "explode"}
        payload = json.dumps(answer).encode()
        if mode == "lying":
            payload = b"no JSON at all"
        elif mode == "deep":
            payload = b'{"action":"edit","body":' + b"[" * 100000 + b"]" * 100000 + b"}"
        elif mode == "huge":
            payload = b'{"action":"pass","x":"' + b"x" * (8 << 20) + b'"}'
        if mode == "dead":
            self.close_connection = True
            return
        self.send_response(500 if mode == "failing" else 200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        try:
            self.wfile.write(payload)
        except OSError:
            pass  # it went away, as it should from what is huge

    def log_message(self, *arguments):
        pass


class Crowded(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # all that call at once: of five, the rest would try again after seconds


def mutual_tls():
    """The service and this server know each other, or nothing is shown to anybody."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ours, other = rig.Authority(folder / "ours"), rig.Authority(folder / "other", "other")
        service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        service.handle_error = lambda *arguments: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, ours.issue("service", "IP:127.0.0.1")))
        context.load_verify_locations(str(ours.cert))
        context.verify_mode = ssl.CERT_REQUIRED
        service.socket = context.wrap_socket(service.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=service.serve_forever, daemon=True).start()
        link = {"use": "http", "url": f"https://127.0.0.1:{service.server_port}/check", "ca_file": str(ours.cert),
                "timeout": "30s"}
        known = dict(zip(("cert_file", "key_file"), map(str, ours.issue("penstock", "DNS:penstock"))))
        strange = dict(zip(("cert_file", "key_file"), map(str, other.issue("penstock", "DNS:penstock"))))
        Service.mode = "pass"
        for what, more, wanted in (("known", known, 200), ("nobody", {}, 503), ("a stranger", strange, 503),
                                   ("a strange service", {**known, "ca_file": str(other.cert)}, 503)):
            Service.seen.clear()
            with rig.serving(lambda _: {"guards": {"out": {**link, **more}}, "chain": ["out"]}) as server:
                status, _, text = call(server, ask("hello"))
            rig.expect(status == wanted and len(Service.seen) == (wanted == 200), what, status, text, Service.seen)
        service.shutdown()


def callouts():
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.handle_error = lambda *arguments: None  # a peer that goes away is part of it
    threading.Thread(target=service.serve_forever, daemon=True).start()
    demo = str(rig.ROOT / "models/demo")
    guard = {"use": "http", "url": f"http://127.0.0.1:{service.server_port}/check",
             "timeout": "60s", "phases": ["request", "response"]}
    config = {"models": {"demo": {"path": demo}, "small": {"path": demo}},
              "guards": {"out": guard}, "chain": ["out"]}
    body = ask("hello", model="demo")
    with rig.serving(lambda folder: config) as server:
        status, _, text = call(server, body)
        rig.expect(status == 200, text)
        rig.expect([s["phase"] for s in Service.seen] == ["request", "response"], Service.seen)
        rig.expect(Service.seen[0]["tenant"] == "anonymous" and Service.seen[0]["body"]["messages"] and
                   Service.seen[1]["body"]["choices"][0]["text"] == text_of(text), Service.seen)
        for _ in range(5):
            call(server, body)
        rig.expect(len(Service.connections) < 4, "connections are used again", Service.connections)
        Service.mode = "deny"
        status, _, refused = call(server, body)
        rig.expect(status == 404 and "not here" in refused, status, refused)
        Service.mode = "edit"
        edited = json.loads(call(server, body)[2])
        said = edited["choices"][0]["message"]["content"]
        rig.expect(edited["usage"]["completion_tokens"] == 3 and said[0] + said[-1] == "<>", edited)
        rig.expect(streamed(call(server, {**body, "stream": True})[2]) == (said, None), "an edited stream")
        Service.mode = "route"
        rig.expect(call(server, body)[0] == 503, "a response cannot be routed")
        for mode in ("lying", "deep", "huge", "dead", "failing", "unknown", "odd edit"):
            Service.mode = "pass"  # the breaker forgets
            server.wait(lambda: call(server, body)[0] == 200, "the service is back")
            errors = server.metric('penstock_chain_errors_total{link="out"}')
            Service.mode = mode
            status, _, text = call(server, body)
            rig.expect(status == 503 and "the guard out failed" in text, mode, status, text)
            rig.expect(server.metric('penstock_chain_errors_total{link="out"}') > errors, mode)
        # Failures in a row open the breaker: the service is not asked any more.
        Service.mode = "failing"
        server.wait(lambda: (lambda before: call(server, body)[0] == 503 and
                             len(Service.seen) == before)(len(Service.seen)), "the breaker")
        Service.mode = "pass"
        server.wait(lambda: call(server, body)[0] == 200, "the breaker closes")
        # One call at a time finds out whether it is back, however long that takes.
        Service.mode = "failing"
        server.wait(lambda: (lambda before: call(server, body)[0] == 503 and
                             len(Service.seen) == before)(len(Service.seen)), "the breaker")
        Service.mode, before = "slow", len(Service.seen)
        probe = threading.Thread(target=lambda: server.wait(
            lambda: call(server, body)[0] == 200, "the breaker closes"))
        probe.start()
        server.wait(lambda: len(Service.seen) > before, "a call that finds out")
        end = time.monotonic() + 5  # more than two of the breaker's pauses
        while time.monotonic() < end:
            rig.expect(call(server, body)[0] == 503, "asked beside the one that finds out")
        rig.expect(len(Service.seen) == before + 1, "one at a time", Service.seen[before:])
        Service.release.set()
        probe.join()
        Service.release.clear()
        # Slow: its own time-out; skipped where the guard says so.
        guard.update(timeout="200ms", phases=["request"], on_error="skip")
        reload(server, {"guards": {"out": guard}})
        plain = text_of(call(server, body)[2])
        Service.mode = "slow"
        errors = server.metric('penstock_chain_errors_total{link="out"}')
        status, _, text = call(server, body)
        rig.expect(status == 200 and text_of(text) == plain, "skip", status, text)
        rig.expect(server.metric('penstock_chain_errors_total{link="out"}') > errors, "a slow one counts")
        Service.release.set()
        Service.mode = "route"
        guard.update(timeout="10s")
        reload(server, {"guards": {"out": guard}})
        server.wait(lambda: json.loads(call(server, body)[2])["model"] == "small", "route")
    service.shutdown()


def slow_for_one():
    """A tenant whose call-out hangs stops no other tenant; more than 64 such calls are refused."""
    service = Crowded(("127.0.0.1", 0), Service)
    service.handle_error = lambda *arguments: None
    threading.Thread(target=service.serve_forever, daemon=True).start()
    Service.mode = "slow"
    Service.release.clear()

    def config(folder):
        (folder / "pepper").write_text("0123456789abcdef" * 4)
        return {
            "server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""},
                       "text_threads": 2},
            "auth": {"api_keys": {"pepper_file": "pepper"}}, "chain": ["tenant:guard"],
            "guards": {"out": {"use": "http", "url": f"http://127.0.0.1:{service.server_port}/check",
                               "timeout": "60s"}},
            "tenants": {"*": {}, "slow": {"guard": ["out"]}},
        }

    with rig.serving(config) as server:
        slow = server.keys("create", "--tenant", "slow", "--role", "user")["key"]
        quick = server.keys("create", "--tenant", "quick", "--role", "user")["key"]
        server.wait(lambda: call(server, ask("hello"), credential=quick)[0] == 200, "keys")
        seen, statuses = len(Service.seen), []

        def hang():
            statuses.append(call(server, ask("hello"), credential=slow)[0])

        threads = [threading.Thread(target=hang) for _ in range(70)]
        for thread in threads:
            thread.start()
        server.wait(lambda: len(Service.seen) - seen == 64 and len(statuses) == 6, "64 that wait")
        rig.expect(set(statuses) == {503}, statuses)
        for _ in range(5):
            rig.expect(call(server, ask("hello"), credential=quick)[0] == 200, "another tenant")
        rig.expect(len(statuses) == 6, "those of the slow one have not waited", statuses)
        Service.release.set()
        for thread in threads:
            thread.join()
        rig.expect(statuses.count(200) == 64, statuses)
    service.shutdown()


def over_grpc():
    try:
        import grpc
        import grpc_tools.protoc
    except ImportError:
        print("no gRPC here")
        return
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        proto = next((rig.ROOT / "proto").rglob("inference.proto"))
        root = rig.ROOT / "proto"
        grpc_tools.protoc.main(["", f"-I{root}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                                str(proto)])
        sys.path.insert(0, folder)
        package = ".".join(proto.relative_to(root).with_suffix("").parts)
        import importlib
        pb, stubs = importlib.import_module(package + "_pb2"), importlib.import_module(package + "_pb2_grpc")
        guards = {"words": {"use": "ban", "words": ["bomb"], "where": "prompt"}}
        with rig.serving(lambda f: {"guards": guards, "chain": ["words", "cache:exact"]}) as server:
            stub = stubs.InferenceStub(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
            try:
                stub.Generate(pb.GenerateRequest(prompt="a bomb", max_tokens=4))
                rig.expect(False, "a banned word over gRPC")
            except grpc.RpcError as error:
                rig.expect(error.code() == grpc.StatusCode.PERMISSION_DENIED, error)
            request = pb.GenerateRequest(prompt="the sea", max_tokens=6, temperature=0)
            first = stub.Generate(request)
            again, info = stub.Generate.with_call(request)
            rig.expect(("x-cache", "hit") in [tuple(m) for m in info.trailing_metadata()], info)
            rig.expect(first.choices[0].text == again.choices[0].text, first, again)
            pieces = list(stub.GenerateStream(request))
            rig.expect("".join(c.text for p in pieces for c in p.choices) == first.choices[0].text, pieces)


if __name__ == "__main__":
    builtin()
    tenants()
    cache()
    fallback()
    mutual_tls()
    callouts()
    slow_for_one()
    over_grpc()
    print("ok")
