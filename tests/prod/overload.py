"""Twice what a server can do: the wait that it predicts is the wait that comes, and what it does for those whom it lets
in is as much as it can do. Then a tenant that floods, and what another one notices."""

import json
import statistics
import subprocess
import tempfile
import threading
import time

from rig import BINARY, expect, run, serving

BATCH = 4
PATIENCE, SLO = 0.8, 1.0  # seconds to the first token: by the server's clock, and by the client's, which has a wire


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {"server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "engine": {"max_batch": BATCH, "threads": 1, "speculation": {"method": "off"}},
            "observe": {"log": "json", "level": "warn"},
            "tenants": {"*": {}, "a": {}, "b": {}, "hasty": {"ttl": f"{int(PATIENCE * 1000)}ms"}}}


def first_piece(server, key, number, tokens):
    """Seconds until it comes; the answer is read to its end."""
    body = {"model": "demo", "prompt": f"Request {number} of many", "max_tokens": tokens, "ignore_eos": True,
            "stream": True}
    connection = server.connect()
    began, first, whole = time.monotonic(), None, False
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    for line in connection.getresponse():
        if first is None and line.startswith(b"data: {"):
            first = time.monotonic() - began
        whole |= line.startswith(b"data: [DONE]")
    connection.close()
    expect(whole, "a stream broke")
    return first


def predicted(server, key):
    """Of requests that come to a full queue: what the page said before, and what came."""
    pairs, stop, answered = [], threading.Event(), []

    def ask():
        while not stop.is_set():
            answered.append(first_piece(server, key, 0, 48))

    threads = [threading.Thread(target=ask) for _ in range(BATCH * 6)]
    for thread in threads:
        thread.start()
    try:
        server.wait(lambda: len(answered) > BATCH * 12, "a rate that can be known")
        for number in range(30):
            page = server.call("GET", "/metrics/lb", credential=key)[1]
            said = next(line for line in page.splitlines() if line.startswith("penstock_queue_predicted_wait"))
            pairs.append((float(said.split()[-1]), first_piece(server, key, number + 1, 1)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    error = statistics.median(abs(said - was) / was for said, was in pairs)
    print(f"waits of {statistics.median(was for _, was in pairs) * 1e3:.0f} ms, predicted with a median error of"
          f" {error:.2f}", flush=True)
    return error


def bench(server, key, *scenario):
    command = [BINARY, "bench", "serve", "--target", f"127.0.0.1:{server.port}", "--api-key", key, "--quiet",
               "--allow-busy-generator"]
    for assignment in ("model=demo", *scenario):
        command += ["--set", assignment]
    return command


def load(server, key, *scenario):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = run(*bench(server, key, *scenario), "--output", out.name)
        expect(done.returncode == 0, done.stdout, done.stderr)
        return json.load(open(out.name))["runs"][0]["result"]


def goodput(server, keys):
    """Of what it does when clients wait for each other, before and after, and twice as much comes than that."""
    def capacity():
        result = load(server, keys["b"], "requests=100", f"concurrency={BATCH * 2}", "prompt_words=30", "max_tokens=48")
        return result["requests_per_second"]

    before = capacity()
    result = load(server, keys["hasty"], f"requests={int(12 * before)}", f"rate={2 * before}", "prompt_words=30",
                  "max_tokens=48", f"goal_ttft={SLO}")
    done, good = (before + capacity()) / 2, result["good_requests_per_second"]
    print(f"{done:.1f} requests a second are done; of twice that {good:.1f} are, in time: {good / done:.2f}; "
          f"{result['ok']} answered, {result['failures']}", flush=True)
    expect(result["failures"].get("http_429", 0) > 0, "nobody is refused", result["failures"])
    return good / done


def first_token(server, key):
    """The 95th percentile."""
    result = load(server, key, "requests=60", "concurrency=2", "prompt_words=60", "max_tokens=16")
    expect(result["ok"] == 60, result)
    return result["ttft_seconds"]["p95"]


def flood(server, keys):
    """Another tenant, alone and beside twenty times as many requests of one that floods, turn and turn about."""
    ratios = []
    for _ in range(3):
        alone = first_token(server, keys["b"])
        crowd = subprocess.Popen(bench(server, keys["a"], "requests=1000000", "concurrency=40", "prompt_words=60",
                                       "max_tokens=16"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server.wait(lambda: server.metric("vllm:num_requests_waiting", keys["a"]) > 20, "a flood")
            beside = first_token(server, keys["b"])
            expect(crowd.poll() is None, "the flood has ended")
        finally:
            crowd.kill()
            crowd.wait()
        server.wait(lambda: server.metric("vllm:num_requests_running", keys["a"]) == 0, "idle")
        ratios.append(beside / alone)
        print(f"p95 of the first token: alone {alone * 1e3:.1f} ms, beside a flood {beside * 1e3:.1f} ms, "
              f"{beside / alone:.2f}", flush=True)
    return statistics.median(ratios)


def noisy(measure, good):
    """Again, where what the machine did beside may have been measured."""
    for _ in range(3):
        value = measure()
        if good(value):
            return
    expect(False, measure, value)


def main():
    with serving(config) as server:
        keys = {t: server.keys("create", "--tenant", t, "--role", "admin")["key"] for t in ("a", "b", "hasty")}
        for key in keys.values():
            server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "key")
        noisy(lambda: predicted(server, keys["a"]), lambda error: error <= 0.25)
        noisy(lambda: goodput(server, keys), lambda share: share >= 0.9)
        noisy(lambda: flood(server, keys), lambda ratio: ratio <= 2)


main()
