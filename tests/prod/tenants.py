"""Tenants: limits that are taken before and settled after, their part of the cache, and turns under a flood."""

import json
import subprocess
import tempfile
import time

from rig import BINARY, LONG, LONG_QUEUE, ROOT, expect, run, serving

DEMO = str(ROOT / "models/demo")


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {
        "server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "models": {"demo": {"path": DEMO}, "other": {"path": DEMO}},
        "engine": {"max_batch": 8, "max_queue": LONG_QUEUE, "threads": 1},
        "tenants": {
            "*": {"models": ["demo"]},
            "few": {"rpm": 3},
            "small": {"tpm": 200},
            "one": {"parallel": 1},
            "rpc": {"rpm": 1},
            "budget": {"budget": {"tokens": 60, "per": "1000h"}},
            "silent": {"budget": {"tokens": 1300, "per": "1000h"}},
            "brief": {"tpm": 400},
            "both": {"models": []},
            "team-a": {"cache": "shared:team"},
            "team-b": {"cache": "shared:team"},
            "alone": {"cache": "off"},
            "behind": {"priority": 5},
        },
    }


def complete(server, key, text="Once upon a time", tokens=4, **more):
    connection = server.connect()
    body = {"model": "demo", "prompt": text, "max_tokens": tokens, "temperature": 0, **more}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def cached(server, key, text):
    status, _, body = complete(server, key, text)
    expect(status == 200, body)
    return json.loads(body)["usage"]["prompt_tokens_details"]["cached_tokens"]


def limits(server, keys):
    codes = [complete(server, keys["few"]) for _ in range(4)]
    expect([c[0] for c in codes] == [200, 200, 200, 429], [c[0] for c in codes])
    left = [c[1].get("x-ratelimit-remaining-requests") for c in codes[:3]]
    expect(left == ["2", "1", "0"], left)
    expect(codes[0][1]["x-ratelimit-limit-requests"] == "3", codes[0][1])
    expect(1 <= int(codes[3][1]["Retry-After"]) <= 20 and "rpm" in codes[3][2], codes[3])
    expect(codes[3][1]["x-ratelimit-remaining-requests"] == "0" and codes[3][1]["x-ratelimit-limit-requests"] == "3"
           and "x-ratelimit-reset-requests" in codes[3][1], "a refusal says what is left", codes[3][1])
    expect(complete(server, keys["plain"])[0] == 200, "another tenant is not held up")
    wait = int(codes[3][1]["Retry-After"])
    if wait <= 20:
        time.sleep(wait)
        expect(complete(server, keys["few"])[0] == 200, "Retry-After is honest")

    status, _, body = complete(server, keys["small"], tokens=500)
    expect(status == 400 and "tpm" in body, body)  # never
    status, headers, body = complete(server, keys["small"], tokens=150)
    used = json.loads(body)["usage"]["total_tokens"]
    expect(status == 200 and headers["x-ratelimit-limit-tokens"] == "200", headers)
    status, headers, body = complete(server, keys["small"], tokens=150)
    if used > 60:
        expect(status == 429 and "tpm" in body, status, body, used)
    expect(complete(server, keys["budget"], tokens=20)[0] == 200, "the budget is there")
    for _ in range(3):
        status, _, body = complete(server, keys["budget"], tokens=30, ignore_eos=True)
    expect(status == 429 and "budget" in body, status, body)


def unnamed(server, keys):
    """Whoever names no max_tokens takes no more than was reserved, and nobody more than the budget."""
    def chat(tenant, **more):
        body = {"model": "demo", "messages": [{"role": "user", "content": "a"}], "ignore_eos": True, **more}
        status, text = server.call("POST", "/v1/chat/completions", body, keys[tenant])
        return status, json.loads(text)

    def budget_used(tenant):
        done = run(BINARY, "admin", "usage", "--tenant", tenant, "--json", "--config", server.config_path)
        return json.loads(done.stdout)["usage"][0]["budget_used"]

    status, body = chat("brief")
    expect(status == 200 and body["choices"][0]["finish_reason"] == "length", status, body)
    expect(body["usage"]["total_tokens"] == 400, "all that the limit can give, and no more", body["usage"])
    status, body = chat("silent", max_completion_tokens=1500)
    expect(status == 400 and "budget.tokens" in body["error"]["message"], "more than there ever is", status, body)
    status, body = chat("silent")
    expect(status == 200 and body["usage"]["completion_tokens"] == 1024, status, body["usage"])
    status, body = chat("silent")
    expect(status == 429 and "budget" in body["error"]["message"], "what is left is less", status, body)
    left = 1300 - budget_used("silent")
    status, body = chat("silent", max_completion_tokens=left)
    expect(status == 429, "and not enough for the prompt", status, body)
    status, body = chat("silent", max_tokens=left - 60)
    expect(status == 200 and budget_used("silent") <= 1300, status, body, budget_used("silent"))
    status, body = chat("plain")
    expect(status == 200 and body["usage"]["completion_tokens"] > 1024, "without limits, to the context's end", status)


def parallel(server, keys):
    connection = server.begin({**LONG, "stream": True}, keys["one"])
    answer = connection.getresponse()
    expect(answer.status == 200 and answer.readline().startswith(b"data: "), answer.status)
    for _ in range(3):
        status, _, body = complete(server, keys["one"])
        expect(status == 429 and "parallel" in body, "one at a time", status, body)
    answer.close()
    connection.close()
    server.wait(lambda: complete(server, keys["one"])[0] == 200, "it is given back")


def models(server, keys):
    status, _, body = complete(server, keys["plain"], model="other")
    expect(status == 404 and "does not exist" in body, status, body)
    expect(complete(server, keys["both"], model="other")[0] == 200, "its own list")
    listed = {t: [m["id"] for m in json.loads(server.call("GET", "/v1/models", credential=keys[t])[1])["data"]]
              for t in ("plain", "both")}
    expect(listed == {"plain": ["demo"], "both": ["demo", "other"]}, listed)
    expect(server.call("GET", "/v1/models/other", credential=keys["plain"])[0] == 404, "get")
    expect(server.call("POST", "/tokenize", {"model": "other", "prompt": "a"}, keys["plain"])[0] == 404, "tokenize")


def cache(server, keys):
    text = "A story of a king and his three sons who went out to see the world. " * 6
    expect(cached(server, keys["plain"], text) == 0, "nobody has asked before")
    expect(cached(server, keys["plain"], text) > 0, "its own prefix is found")
    expect(cached(server, keys["both"], text) == 0, "another's is not")
    expect(cached(server, keys["team-a"], text) == 0, "a team of its own")
    expect(cached(server, keys["team-b"], text) > 0, "shared in the team")
    expect(cached(server, keys["alone"], text) == 0 == cached(server, keys["alone"], text), "off")


def load(server, key, *scenario):
    command = [BINARY, "bench", "serve", "--target", f"127.0.0.1:{server.port}", "--api-key", key, "--quiet",
               "--allow-busy-generator"]
    for assignment in ("model=demo", "prompt_words=4", *scenario):
        command += ["--set", assignment]
    return command


def first_tokens(server, key, count=60):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = load(server, key, f"requests={count}", "concurrency=1", "max_tokens=8")
        done = run(*command, "--output", out.name)
        expect(done.returncode == 0, done.stdout, done.stderr)
        result = json.load(open(out.name))["runs"][0]["result"]
        expect(result["ok"] == count, result)
        return result["ttft_seconds"]


def flood(server, keys, tenant, other, solo):
    """First tokens of `other` while `tenant` has forty requests at the door."""
    command = load(server, keys[tenant], "requests=1000000", "concurrency=40", "max_tokens=60")
    crowd = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        server.wait(lambda: server.metric("vllm:num_requests_waiting") > 20, "a flood")
        mine = first_tokens(server, keys[other])
        theirs = first_tokens(server, keys[tenant], 10)  # each waits behind forty
        expect(crowd.poll() is None, "the flood has ended")
    finally:
        crowd.kill()
        crowd.wait()
    print(f"first token of {other} beside a flood of {tenant}: median {mine['p50'] * 1e3:.1f} ms (alone"
          f" {solo['p50'] * 1e3:.1f} ms), 95th percentile {mine['p95'] * 1e3:.1f} ms (alone"
          f" {solo['p95'] * 1e3:.1f} ms); of the flood itself {theirs['p50'] * 1e3:.1f} ms", flush=True)
    return mine["p50"], theirs["p50"]


def over_grpc(server, keys):
    """A refusal says over gRPC as well when to come again."""
    try:
        import grpc
    except ImportError:
        return print("no grpcio: gRPC is left out")
    body = b"\x0a\x04demo\x12\x01a"  # model, prompt
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for method in ("Generate", "GenerateStream"):
            kind = channel.unary_stream if method.endswith("Stream") else channel.unary_unary
            call = kind("/penstock.v1.Inference/" + method, request_serializer=lambda b: b,
                        response_deserializer=lambda b: b)
            complete(server, keys["rpc"])
            try:
                answer = call(body, metadata=(("authorization", "Bearer " + keys["rpc"]),), timeout=60)
                list(answer)
                expect(False, "admitted", method)
            except grpc.RpcError as error:
                expect(error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, method, error)
                trailing = dict(error.trailing_metadata())
                expect(1 <= int(trailing["retry-after"]) <= 60, method, trailing)


def reload(server, keys):
    expect(complete(server, keys["plain"])[0] == 200, "no limit yet")
    text = json.loads(server.config_path.read_text())
    text["tenants"]["plain"] = {"rpm": 1}
    server.config_path.write_text(json.dumps(text))
    server.wait(lambda: complete(server, keys["plain"])[0] == 429, "limited")


with serving(config) as server:
    names = ["few", "small", "one", "rpc", "budget", "silent", "brief", "both", "team-a", "team-b", "alone",
             "behind", "plain", "flood"]
    keys = {name: server.keys("create", "--tenant", name)["key"] for name in names}
    server.wait(lambda: complete(server, keys["flood"])[0] == 200, "keys are known")
    for part in (limits, unnamed, over_grpc, parallel, models, cache):
        print(part.__name__, flush=True)
        part(server, keys)
    solo = first_tokens(server, keys["plain"])
    mine, theirs = flood(server, keys, "flood", "plain", solo)
    expect(mine < theirs / 2, "tenants take turns", mine, theirs)
    mine, theirs = flood(server, keys, "behind", "plain", solo)
    expect(mine < theirs / 2, "lower priorities yield", mine, theirs)
    reload(server, keys)
