"""The time of day is set ahead and back while requests run: latencies, deadlines, health and draining do not notice."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

from rig import LONG, LONG_QUEUE, Redis, Server, expect, run

COMPILER = shutil.which("cc") or shutil.which("gcc")
HERE = pathlib.Path(__file__).parent


class Supervisor:
    """The other end of systemd's protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            self.lines += self.socket.recv(4096).decode().splitlines()


def figure(server, name, path="/metrics"):
    page = server.call("GET", path)[1]
    return sum(float(v) for v in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", page, re.M))


def request_lines(server):
    whole = server.log.rpartition("\n")[0]
    return [line for line in whole.splitlines() if '"message":"request"' in line]


def main(folder):
    library = folder / "moved_clock.so"
    done = run(COMPILER, "-shared", "-fPIC", "-O1", "-o", library, HERE / "moved_clock.c", "-ldl")
    expect(done.returncode == 0, done.stderr)
    offset = folder / "offset"

    def move(seconds):
        (folder / "next").write_text(str(seconds))
        os.replace(folder / "next", offset)

    move(0)
    moved = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(offset)}
    if shutil.which("redis-server"):
        leases(folder, move, moved)
    move(0)
    supervisor = Supervisor(folder / "notify")
    os.environ |= {**moved, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "1000000"}
    home = folder / "server"
    home.mkdir()
    # A stream that nobody reads while the time is set is no slow reader's: all of it has room.
    server = Server(home, {"limits": {"stall": "60s", "write_stall": "60s", "stream_buffer": "64MiB"},
                           "drain": {"announce": "10s"},
                           "engine": {"threads": 1}})
    for name in ("LD_PRELOAD", "MOVED_CLOCK", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        del os.environ[name]
    try:
        moves(server, supervisor, move)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def leases(folder, move, moved):
    """Slots in Redis are kept as long as requests run, and a Redis that is back is found, in whatever year."""
    home = folder / "redis"
    home.mkdir()
    (home / "password").write_text("secret")
    redis = Redis(home)
    server = Server(home, {
        "server": {"public": {"http": "127.0.0.1:0", "grpc": ""}},
        "engine": {"threads": 1, "max_batch": 1, "max_queue": LONG_QUEUE},
        "limits": {"shared": {"redis": f"127.0.0.1:{redis.port}", "password_file": "password", "on_outage": "block"}},
        "tenants": {"*": {"parallel": 4}}}, env=moved)
    # One sequence at a time: the first of the four is at it for minutes.
    def running():  # those of the first end one by one
        return sum(server.metric(f"vllm:num_requests_{what}") for what in ("running", "waiting")) / 1024

    try:
        server.wait(lambda: server.metric("penstock_shared_limits_up") == 1, "Redis")
        held = []
        while running() <= 3:  # a slow machine's Redis is asked again
            before, sent = running(), time.monotonic()
            held.append(server.begin(LONG))
            while running() <= before and time.monotonic() < sent + 3:
                pass
        move(-3600)
        end, statuses = time.monotonic() + 16, []  # a lease that is not renewed lives for nine seconds
        while time.monotonic() < end or statuses[-1] != 429:
            statuses.append(server.begin(LONG).getresponse().status)
            expect(statuses[-1] in (429, 503), "a fifth request beside four", statuses)
            time.sleep(0.2)
        for connection in held:
            connection.close()
        redis.kill()
        server.wait(lambda: server.metric("penstock_shared_limits_up") == 0, "no Redis")
        move(-7200)
        redis.start()
        server.wait(lambda: server.metric("penstock_shared_limits_up") == 1, "Redis again")
        server.stop()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        redis.kill()


def a_stream(server):
    body = {"model": "demo", "prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "stream": True,
            "n": 16, "timeout_ms": 3_000_000, "ttft_timeout_ms": 3_000_000}
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    expect(answer.status == 200, answer.status)
    first = answer.readline()
    expect(first.startswith(b"data: "), first)
    return answer


def moves(server, supervisor, move):
    asked, start, behind = [0], time.monotonic(), 0
    for ahead in (3600, -3600, 0, 86400):
        for _ in range(50):  # until the time is set before the answer ends: a quick machine is soon done
            began, answer = time.monotonic(), a_stream(server)
            move(ahead)
            if figure(server, "vllm:num_requests_running", "/metrics/lb") > 0:
                break
            answer.read()
            move(behind)
            asked[0] += 1
        else:
            expect(False, "each stream ended before the time was set")
        behind = ahead
        text = answer.read().decode()
        wrong = [line for line in text.splitlines() if '"error"' in line]
        expect("[DONE]" in text and not wrong, ahead, wrong[:2], text[-200:])
        took = time.monotonic() - began
        heard = len(supervisor.lines)
        server.wait(lambda: len(supervisor.lines) > heard + 1, f"the watchdog's lines after {ahead}", 30)
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: len(request_lines(server)) > asked[0], "its line")
        asked[0] += 1
        line = json.loads(request_lines(server)[-1])
        expect(0 <= line["ttft_ms"] <= line["total_ms"] <= took * 1000 + 1000, ahead, line, took)
        expect(line["queue_ms"] >= 0 and line["prefill_ms"] >= 0 and line["decode_ms"] >= 0, line)
        # What is a time of day follows it: an alert compares it with the time of Prometheus.
        # (The library of times looks at the system's clock every few seconds only.)
        for page in ("/metrics/lb", "/metrics"):
            def follows():
                server.call("POST", "/v1/completions", {"model": "demo", "prompt": "a"})  # a step
                asked[0] += 1
                last = figure(server, "penstock_last_step_timestamp_seconds", page)
                return abs(last - (time.time() + ahead)) < 60

            server.wait(follows, f"{page} {ahead} s ahead")
        expect(server.call("GET", "/health")[0] == 200 and server.call("GET", "/ready")[0] == 200, "health")
    for name in ("vllm:time_to_first_token_seconds_sum", "vllm:e2e_request_latency_seconds_sum",
                 "vllm:request_queue_time_seconds_sum", "vllm:inter_token_latency_seconds_sum"):
        most = 16 * (time.monotonic() - start)  # so many at a time
        expect(0 <= figure(server, name) < most, name, figure(server, name), most)
    # Leaving is announced for ten seconds, also where the time of day goes back meanwhile.
    server.process.terminate()
    server.wait(lambda: server.call("GET", "/ready")[0] == 503, "the announcement")
    move(-86400)
    expect(server.process.wait(60) == 0, server.log)
    print("the time of day was set five times, and nobody noticed")


if COMPILER is None:
    print("there is no C compiler")
    sys.exit(77)
with tempfile.TemporaryDirectory() as name:
    main(pathlib.Path(name))
