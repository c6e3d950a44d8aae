"""Every query of deploy/grafana in a real Prometheus that scrapes a loaded server, those that vLLM's boards ask, and
the recording rules.

An empty answer, or one without a number, is a fault, and so is one that is never above zero, but for what is named
below: the server has adapters, a second tier of its prefix cache, a chain with a link that fails, a Redis for its
tenants' limits, an audit log, a collector that is gone and (emulated) a GPU; its clients wait, are preempted, handed to
another model and turned away.
"""

import contextlib
import http.client
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from rig import BINARY, ROOT, Authority, Redis, Server, expect, free_port, openssl

sys.path[:0] = [str(ROOT / "tests/fakes"), str(ROOT / "tests/e2e")]
from stand_in_gpu import ENGINE, StandInGpu, has_emulated_gpu  # noqa: E402

PROMETHEUS = shutil.which("prometheus")
if not PROMETHEUS or not shutil.which("redis-server"):
    print("Prometheus or redis-server is not installed")
    sys.exit(77)
try:
    from lora_adapters import make_adapter  # noqa: E402
except ImportError as error:
    print(f"{error}: ./dev setup makes the virtual environment")
    sys.exit(77)
if not has_emulated_gpu(BINARY, ROOT / "models/demo"):
    print("this build has no emulated GPU, which one of the dashboards shows")
    sys.exit(77)
RULES = ROOT / "deploy/prometheus/penstock.rules.yml"
PATIENCE = 120  # seconds, on a machine that does other things
WINDOW = "20s"
KEY = "the-key-of-this-test"

# board, panel -> why it shows nothing but zeros here.
ZERO = {
    ("cache-scheduler", "Calls of functions that were none"): "the bundled model begins no calls",
    ("overview", "Kernels that failed their self-test"): "none did",
    ("rollouts", "Draining"): "it serves",
    ("tenants", "Usage that could not be written"): "it could",
    ("tenants", "Audit lines lost"): "none were",
    ("tenants", "Break-glass keys"): "none was made",
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
      for name in ("prompt_tokens_total", "prompt_tokens_cached_total", "generation_tokens_total",
                   "request_queue_time_seconds_sum", "request_prefill_time_seconds_sum",
                   "request_decode_time_seconds_sum", "request_inference_time_seconds_sum",
                   "request_max_num_generation_tokens_sum",
                   "num_preemptions_total", "prefix_cache_hits_total", "prefix_cache_queries_total",
                   "spec_decode_num_drafts_total", "spec_decode_num_draft_tokens_total",
                   "spec_decode_num_accepted_tokens_total")),
    *(f"vllm:{name}{MODEL}"
      for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc",
                   "cache_config_info")),
    'vllm:num_requests_waiting_by_reason{model_name="demo",reason="capacity"}',
    f"sum by (reason) (vllm:num_requests_waiting_by_reason{MODEL})",
    'vllm:engine_sleep_state{model_name="demo",sleep_state="awake"}',
    f"sum by (sleep_state) (vllm:engine_sleep_state{MODEL})",
    *(f"sum by (le) (increase(vllm:{name}_bucket{MODEL}[$__rate_interval]))"
      for name in ("request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
                   "request_params_n", "request_params_max_tokens")),
    f"sum by (finished_reason) (increase(vllm:request_success_total{MODEL}[$__rate_interval]))",
    # The share within an objective: a bound is chosen by its text, as Python's client writes it.
    *(f'sum(rate(vllm:{name}_bucket{{model_name="demo", le="{bound}"}}[$__rate_interval])) / '
      f"(sum(rate(vllm:{name}_count{MODEL}[$__rate_interval])) > 0)"
      for name, bound in (("time_to_first_token_seconds", "10.0"), ("request_time_per_output_token_seconds", "1.0"),
                          ("e2e_request_latency_seconds", "60.0"), ("request_prompt_tokens", "500.0"))),
    *(f'count(vllm:time_to_first_token_seconds_bucket{{model_name="demo", le="{bound}"}})'
      for bound in ("0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "10.0")),
    *(f'count(vllm:request_time_per_output_token_seconds_bucket{{model_name="demo", le="{bound}"}})'
      for bound in ("0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.5")),
    # Prompt tokens by where they came from, and what the web framework counts.
    *(f'sum(rate(vllm:prompt_tokens_by_source_total{{model_name="demo",source="{source}"}}[$__rate_interval]))'
      for source in ("local_compute", "local_cache_hit")),
    f"sum by (source) (rate(vllm:prompt_tokens_by_source_total{MODEL}[$__rate_interval]))",
    "sum by (handler, method) (rate(http_requests_total[$__rate_interval]))",
    "sum(increase(http_requests_total[$__rate_interval])) by (status)",
    *(f'sum(rate(http_requests_total{{handler="/v1/completions",method="POST",status="{status}"}}[$__rate_interval]))'
      for status in ("2xx", "4xx", "5xx")),
    'sum(rate(http_requests_total{status=~"5.."}[$__rate_interval])) / '
    "sum(rate(http_requests_total[$__rate_interval]))",
    'sum(rate(http_requests_total{status!~"2..|3.."}[$__rate_interval]))',
    "sum(rate(http_request_duration_seconds_sum[$__rate_interval])) by (handler) / "
    "sum(rate(http_request_duration_seconds_count[$__rate_interval])) by (handler)",
    "histogram_quantile(0.9, sum by (le, handler) (rate(http_request_duration_seconds_bucket[$__rate_interval])))",
    *('sum(rate(http_request_duration_seconds_bucket{handler="/v1/completions",'
      f'le="{bound}"}}[$__rate_interval]))' for bound in ("1.0", "+Inf")),
    *(f"histogram_quantile({q}, sum by (le) (rate(http_request_duration_highr_seconds_bucket[$__rate_interval])))"
      for q in (0.5, 0.95, 0.99)),
]


class Prometheus:
    def __init__(self, folder, port, ca):
        self.port = free_port()
        self.log = folder / "prometheus.log"
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "penstock", "scheme": "https", "tls_config": {"ca_file": str(ca)},
                                "authorization": {"credentials": KEY},
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
        """The finite values that the query gives now."""
        query = query.replace("$__rate_interval", WINDOW).replace("$instance", ".*").replace("$model", ".*")
        values = [float(row["value"][1]) for row in self.ask("/api/v1/query", query=query)["result"]]
        return [value for value in values if math.isfinite(value)]

    def scraped(self):
        with contextlib.suppress(OSError, KeyError, ValueError):
            return [t["health"] for t in self.ask("/api/v1/targets")["activeTargets"]] == ["up"]
        return False


TEXT = "The sea, the sea, the sea, the sea, the sea, the sea. "
LOAD = [  # (path, body); of each kind of request
    ("/v1/completions", {"model": "demo", "prompt": TEXT * 6, "max_tokens": 120, "ignore_eos": True, "temperature": 0}),
    ("/v1/completions", {"model": "demo", "prompt": TEXT * 6 + "And", "max_tokens": 120, "stream": True, "n": 2,
                         "ignore_eos": True}),
    ("/v1/completions", {"model": "one", "prompt": TEXT, "max_tokens": 20, "ignore_eos": True}),
    ("/v1/completions", {"model": "demo", "prompt": 5}),
    ("/v1/completions", {"model": "demo", "prompt": "FAIL", "max_tokens": 1}),
    ("/v1/completions", {"model": "full", "prompt": TEXT, "max_tokens": 40, "ignore_eos": True}),
]
# Each as large as its model's cache, so that it goes to the second tier, and comes back.
LOAD += [("/v1/completions", {"model": "tiered", "prompt": [(kind * 37 + t * 11) % 500 + 20 for t in range(200)],
                              "max_tokens": 4, "ignore_eos": True}) for kind in range(3)]
# At all times beside those, so that some wait, are preempted and find a model full on the quickest machine.
BESIDE = [{"model": "demo", "prompt": TEXT, "max_tokens": 400, "ignore_eos": True, "n": 16},
          {"model": "full", "prompt": TEXT, "max_tokens": 400, "ignore_eos": True, "n": 2}]


def load(server, context, over):
    """Requests of all kinds until it is over, each by a client of its own."""
    while not over.is_set():
        for path, body in LOAD:
            server.call("POST", path, body, KEY, connection=server.connect(context))
        server.call("GET", "/v1/models", connection=server.connect(context))
        leave(server, context)


def leave(server, context):
    """A client that goes away while it is answered."""
    connection = server.connect(context)
    connection.request("POST", "/v1/completions", json.dumps({**BESIDE[0], "stream": True}),
                       {"Authorization": "Bearer " + KEY})
    with connection.getresponse() as answer:
        answer.readline()
        connection.close()


def beside(server, context, body, over):
    while not over.is_set():
        server.call("POST", "/v1/completions", body, KEY, connection=server.connect(context))


def worsen(gpu, over):
    """A GPU that takes power, and whose memory and driver have faults."""
    turn = 0
    while not over.wait(1):
        turn += 1
        gpu.say(energy=str(9000 + 1000 * turn), corrected=str(turn), uncorrected=str(turn), remapped="1 1 1 1",
                xids=" ".join(["79"] * min(turn, 25)))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        authority = Authority(folder / "ca")
        cert, key = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
        gpu = StandInGpu(folder / "gpu")
        (folder / "revoked.pem").write_text(authority.revocations())
        redis = Redis(folder)
        (folder / "password").write_text("secret\n")
        (folder / "key").write_text(KEY)
        (folder / "fails.lua").write_text(
            'function prompt(text) if text == "FAIL" then return deny(503, "as asked") end return text end')
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "audit.key")
        make_adapter(folder / "adapter", 1)
        demo = {"path": str(ROOT / "models/demo")}
        server = Server(folder, {
            "models": {"demo": {**demo, "lora": {"adapters": {"one": str(folder / "adapter")}, "max_rank": 4,
                                                 "max_host_adapters": 1, "max_adapters": 1},
                                # So large that some are preempted, whatever numbers the processor multiplies fast.
                                "engine": {"kv_dtype": "float32"}},
                       "full": {**demo, "engine": {"max_batch": 1, "max_queue": 1}, "fallback": ["demo"]},
                       "tiered": {**demo, "engine": {"kv_dtype": "float32", "kv_memory": "1MiB", "max_len": 256,
                                                     "kv_offload": "8MiB"}},
                       "on-gpu": {**demo, "engine": ENGINE}},  # of which nothing is asked
            "server": {"public": {"http": "127.0.0.1:0", "grpc": ""}, "state_dir": str(folder / "state")},
            "auth": {"api_key_file": "key"},
            "registry": {"aliases": "local"},
            "privacy": {"audit": {"enabled": True, "sign_key_file": "audit.key"}},
            "tls": {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.cert),
                    "client_crl_file": "revoked.pem"},
            "engine": {"threads": 1, "speculation": {"method": "ngram"}, "max_batch": 4, "max_len": 512,
                       "kv_memory": "4MiB"},
            "observe": {"log": "json", "legacy_names": True, "otlp": f"http://127.0.0.1:{free_port()}"},
            "tenants": {"*": {"rpm": 1000000, "parallel": 7}},
            "limits": {"shared": {"redis": f"127.0.0.1:{redis.port}", "password_file": "password"}},
            "guards": {"bounds": {"use": "limit", "max_tokens": 512},
                       "fails": {"use": "lua", "file": "fails.lua"},
                       "gone": {"use": "http", "url": f"http://127.0.0.1:{free_port()}/", "on_error": "skip"}},
            "chain": ["bounds", "fails", "gone"],
        }, env=gpu.environment)
        prometheus = Prometheus(folder, server.port, authority.cert)
        over = threading.Event()
        workers = [threading.Thread(target=load, args=(server, authority.context(), over)) for _ in range(8)]
        workers += [threading.Thread(target=beside, args=(server, authority.context(), body, over)) for body in BESIDE]
        for worker in workers:
            worker.start()
        try:
            server.wait(prometheus.scraped, "scraped", PATIENCE)
            workers.append(threading.Thread(target=worsen, args=(gpu, over)))  # whose counts end with so many faults
            workers[-1].start()
            check(prometheus, server)
        finally:
            over.set()
            for worker in workers:
                worker.join()
            prometheus.process.terminate()
            prometheus.process.wait(60)
            server.stop()
            redis.kill()


def check(prometheus, server):
    queries = []
    for path in sorted((ROOT / "deploy/grafana").glob("*.json")):
        board = path.stem.removeprefix("penstock-")
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                queries.append((board, panel["title"], target["expr"]))
    expect(len(queries) > 60, len(queries), "queries")
    queries += [("vLLM", query, query) for query in VLLM]
    groups = prometheus.ask("/api/v1/rules", type="record")["groups"]
    recorded = [rule["name"] for group in groups for rule in group["rules"]]
    expect(len(set(recorded)) == RULES.read_text().count("- record:") >= 6, "recording rules:", recorded)
    queries += [("recording rules", name, name) for name in recorded]
    rows = {row[:2] for row in queries}
    expect(set(ZERO) <= rows, "no such panel:", set(ZERO) - rows)
    missing, flat = queries, [row for row in queries if row[:2] not in ZERO]
    end = time.monotonic() + PATIENCE
    while missing or flat:
        missing = [row for row in missing if not prometheus.numbers(row[2])]
        flat = [row for row in flat if not any(value > 0 for value in prometheus.numbers(row[2]))]
        expect(time.monotonic() < end, len(missing), "queries without an answer:", *(f"\n  {row}" for row in missing),
               "\n", len(flat), "that are never above zero:", *(f"\n  {row}" for row in flat))
        if missing or flat:
            time.sleep(1)
    for row in queries:  # else it belongs among the others
        expect(row[:2] not in ZERO or not any(prometheus.numbers(row[2])), row, "is above zero")
    for old, new in (("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
                     ("vllm:time_per_output_token_seconds_count", "vllm:inter_token_latency_seconds_count")):
        server.wait(lambda: prometheus.numbers(f"{old} == ignoring(__name__) {new}"), f"{old} is {new}", PATIENCE)
    print(f"{len(queries)} queries have an answer, all above zero but those of what did not happen:")
    for (board, title), why in ZERO.items():
        print(f"  {board}: {title}: {why}")


main()
