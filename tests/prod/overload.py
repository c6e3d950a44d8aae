"""Twice what a server can do: the wait that it predicts is the wait that comes, and what it does for those whom it lets in
is as much as it can do. Then a tenant that floods, and what another one notices."""

import json
import statistics
import subprocess
import tempfile
import threading
import time

from rig import BINARY, ROOT, expect, run, serving

BATCH, TOKENS = 4, 48
PATIENCE = 1.0  # seconds to the first token


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {"server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "engine": {"max_batch": BATCH, "threads": 1, "speculation": {"method": "off"}},
            "observe": {"log": "json", "level": "warn"},
            "tenants": {"*": {}, "a": {}, "b": {}}}


class Crowd:
    """Requests at a rate of their own, answered or not; what became of each."""

    def __init__(self, server, key, **fields):
        self.server, self.key, self.fields = server, key, fields
        self.lock, self.rows = threading.Lock(), []

    def ask(self, number):
        """Appends (status, seconds to the first token, seconds in all, when it ended)."""
        body = {"model": "demo", "prompt": f"Request {number} of many", "max_tokens": TOKENS, "ignore_eos": True,
                "stream": True, **self.fields}
        connection = self.server.connect()
        began, first = time.monotonic(), None
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Authorization": "Bearer " + self.key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        whole = False
        for line in answer:
            if first is None and line.startswith(b"data: {"):
                first = time.monotonic() - began
            whole |= line.startswith(b"data: [DONE]")
        connection.close()
        now = time.monotonic()
        with self.lock:
            self.rows.append((answer.status if whole or answer.status != 200 else 0, first, now - began, now,
                              dict(answer.getheaders())))

    def closed(self, clients, each):
        threads = [threading.Thread(target=lambda i=i: [self.ask(i * each + k) for k in range(each)])
                   for i in range(clients)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(self.rows) / (time.monotonic() - began)

    def open(self, rate, seconds):
        """(answered well within patience) per second, over the time that requests came."""
        threads, began = [], time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0, began + number / rate - time.monotonic()))
            threads.append(threading.Thread(target=self.ask, args=(number,)))
            threads[-1].start()
        end = time.monotonic()
        for thread in threads:
            thread.join()
        self.refused = sum(row[0] == 429 for row in self.rows)
        expect({row[0] for row in self.rows} <= {200, 408, 429, 504}, {row[0] for row in self.rows})
        well = [row for row in self.rows if row[0] == 200 and row[1] <= PATIENCE]
        # The beginning is no overload yet: what counts ended after the queue was full.
        late = [row for row in well if began + seconds / 3 < row[3] <= end]
        return len(late) / (seconds * 2 / 3)


def goodput(server, key):
    capacity = []
    ratios = []
    for _ in range(3):
        rate = Crowd(server, key).closed(BATCH * 2, 25)
        crowd = Crowd(server, key, ttft_timeout_ms=int(PATIENCE * 1000))
        good = crowd.open(2 * rate, 6)
        capacity.append(rate)
        ratios.append(good / rate)
        print(f"capacity {rate:.1f} a second; at twice that {good:.1f} good ones: {good / rate:.2f}, {crowd.refused} of"
              f" {len(crowd.rows)} refused", flush=True)
        if good >= 0.9 * rate and crowd.refused:
            return
    expect(False, "goodput", ratios)


def predicted(server, key):
    """Requests that come to a full queue ask the page first; then they wait."""
    errors, stop = [], threading.Event()
    crowd = Crowd(server, key)
    def flood(i):
        while not stop.is_set():
            crowd.ask(i)
    threads = [threading.Thread(target=flood, args=(i,)) for i in range(BATCH * 6)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(3)
        pairs = []
        for number in range(40):
            page = server.call("GET", "/metrics/lb", credential=key)[1]
            said = float(next(line for line in page.splitlines() if line.startswith("penstock_queue_pred")).split()[-1])
            mine = Crowd(server, key)
            mine.ask(10000 + number)
            pairs.append((said, mine.rows[0][1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    errors = sorted(abs(said - was) / was for said, was in pairs)
    print(f"waits of {statistics.median(p[1] for p in pairs) * 1e3:.0f} ms; predicted with a median error of"
          f" {statistics.median(errors):.2f}, bias {statistics.median(p[0] / p[1] for p in pairs):.2f}", flush=True)
    return statistics.median(errors)


def main():
    with serving(config) as server:
        key = server.keys("create", "--tenant", "a", "--role", "admin")["key"]
        server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "key")
        predicted(server, key)
        goodput(server, key)

main()
