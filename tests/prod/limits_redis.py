"""Limits that three servers give together through a real Redis: nothing is admitted beyond them, a Redis that is
killed, stopped or lies is an outage and no more, and what tenants used is exact after all of it."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import pathlib

from rig import BINARY, LONG, LONG_QUEUE, Redis, Server, expect, run

if shutil.which("redis-server") is None:
    print("no redis-server")
    sys.exit(77)

TENANTS = {
    "requests": {"rpm": 60},
    "tokens": {"tpm": 3000},
    "budget": {"budget": {"tokens": 700, "per": "1000h"}},
    "slots": {"parallel": 4},
    "fault": {"rpm": 100000, "tpm": "100M", "budget": {"tokens": "100M", "per": "1000h"}},
}


def config(folder, redis, n, on_outage):
    own = folder / f"server{n}"
    own.mkdir(exist_ok=True)
    (own / "pepper").write_text("p" * 40)
    (own / "password").write_text("secret\n")
    return own, {
        "server": {"state_dir": str(own / "state"), "admin": {"unix": str(own / "admin.sock")},
                   "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "engine": {"max_batch": 16, "max_queue": LONG_QUEUE, "threads": 1},
        "limits": {"shared": {"redis": f"127.0.0.1:{redis.port}", "password_file": "password",
                              "on_outage": on_outage, "replicas": 3}},
        "tenants": TENANTS,
    }


class Fleet:
    def __init__(self, folder, redis, on_outage, count=3):
        self.folder, self.servers, self.keys = folder, [], []
        for n in range(count):
            own, text = config(folder, redis, n, on_outage)
            self.servers.append(Server(own, text))
        for server in self.servers:
            self.keys.append({t: server.keys("create", "--tenant", t)["key"] for t in TENANTS})
            server.keys("create", "--tenant", "scraper", "--role", "scraper")
        for i, server in enumerate(self.servers):
            server.wait(lambda: server.call("GET", "/v1/models", credential=self.keys[i]["fault"])[0] == 200, "keys")
            self.wait_up(server)

    def wait_up(self, server, up=1):
        server.wait(lambda: server.metric("penstock_shared_limits_up") == up, f"up {up}")

    def ask(self, n, tenant, tokens, stop=None, **more):
        """(status, usage); a 503 of a slow machine is asked again."""
        server = self.servers[n]
        body = {"model": "demo", "prompt": "Once upon", "max_tokens": tokens, "temperature": 0,
                "ignore_eos": True, **more}
        while True:
            status, text = server.call("POST", "/v1/completions", body, self.keys[n][tenant],
                                       {"Content-Type": "application/json"})
            if status != 503 or (stop and stop()):
                return status, json.loads(text).get("usage"), text
            time.sleep(0.05)

    def crowd(self, tenant, tokens, each, clients=8):
        """Eight clients, each on all servers in turn; (statuses, tokens that answers say were used)."""
        statuses, used, errors, lock = [], [0], [], threading.Lock()

        def client(i):
            for turn in range(each):
                status, usage, text = self.ask((i + turn) % len(self.servers), tenant, tokens)
                with lock:
                    statuses.append(status)
                    if status == 200:
                        used[0] += usage["total_tokens"]
                    elif status != 429:
                        errors.append((status, text))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(not errors, errors[:3])
        return statuses, used[0]

    def billed(self, tenant):
        """[requests, tokens] in the state files of all servers."""
        total = [0, 0]
        for server in self.servers:
            done = run(BINARY, "admin", "usage", "--tenant", tenant, "--json", "--config", server.config_path)
            expect(done.returncode == 0, done.stderr)
            for row in json.loads(done.stdout)["usage"]:
                total[0] += row["requests"]
                total[1] += row["prompt_tokens"] + row["completion_tokens"]
        return total

    def stop(self):
        for server in self.servers:
            server.stop()

    def kill(self):
        for server in self.servers:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


@contextlib.contextmanager
def fleet(on_outage):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        redis, servers = Redis(folder), None
        try:
            servers = Fleet(folder, redis, on_outage)
            yield redis, servers
            servers.stop()
        finally:
            if servers is not None:
                servers.kill()
            redis.kill()


def exact(servers):
    """Without faults: what is admitted is what the limits say, whichever server is asked."""
    for tenant, tokens, size in (("requests", 1, 60), ("tokens", 20, 3000)):
        began = time.monotonic()
        statuses, used = servers.crowd(tenant, tokens, 30)
        seconds = time.monotonic() - began
        taken = statuses.count(200) if tenant == "requests" else used
        most = size + size / 60 * seconds
        asked = len(statuses) * (1 if tenant == "requests" else used / max(1, statuses.count(200)))
        print(f"{tenant}: {taken} of {size} a minute in {seconds:.1f} s ({most:.0f} at most), {len(statuses)} asked",
              flush=True)
        expect(taken <= most, "over-admission")
        expect(429 in statuses or asked <= most, "not limited", statuses)
    statuses, used = servers.crowd("budget", 20, 12)
    each = used // max(1, statuses.count(200))
    print(f"budget: {used} of 700 tokens, {each} a request", flush=True)
    expect(700 - each < used <= 700, "the budget is given, and no more", used, each)
    # A window lasts 1000 h: if another has begun in between, both were seen.


def slots_held(redis):
    return int(redis.ask("ZCARD", "penstock:slots:parallel"))


def slots(redis, servers):
    """Of twelve clients that ask without end for what takes minutes, four hold the slots and hear nothing; all others
    are refused, also while some of the four leave."""
    clients, over = 12, threading.Event()
    refusals, connections = [0] * clients, [None] * clients

    def client(i):
        turn = i
        while not over.is_set():
            turn += 1
            n = turn % 3
            connections[i] = servers.servers[n].begin(LONG, servers.keys[n]["slots"])
            with contextlib.suppress(OSError, http.client.HTTPException):  # it was made to leave
                refusals[i] += connections[i].getresponse().status in (429, 503)
            connections[i].close()
            time.sleep(0.01)

    def leave(i):
        with contextlib.suppress(OSError, AttributeError):  # it is between two requests
            connections[i].sock.shutdown(socket.SHUT_RDWR)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        end, holders = time.monotonic() + 60, []
        while len(holders) != 4 or slots_held(redis) != 4:  # fewer: one was refused, and then admitted; or left
            expect(slots_held(redis) <= 4, slots_held(redis), "slots in Redis")
            before = list(refusals)
            while (holders := [i for i in range(clients) if refusals[i] == before[i]]) and len(holders) > 4:
                expect(time.monotonic() < end, "slots are given to", holders)
                time.sleep(0.01)
            expect(time.monotonic() < end, "slots are given to", holders, slots_held(redis), "in Redis")
        for i in holders[: turn % 4 + 1]:
            leave(i)
    over.set()
    while any(thread.is_alive() for thread in threads):
        for i in range(clients):
            leave(i)
        time.sleep(0.05)
    print(f"slots: 4 at a time, {sum(refusals)} times refused", flush=True)
    end = time.monotonic() + 60
    while slots_held(redis) != 0:
        expect(time.monotonic() < end, "a slot never came back")
        time.sleep(0.05)


def reloaded(servers):
    """A budget's period changes while servers run: another window begins, for all of them, and is given once."""
    for server in servers.servers:
        text = json.loads(server.config_path.read_text())
        text["tenants"]["budget"]["budget"]["per"] = "500h"
        server.config_path.write_text(json.dumps(text))
        server.wait(lambda: json.loads(run(BINARY, "admin", "config", "--socket", server.folder / "admin.sock").stdout)
                    ["values"]["tenants.budget.budget.per"] != "1000h", "the new period")
    statuses, used = servers.crowd("budget", 20, 12)
    each = used // max(1, statuses.count(200))
    print(f"budget of another period: {used} of 700 tokens", flush=True)
    expect(700 - each < used <= 700, "the new window is given, and no more", used, each)


def other_secrets(servers):
    """What a file of a secret holds is read at the start: a reload that finds something else there says so."""
    server = servers.servers[0]
    for name, field in (("password", "limits.shared.password_file"), ("pepper", "auth.api_keys.pepper_file")):
        file = server.folder / name
        before = file.read_text()
        file.write_text("q" * 40)
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: f"restart_required: {field}" in server.log, field)
        file.write_text(before)


def killed_server(redis, servers):
    """The slots of a server that is gone come back by themselves."""
    server, held, leases = servers.servers[2], [], 0
    end = time.monotonic() + 120
    while leases < 4:  # a slow machine's Redis is asked again
        expect(time.monotonic() < end, leases, "slots")
        held.append(server.begin(LONG, servers.keys[2]["slots"]))
        before, sent = leases, time.monotonic()
        while leases <= before and time.monotonic() < sent + 3:
            leases = slots_held(redis)
    server.kill()
    end = time.monotonic() + 60
    while servers.ask(0, "slots", 1)[0] != 200:
        expect(time.monotonic() < end, "slots of a killed server never come back")
        time.sleep(0.2)
    print(f"{leases} slots of a killed server came back", flush=True)
    servers.servers[2] = Server(server.folder, json.loads(server.config_path.read_text()))
    servers.wait_up(servers.servers[2])


def faults(redis, servers):
    """Redis stopped, killed and begun anew under load; what was billed is what was answered."""
    answered, stop, lock = [0, 0, 0], threading.Event(), threading.Lock()
    statuses = {}

    def client(i):
        turn = i
        while not stop.is_set():
            turn += 1
            status, usage, text = servers.ask(turn % 3, "fault", 5, stop=lambda: True)
            with lock:
                statuses[status] = statuses.get(status, 0) + 1
                if status == 200:
                    answered[0] += 1
                    answered[1] += usage["total_tokens"]
            if status == 503:
                expect("limits.shared" in text, text)

    before = servers.billed("fault")
    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()

    def progress(more):
        base = answered[0]
        servers.servers[0].wait(lambda: answered[0] >= base + more, "requests are answered")

    progress(50)
    redis.process.send_signal(signal.SIGSTOP)
    for server in servers.servers:
        servers.wait_up(server, 0)
    time.sleep(1)
    redis.process.send_signal(signal.SIGCONT)
    for server in servers.servers:
        servers.wait_up(server)
    progress(50)
    redis.kill()
    for server in servers.servers:
        servers.wait_up(server, 0)
    time.sleep(1)
    redis.start()
    for server in servers.servers:
        servers.wait_up(server)
    progress(50)
    stop.set()
    for thread in threads:
        thread.join()
    print("under faults:", statuses, flush=True)
    after = servers.billed("fault")
    billed = [after[0] - before[0], after[1] - before[1]]
    print(f"answered {answered[0]} requests, {answered[1]} tokens; billed {billed}", flush=True)
    expect(billed == answered[:2], "what is billed is what was answered", billed, answered)
    # What Redis was told of the budget is the same, although it was emptied in between.
    def in_redis():
        fields = redis.ask("HGETALL", "penstock:fault:budget").split("\n")
        return sum(int(v) for k, v in zip(fields[::2], fields[1::2]) if k.startswith("used:"))
    end = time.monotonic() + 30
    while in_redis() != after[1]:
        expect(time.monotonic() < end, "Redis knows", in_redis(), "billed", after)
        for n in range(3):
            servers.ask(n, "fault", 1)
        after = servers.billed("fault")
        time.sleep(0.1)


class Liar(threading.Thread):
    """Answers whatever it is told to, right after the password."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.seen = answer, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError):
            count = 0
            while data := connection.recv(1 << 16):
                count += 1
                if b"AUTH" in data:
                    connection.sendall(b"+OK\r\n")
                elif b"SCRIPT" in data:
                    connection.sendall(b"$40\r\n" + b"a" * 40 + b"\r\n")
                else:
                    self.seen += 1
                    connection.sendall(self.answer)


def lies():
    for answer in (b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"*0\r\n", b"*-1\r\n", b"garbage\r\n",
                   b"*10\r\n" + b":1\r\n" * 10, b"*10\r\n" + b":-1\r\n" * 9 + b"$1\r\na\r\n",
                   b"*10\r\n" + b":2\r\n" * 8 + b":%d\r\n$1\r\na\r\n" % (2**63 - 1), b"$100000000\r\naaaa",
                   b"*1000000\r\n", b"-ERR no\r\n",
                   b"*10\r\n" + b"$1\r\n1\r\n" * 10):
        with tempfile.TemporaryDirectory() as name:
            liar = Liar(answer)
            own, text = config(pathlib.Path(name), liar, 0, "local")
            server = Server(own, text)
            try:
                key = server.keys("create", "--tenant", "requests")["key"]
                server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "keys")
                server.wait(lambda: liar.seen > 0, "asked")
                body = {"model": "demo", "prompt": "a", "max_tokens": 1}
                began = time.monotonic()
                codes = [server.call("POST", "/v1/completions", body, key, {"Content-Type": "application/json"})[0]
                         for _ in range(30)]
                most = 21 + (time.monotonic() - began) / 3
                expect(20 <= codes.count(200) <= most and set(codes) == {200, 429}, answer, codes)  # 60 / 3
                expect(server.metric("penstock_shared_limits_up") == 0, "up")
                server.stop()
            finally:
                if server.process.poll() is None:
                    server.process.kill()
                    server.process.wait()
    print("lies are outages", flush=True)


def main():
    with fleet("block") as (redis, servers):
        exact(servers)
        slots(redis, servers)
        reloaded(servers)
        other_secrets(servers)
        killed_server(redis, servers)
        faults(redis, servers)
    with fleet("local") as (redis, servers):
        faults(redis, servers)
    lies()


main()
