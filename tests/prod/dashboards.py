"""Every query of deploy/grafana in a real Prometheus that scrapes a loaded server, and those that vLLM's boards ask.

An empty answer, or one without a number, is a fault; but for panels of what is off in this server, named below.
"""

import contextlib
import http.client
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from rig import BINARY, ROOT, Authority, Server, expect

sys.path.insert(0, str(ROOT / "tests/fakes"))
from stand_in_gpu import ENGINE, StandInGpu, has_emulated_gpu  # noqa: E402

PROMETHEUS = shutil.which("prometheus")
if not PROMETHEUS:
    print("Prometheus is not installed")
    sys.exit(77)
if not has_emulated_gpu(BINARY, ROOT / "models/demo"):
    print("this build has no emulated GPU, which one of the dashboards shows")
    sys.exit(77)
PATIENCE = 120  # seconds, on a machine that does other things
WINDOW = "20s"

# board, panel -> why it has nothing to show here.
OFF = {
    ("latency", "Links of the chain"): "no chain is configured",
    ("latency", "Links that failed"): "no chain is configured",
    ("cache-scheduler", "Adapters"): "no adapters are configured",
    ("tenants", "Time for a reservation"): "no Redis is configured",
}

# What vLLM's boards ask, in the forms that they use: name of the metric, by what.
MODEL = '{model_name="demo"}'
VLLM = [
    *(f"histogram_quantile({q}, sum by (le) (rate(vllm:{name}_bucket{MODEL}[$__rate_interval])))"
      for q in (0.5, 0.9, 0.95, 0.99)
      for name in ("e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds",
                   "time_per_output_token_seconds", "request_time_per_output_token_seconds")),
    *(f"rate(vllm:{name}_sum{MODEL}[$__rate_interval]) / rate(vllm:{name}_count{MODEL}[$__rate_interval])"
      for name in ("e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds",
                   "time_per_output_token_seconds")),
    *(f"rate(vllm:{name}{MODEL}[$__rate_interval])"
      for name in ("prompt_tokens_total", "generation_tokens_total", "request_queue_time_seconds_sum",
                   "request_prefill_time_seconds_sum", "request_decode_time_seconds_sum",
                   "request_inference_time_seconds_sum", "request_max_num_generation_tokens_sum",
                   "num_preemptions_total", "prefix_cache_hits_total", "prefix_cache_queries_total",
                   "spec_decode_num_drafts_total", "spec_decode_num_draft_tokens_total",
                   "spec_decode_num_accepted_tokens_total")),
    *(f"vllm:{name}{MODEL}"
      for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc",
                   "cache_config_info")),
    *(f"sum by (le) (increase(vllm:{name}_bucket{MODEL}[$__rate_interval]))"
      for name in ("request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
                   "request_params_n", "request_params_max_tokens")),
    f"sum by (finished_reason) (increase(vllm:request_success_total{MODEL}[$__rate_interval]))",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prometheus:
    def __init__(self, folder, port, ca):
        self.port = free_port()
        self.log = folder / "prometheus.log"
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "penstock", "scheme": "https", "tls_config": {"ca_file": str(ca)},
                                "static_configs": [{"targets": [f"localhost:{port}"]}]}],
        }))
        self.process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
            stdout=open(self.log, "w"), stderr=subprocess.STDOUT,
            env={**os.environ, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"})

    def ask(self, path, **arguments):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"{path}?{urllib.parse.urlencode(arguments)}")
        answer = json.loads(connection.getresponse().read())
        expect(answer["status"] == "success", path, arguments, answer)
        return answer["data"]

    def numbers(self, query):
        """How many finite values the query gives now."""
        query = query.replace("$__rate_interval", WINDOW).replace("$instance", ".*").replace("$model", ".*")
        rows = self.ask("/api/v1/query", query=query)["result"]
        return sum(math.isfinite(float(row["value"][1])) for row in rows)

    def scraped(self):
        with contextlib.suppress(OSError, KeyError, ValueError):
            return [t["health"] for t in self.ask("/api/v1/targets")["activeTargets"]] == ["up"]
        return False


def load(server, context, over):
    """Requests of all kinds until it is over: streams, repeated prompts, refusals."""
    text = "The sea, the sea, the sea, the sea, the sea, the sea. "
    bodies = [
        {"model": "demo", "prompt": text * 4, "max_tokens": 60, "ignore_eos": True, "temperature": 0},
        {"model": "demo", "prompt": text * 4 + "And", "max_tokens": 60, "stream": True, "n": 2, "ignore_eos": True},
        {"model": "demo", "prompt": 5},
    ]
    while not over.is_set():
        for body in bodies:
            server.call("POST", "/v1/completions", body, connection=server.connect(context))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        authority = Authority(folder / "ca")
        cert, key = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
        gpu = StandInGpu(folder / "gpu")
        server = Server(folder, {
            "models": {"demo": {"path": str(ROOT / "models/demo")},
                       "on-gpu": {"path": str(ROOT / "models/demo"), "engine": ENGINE}},  # of which nothing is asked
            "server": {"public": {"http": "127.0.0.1:0", "grpc": ""}},
            "tls": {"cert_file": str(cert), "key_file": str(key)},
            "engine": {"threads": 1, "speculation": {"method": "ngram"}},
            "observe": {"log": "json", "legacy_names": True},
        }, env=gpu.environment)
        prometheus = Prometheus(folder, server.port, authority.cert)
        over = threading.Event()
        workers = [threading.Thread(target=load, args=(server, authority.context(), over)) for _ in range(2)]
        for worker in workers:
            worker.start()
        try:
            server.wait(prometheus.scraped, "scraped", PATIENCE)
            check(prometheus, server)
        finally:
            over.set()
            for worker in workers:
                worker.join()
            prometheus.process.terminate()
            prometheus.process.wait(60)
            server.stop()


def check(prometheus, server):
    queries = []
    seen = set()
    for path in sorted((ROOT / "deploy/grafana").glob("*.json")):
        board = path.stem.removeprefix("penstock-")
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                seen.add((board, panel["title"]))
                queries.append((board, panel["title"], target["expr"]))
    expect(len(queries) > 60, len(queries), "queries")
    expect(set(OFF) <= seen, "no such panel:", set(OFF) - seen)
    queries += [("vLLM", query, query) for query in VLLM]
    missing = queries
    end = time.monotonic() + PATIENCE
    while missing:
        missing = [row for row in missing if not prometheus.numbers(row[2]) and row[:2] not in OFF]
        expect(time.monotonic() < end, len(missing), "queries without an answer:", *(f"\n  {row}" for row in missing))
        if missing:
            time.sleep(1)
    # What is said to be off is off: else it belongs among the others.
    off = [row for row in queries if row[:2] in OFF]
    for board, title, query in off:
        expect(not prometheus.numbers(query), board, title, "has an answer now:", query)
    for old, new in (("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
                     ("vllm:time_per_output_token_seconds_count", "vllm:inter_token_latency_seconds_count")):
        expect(prometheus.numbers(f"{old} == ignoring(__name__) {new}") >= 1, old, "is not", new)
    print(f"{len(queries) - len(off)} queries have an answer, {len(off)} are of what is off:")
    for (board, title), why in OFF.items():
        print(f"  {board}: {title}: {why}")


main()
