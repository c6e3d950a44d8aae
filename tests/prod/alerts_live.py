"""The rules of deploy/prometheus in a real Prometheus and Alertmanager, on servers that really go wrong.

Each fault is injected, its alert is awaited at a webhook, the fault is mended and the alert's end is awaited there too.
What the test changes of the rules are times: `for`, the windows of rates and the pace of evaluation become seconds.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from rig import BINARY, ROOT, Authority, Server, expect, free_port, run
from stopper import Stopper, busiest_thread
from webhook import Webhook

sys.path.insert(0, str(ROOT / "tests/e2e"))
from lora_adapters import make_adapter  # noqa: E402

PROMETHEUS, ALERTMANAGER = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
if not PROMETHEUS or not ALERTMANAGER:
    print("Prometheus or Alertmanager is not installed")
    sys.exit(77)
PATIENCE = 90  # seconds, on a machine that does other things
# Needs a machine that is not sound; rules_unit.py fires them.
NOT_LIVE = {"PenstockKernelDisabled", "PenstockGpuLost",
            "PenstockGpuThrottled", "PenstockGpuMemoryErrors", "PenstockGpuFaults"}


def wait(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, "never", what() if callable(what) else what)
        time.sleep(0.05)


class Streams:
    """Requests that run one after the other in a few threads until they are stopped; all ends are well."""

    def __init__(self, server, clients, tokens, **more):
        self.server, self.tokens, self.more, self.over = server, tokens, more, threading.Event()
        self.codes = []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self):
        body = {"prompt": "Once upon a time", "max_tokens": self.tokens, "ignore_eos": True,
                **self.more}
        while not self.over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = self.server.connect()
                connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
                if connection.sock is None:
                    continue
                connection.sock.settimeout(120)
                answer = connection.getresponse()
                self.codes.append(answer.status)
                while answer.read1(65536) and not self.over.is_set():
                    pass
                connection.close()
            if self.codes and self.codes[-1] != 200:
                time.sleep(0.05)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(120)


def quickened():
    """The rules with seconds in the place of minutes."""
    text = (ROOT / "deploy/prometheus/penstock.rules.yml").read_text()
    text = re.sub(r"for: \w+", "for: 2s", text)
    text = text.replace("interval: 15s", "interval: 1s").replace("[1h]", "[20s]")
    text = re.sub(r"\[(5|10)m\]", "[10s]", text)
    # The stall's own threshold, which the server's limits.stall must not outrun.
    return text.replace("> 30\n", "> 3\n")


class Watch:
    """Prometheus and Alertmanager on free ports."""

    def __init__(self, folder, hook):
        self.folder, self.port, manager = folder, free_port(), free_port()
        (folder / "rules.yml").write_text(quickened())
        (folder / "targets.json").write_text("[]")
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
            "scrape_configs": [{"job_name": "penstock", "tls_config": {"insecure_skip_verify": True},
                                "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}],
        }))
        (folder / "alertmanager.yml").write_text(json.dumps({
            "route": {"receiver": "hook", "group_by": ["alertname", "instance"], "group_wait": "0s",
                      "group_interval": "1s", "repeat_interval": "1h"},
            "receivers": [{"name": "hook", "webhook_configs": [{"url": hook.url, "send_resolved": True}]}],
        }))
        self.log = open(folder / "watch.log", "w")
        env = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self.processes = [subprocess.Popen(command, stdout=self.log, stderr=self.log, env=env) for command in (
            [ALERTMANAGER, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/am",
             f"--web.listen-address=127.0.0.1:{manager}", "--cluster.listen-address=", "--log.level=warn"],
            [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
        )]
        for port in (manager, self.port):
            wait(lambda: self.answers(port), lambda: "ready " + (folder / "watch.log").read_text())

    def answers(self, port):
        expect(all(p.poll() is None for p in self.processes), (self.folder / "watch.log").read_text())
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        return False

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())["data"]

    def scrape(self, servers):
        """`servers`: name -> (address, scheme)"""
        rows = [{"targets": [address], "labels": {"instance": name, "__scheme__": scheme}}
                for name, (address, scheme) in servers.items()]
        (self.folder / "new.json").write_text(json.dumps(rows))
        os.replace(self.folder / "new.json", self.folder / "targets.json")

    def healthy(self):
        targets = self.ask("/api/v1/targets")["activeTargets"]
        return {t["labels"]["instance"] for t in targets if t["health"] == "up"}

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


class Loading:
    """A server whose model comes from a pipe that nobody writes to."""

    def __init__(self, folder):
        self.port = free_port()
        (folder / "model").mkdir()
        os.mkfifo(folder / "model/config.json")
        self.process = subprocess.Popen(
            [BINARY, "serve", str(folder / "model"), "--port", str(self.port), "--set", "server.public.grpc="],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


def base(**more):
    config = {"server": {"public": {"http": "127.0.0.1:0", "grpc": ""}}, "engine": {"threads": 1},
              "limits": {"stall": "0s"}, "observe": {"log": "json", "level": "warn"}}
    for key, value in more.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return config


class Incident:
    def __init__(self, alert, instance, begin, mend):
        self.alert, self.instance, self.begin, self.mend = alert, instance, begin, mend


def main():
    rules = (ROOT / "deploy/prometheus/penstock.rules.yml").read_text()
    alerts = set(re.findall(r"alert: (\w+)", rules))
    runbook = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.M))
    expect(alerts == runbook, "the runbook and the rules differ:", alerts ^ runbook)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        live(folder, alerts)


def live(folder, alerts):
    hook = Webhook()
    watch = Watch(folder, hook)
    servers, others, streams, stopper = {}, [], {}, Stopper()

    def start(name, of_model=None, **more):
        home = folder / name
        home.mkdir(exist_ok=True)
        # A model of its own name: rules of latency are about a model, on all servers.
        model = {"path": str(ROOT / "models/demo"), **(of_model or {})}
        servers[name] = Server(home, base(models={name: model}, **more))
        return servers[name]

    def reload_with(name, text):
        server = servers[name]
        server.good = server.config_path.read_text()
        server.config_path.write_text(text)
        server.process.send_signal(signal.SIGHUP)

    authority = Authority(folder / "ca")
    (folder / "cert").mkdir()

    def certificate(days):
        for source, target in zip(authority.issue(f"d{days}", "DNS:localhost,IP:127.0.0.1", days),
                                  ("server.crt", "server.key")):
            shutil.copy(source, folder / "cert" / (target + ".new"))
            os.replace(folder / "cert" / (target + ".new"), folder / "cert" / target)

    def revoke_for(seconds):
        (folder / "cert/revoked.new").write_text(authority.revocations(seconds=seconds))
        os.replace(folder / "cert/revoked.new", folder / "cert/revoked.pem")

    try:
        certificate(30)
        revoke_for(86400)
        (folder / "keys").write_text("the-right-key\n")
        (folder / "pepper").write_text("0123456789abcdef" * 4)
        make_adapter(folder / "far", 1, scale=1e37)
        for name, more in {
            "killed": {}, "stopped": {}, "reload": {}, "steady": {},
            "cert": {"tls": {"cert_file": str(folder / "cert/server.crt"),
                             "key_file": str(folder / "cert/server.key"),
                             "client_ca_file": str(authority.cert),
                             "client_crl_file": str(folder / "cert/revoked.pem")}},
            "drain": {"drain": {"announce": "0s", "finish": "600s"}},
            "queue": {"engine": {"max_batch": 1, "max_step_tokens": 64, "max_queue": 7}},
            "stuck": {}, "slow": {},
            "memory": {"engine": {"kv_memory": "2MiB", "max_batch": 16, "prefix_cache": False, "max_len": 512,
                                  "speculation": {"method": "off"}}},
            "files": {"limits": {"max_connections": 4096, "stall": "0s"}},
            "auth": {"auth": {"api_key_file": str(folder / "keys")}},
            "glass": {"server": {"state_dir": str(folder / "glass-state"),
                                 "admin": {"unix": str(folder / "glass.sock")}},
                      "auth": {"api_keys": {"pepper_file": str(folder / "pepper")}}},
            "guard": {"guards": {"out": {"use": "http", "url": f"http://127.0.0.1:{free_port()}", "on_error": "skip"}},
                      "chain": ["out"]},
            # Its numbers are finite, what they yield is not.
            "numbers": {"of_model": {"lora": {"adapters": {"far": str(folder / "far")}}}},
            "disk": {"server": {"state_dir": str(folder / "state")}, "privacy": {"audit": {"enabled": True}}},
            "names": {"server": {"state_dir": str(folder / "names" / "state")}, "registry": {"aliases": "local"}},
            "traces": {"observe": {"otlp": f"http://127.0.0.1:{free_port()}", "trace_sample": "100%"}},
        }.items():
            start(name, **more)
        loading = Loading(folder)
        others.append(loading)
        targets = {n: (f"127.0.0.1:{s.port}", "https" if n == "cert" else "http") for n, s in servers.items()}
        watch.scrape(targets)
        wait(lambda: watch.healthy() == set(servers), lambda: f"scraped: {watch.healthy()} of {set(servers)}")
        incidents(folder, hook, watch, stopper, servers, streams, targets, loading, alerts, start, reload_with,
                  certificate, revoke_for)
    finally:
        stopper.release_all()
        for stream in streams.values():
            stream.over.set()
        for server in [*servers.values(), *others]:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()
        watch.stop()


def incidents(folder, hook, watch, stopper, servers, streams, targets, loading, alerts, start, reload_with,
              certificate, revoke_for):
    held, files, unauthorized = {}, [], threading.Event()

    def stream(name, *arguments, **more):
        streams[name] = Streams(servers[name], *arguments, **more)

    def end_stream(name):
        streams.pop(name).stop()

    def kill():
        servers["killed"].kill()

    def revive():
        old = servers["killed"]
        again = start("killed", server={"public": {"http": f"127.0.0.1:{old.port}", "grpc": ""}})
        expect(again.port == old.port, again.port, old.port)

    def add_loading():
        watch.scrape({**targets, "loading": (f"127.0.0.1:{loading.port}", "http")})

    def end_loading():
        watch.scrape(targets)
        wait(lambda: "loading" not in watch.healthy(), "one server less")
        loading.kill()

    def drain():
        stream("drain", 1, 1900, n=16)
        wait(lambda: running(servers["drain"]) > 0, "work to drain")
        held["drain"] = busiest_thread(servers["drain"])

        def held_at_work():  # not between two requests
            expect(stopper.hold(held["drain"]), "ptrace")
            time.sleep(0.3)  # a page is kept for a quarter of a second
            return running(servers["drain"]) > 0 or stopper.release(held["drain"])

        wait(held_at_work, "work to drain")
        servers["drain"].process.terminate()

    def ask_the_draining():
        """New calls are a 503: the budget of errors burns."""
        stream("steady", 1, 8)  # others answer well

        def ask():
            while not burned.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    servers["drain"].call("POST", "/v1/completions", {"prompt": "a"})
        for _ in range(8):
            threading.Thread(target=ask, daemon=True).start()
    burned = threading.Event()

    def end_drain():
        burned.set()
        del targets["drain"]
        watch.scrape(targets)
        wait(lambda: "drain" not in watch.healthy(), "one server less")
        stopper.release(held.pop("drain"))
        servers["drain"].process.terminate()  # the second signal ends it at once
        servers["drain"].process.wait(60)
        servers["drain"].ended = True
        streams.pop("drain").over.set()

    def stick():
        stream("stuck", 2, 1900)
        thread = busiest_thread(servers["stuck"])
        expect(stopper.hold(thread), "ptrace")
        held["stuck"] = thread

    def unstick():
        stopper.release(held.pop("stuck"))
        end_stream("stuck")

    def slow_until(name, alert, figure, runs, shrinks=1.0):
        """Steps of half a second, and between two of them so long for others."""
        thread = busiest_thread(servers[name])
        end = time.monotonic() + PATIENCE
        while not hook.arrived(alert, None):
            expect(time.monotonic() < end, "never:", alert, watch.ask(f"/api/v1/query?query={figure}"))
            expect(stopper.hold(thread), "ptrace")
            time.sleep(0.5)
            stopper.release(thread)
            time.sleep(runs)
            runs = max(0.02, runs * shrinks)

    def make_slow():
        stream("slow", 1, 60, stream=True)
        slow_until("slow", "PenstockInterTokenLatencySlow", "penstock:itl_seconds:p95_5m", 0.002)

    def slow_queue():
        """On a quick machine eight requests one after the other take less than two seconds: as slow as it needs."""
        slow_until("queue", "PenstockTimeToFirstTokenSlow", "penstock:ttft_seconds:p95_5m", 1.0, 0.95)

    def open_files():
        limit = len(os.listdir(f"/proc/{servers['files'].process.pid}/fd")) + 60
        subprocess.run(["prlimit", "--pid", str(servers["files"].process.pid), f"--nofile={limit}:{limit}"], check=True)
        for _ in range(57):
            files.append(socket.create_connection(("127.0.0.1", servers["files"].port), 10))

    def close_files():
        for one in files:
            one.close()

    def let_no_file_grow():
        size_limit("1000:unlimited")
        stream("disk", 1, 4)

    def let_files_grow():
        size_limit("unlimited")
        end_stream("disk")

    def damage_state():
        state = folder / "names" / "state"
        for extra in ("-wal", "-shm"):  # they would mend it
            (state / f"state.db{extra}").unlink(missing_ok=True)
        (state / "damaged").write_bytes(b"x" * 8192)
        os.replace(state / "damaged", state / "state.db")

    def mend_state():
        (folder / "names" / "state" / "state.db").unlink()  # another is made

    def size_limit(size):
        subprocess.run(["prlimit", "--pid", str(servers["disk"].process.pid), f"--fsize={size}"], check=True)

    def try_keys():
        def run():
            while not unauthorized.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    connection = servers["auth"].connect()
                    for _ in range(50):
                        servers["auth"].call("GET", "/v1/models", credential="wrong", connection=connection)
                    time.sleep(0.2)
        threading.Thread(target=run, daemon=True).start()

    def operate(*command):
        done = run(BINARY, "admin", *command, "--json", "--socket", folder / "glass.sock")
        expect(done.returncode == 0, command, done.stderr)
        return json.loads(done.stdout)

    def break_glass():
        held["glass"] = operate("breakglass", "--reason", "the alert is tried")["id"]

    def break_config():
        reload_with("reload", "limits: {max_n: many}\n")

    def mend_config():
        servers["reload"].config_path.write_text(servers["reload"].good)
        servers["reload"].process.send_signal(signal.SIGHUP)

    def only_equal():
        """The servers' configurations have always differed; one alone cannot."""
        watch.scrape({"steady": targets["steady"]})

    nothing = lambda: None  # noqa: E731
    all_incidents = [
        Incident("PenstockDown", "killed", kill, revive),
        Incident("PenstockDown", "stopped", lambda: servers["stopped"].process.send_signal(signal.SIGSTOP),
                 lambda: servers["stopped"].process.send_signal(signal.SIGCONT)),
        Incident("PenstockNotReady", "loading", add_loading, end_loading),
        Incident("PenstockConfigReloadFailed", "reload", break_config, mend_config),
        Incident("PenstockCertificateEndsSoon", "cert", lambda: certificate(3), lambda: certificate(29)),
        Incident("PenstockRevocationListEndsSoon", "cert", lambda: revoke_for(3600), lambda: revoke_for(86400)),
        Incident("PenstockBreakGlassKey", "glass", break_glass, lambda: operate("keys", "revoke", held.pop("glass"))),
        Incident("PenstockAuthFailures", "auth", try_keys, unauthorized.set),
        Incident("PenstockTracesLost", "traces", lambda: stream("traces", 2, 4), lambda: end_stream("traces")),
        Incident("PenstockGuardFails", "guard", lambda: stream("guard", 1, 4), lambda: end_stream("guard")),
        Incident("PenstockNonFiniteLogits", "numbers", lambda: stream("numbers", 1, 4, model="far"),
                 lambda: end_stream("numbers")),
        Incident("PenstockAuditBroken", "disk", let_no_file_grow, nothing),
        Incident("PenstockUsageNotWritten", "disk", nothing, let_files_grow),
        Incident("PenstockAliasesNotRead", "names", damage_state, mend_state),
        Incident("PenstockFilesRunOut", "files", open_files, close_files),
        Incident("PenstockPreemptionStorm", "memory", lambda: stream("memory", 16, 400),
                 lambda: end_stream("memory")),
        Incident("PenstockQueueFull", "queue", lambda: stream("queue", 24, 1200, stream=True), nothing),
        Incident("PenstockSaturated", None, nothing, nothing),
        Incident("PenstockTimeToFirstTokenSlow", None, slow_queue, lambda: end_stream("queue")),
        Incident("PenstockEngineStalled", "stuck", stick, unstick),
        Incident("PenstockDrainingTooLong", "drain", drain, nothing),
        Incident("PenstockErrorBudgetFastBurn", None, ask_the_draining, end_drain),
        Incident("PenstockInterTokenLatencySlow", None, make_slow, lambda: end_stream("slow")),
        Incident("PenstockConfigDiffers", None, nothing, only_equal),
    ]
    tried = {i.alert for i in all_incidents}
    expect(tried | NOT_LIVE == alerts, "no fault for", alerts - tried)
    expect(set(hook.fired) <= {("PenstockConfigDiffers", None)}, "alerts before there was a fault:", hook.fired)
    for incident in all_incidents:
        began = time.monotonic()
        incident.begin()
        wait(lambda: hook.arrived(incident.alert, incident.instance),
             lambda: f"{incident.alert} of {incident.instance}; there are {hook.state}")
        print(f"{incident.alert} {incident.instance or ''} after {time.monotonic() - began:.1f} s", flush=True)
    *most, last = all_incidents
    for incident in most:
        incident.mend()
    for incident in all_incidents:
        if incident is last:
            incident.mend()
        wait(lambda: hook.resolved(incident.alert, incident.instance),
             lambda: f"the end of {incident.alert} of {incident.instance}; there are {hook.state}")
    severities = dict(re.findall(r"alert: (\w+).*?severity: (\w+)", (folder / "rules.yml").read_text(), re.S))
    for (alert, _), labels in hook.fired.items():
        expect(labels["severity"] == severities[alert], alert, labels)
    expected = {(i.alert, i.instance) for i in all_incidents}
    surprises = {key for key in hook.fired if key not in expected}
    # A stopped process is "down"; what stands still for another fault is no surprise on it.
    expect(all(alert == "PenstockEngineStalled" for alert, _ in surprises), "alerts without their fault:", surprises)
    print(f"{len(all_incidents)} alerts arrived and ended")


def running(server):
    page = server.call("GET", "/metrics")[1]
    return sum(float(v) for v in re.findall(r"^vllm:num_requests_running\S* (\S+)$", page, re.M))


main()
