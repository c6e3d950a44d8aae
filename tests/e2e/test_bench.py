"""The benchmark suite beside what the server itself counts, and its results read again."""

import http.server
import json
import os
import pathlib
import pty
import re
import subprocess
import threading

import pytest
from conftest import BINARY, DEMO, ROOT, SANITIZED


def bench(*arguments, code=0):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def address(server):
    return server.url.removeprefix("http://")


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers with one token each; whoever asks the model `silent` hears nothing until the server ends."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "silent":
            self.server.ending.wait()
            return
        usage = {"prompt_tokens": 1, "completion_tokens": asked["max_tokens"]}
        body = json.dumps({"choices": [{"text": "a"}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    class Patient(http.server.ThreadingHTTPServer):
        request_queue_size = 1024
    server = Patient(("127.0.0.1", 0), Scripted)
    server.ending = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.ending.set()
    server.shutdown()
    thread.join()
    server.server_close()


SMALL = ["--set", "requests=12", "--set", "concurrency=3", "--set", "prompt_words=8", "--set", "max_tokens=6"]


def test_a_load_is_what_the_server_counted(serve, tmp_path):
    server = serve()
    out = tmp_path / "a.json"
    pid = ["--pid", server.process.pid]
    bench("bench", "serve", "--target", address(server), *SMALL, *pid, "--output", out, "--allow-busy-generator")
    file = json.loads(out.read_text())
    assert file["schema"] == "penstock.bench/1" and file["kind"] == "serve"
    assert file["machine"]["cores"] >= 1 and "+" in file["version"]
    [run] = file["runs"]
    result = run["result"]
    assert (result["ok"], result["failed"], result["completion_tokens"]) == (12, 0, 72)
    server.until(lambda: server.metric("vllm:generation_tokens_total", model_name="demo") == 72)
    assert server.metric("vllm:prompt_tokens_total", model_name="demo") == result["prompt_tokens"]
    assert result["ttft_seconds"]["count"] == 12 and result["e2e_seconds"]["p50"] >= result["ttft_seconds"]["p50"] > 0
    assert len(result["ttft_seconds"]["curve"]) == 101
    for times in ("ttft_seconds", "itl_seconds", "tpot_seconds", "e2e_seconds"):
        assert result[times]["curve"][-1] >= result[times]["p999"] >= result[times]["p99"] > 0, times
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    assert peak / 100 < result["server_rss_bytes"] <= 1.1 * peak  # the kernel counts in batches
    ticks = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")  # since the server began
    assert 0 <= result["server_cpu_ms_per_request"] * 12 / 1e3 <= used
    # Conversations are cached as far as they were said.
    chat = ["--set", "endpoint=chat", "--set", "turns=3", "--set", "prompt_words=40"]
    bench("bench", "serve", "--target", server.url, *SMALL, *chat, "--output", out, "--allow-busy-generator")
    [run] = json.loads(out.read_text())["runs"]
    assert run["result"]["ok"] == 12 and run["result"]["cached_tokens"] > 0
    cached = result["cached_tokens"] + run["result"]["cached_tokens"]
    server.until(lambda: server.metric("vllm:prompt_tokens_cached_total", model_name="demo") == cached)
    by_source = {source: server.metric("vllm:prompt_tokens_by_source_total", model_name="demo", source=source)
                 for source in ("local_compute", "local_cache_hit", "external_kv_transfer")}
    whole = server.metric("vllm:prompt_tokens_total", model_name="demo")
    assert by_source == {"local_compute": whole - cached, "local_cache_hit": cached, "external_kv_transfer": 0}
    # Without --pid nothing is known of the server's process.
    assert (run["result"]["server_cpu_ms_per_request"], run["result"]["server_rss_bytes"]) == (-1, -1)


def test_rounds_are_compared_and_reported(serve, tmp_path):
    server = serve()
    out, page = tmp_path / "two.json", tmp_path / "page.html"
    host, port = address(server).split(":")
    targets = ["--target", f"127.0.0.1:{port}", "--target", f"localhost:{port}"]
    bench("bench", "serve", *targets, *SMALL, "--rounds", 3, "--output", out, "--allow-busy-generator")
    rows = json.loads(bench("bench", "compare", out, "--json").stdout)
    # Where all of a round's answers came in one piece each, nothing is between their tokens.
    rounds = {row["metric"]: row["rounds"] for row in rows["ratios"]}
    assert rows["interleaved"] and max(rounds.values()) == 3
    assert {metric for metric, n in rounds.items() if n < 3 and not metric.startswith("itl_")} == set(), rounds
    assert not [w for w in rows["warnings"] if w["kind"] != "generator"]
    assert {"ttft_seconds.p50", "output_tokens_per_second"} <= {row["metric"] for row in rows["ratios"]}
    bench("bench", "report", out, "--output", page)
    text = page.read_text()
    assert text.count("<svg") >= 3 and "http://" not in text and "<script" not in text
    assert "| scenario |" in bench("bench", "report", out).stdout


def test_refusals_name_what_is_wrong(serve, tmp_path):
    server = serve()
    said = bench("bench", "sweep", "--target", address(server), code=1).stderr
    assert "goal_ttft" in said
    assert "rate: expected a number from 0" in bench("bench", "serve", "--set", "rate=fast", code=1).stderr
    assert "expected host:port or a URL" in bench("bench", "serve", "--target", "nowhere", code=1).stderr
    assert "nobody.invalid: " in bench("bench", "serve", "--target", "https://nobody.invalid/v1", code=1).stderr
    other = tmp_path / "other.json"
    other.write_text('{"schema": "penstock.bench/0", "runs": [1]}')
    assert "penstock.bench/0" in bench("bench", "report", other, code=1).stderr
    gone = bench("bench", "serve", "--target", "127.0.0.1:1", code=1).stderr
    assert "no server answers on 127.0.0.1:1" in gone
    assert "--pid: no process 4194305" in bench("bench", "serve", "--pid", 2**22 + 1, code=1).stderr
    several = ["--pid", server.process.pid, "--pid", server.process.pid]
    assert "--pid: 2 for 1 targets" in bench("bench", "sweep", "--target", address(server), *several, code=1).stderr
    twice = ["--target", address(server), "--target", server.url + "/v1"]
    assert f"--target: {address(server)} twice" in bench("bench", "serve", *twice, code=1).stderr
    scenarios = tmp_path / "s.yaml"
    scenarios.write_text("- {name: a}\n- {name: b}\n")
    same = bench("bench", "serve", scenarios, "--target", address(server), "--set", "name=c", code=1).stderr
    assert "name: 'c' is that of two scenarios" in same
    nobody = ["--set", "model=nobody", "--allow-busy-generator"]
    told = bench("bench", "serve", "--target", address(server), *SMALL, *nobody, code=2)
    assert "http_404 12" in told.stdout and "  12 " in told.stdout
    assert "no request succeeded in" in told.stderr and "nobody" in told.stderr


def test_what_was_measured_is_kept_where_a_later_run_fails(scripted, tmp_path):
    scenarios, out = tmp_path / "s.yaml", tmp_path / "out.json"
    flags = ["--target", scripted, "--output", out, "--allow-busy-generator"]
    some = "requests: 4, concurrency: 2, prompt_words: 4, max_tokens: 4, stream: false"
    rows = [f"- {{name: answered, model: any, {some}}}",
            f"- {{name: hung, model: silent, timeout_seconds: 1, {some}}}",
            f"- {{name: after, model: any, {some}}}"]
    scenarios.write_text("\n".join(rows))
    told = bench("bench", "serve", scenarios, *flags, code=2)
    assert "timeout 2" in told.stdout and "timeout_seconds ended the run" in told.stdout
    assert "no request succeeded in hung: timeout" in told.stderr
    results = {run["scenario"]["name"]: run["result"] for run in json.loads(out.read_text())["runs"]}
    assert {name: result["ok"] for name, result in results.items()} == {"answered": 4, "hung": 0, "after": 4}
    assert results["hung"]["failures"] == {"timeout": 2} and results["hung"]["out_of_time"]
    assert not results["after"]["out_of_time"]
    # Nor does an error lose what was measured before.
    out.unlink()
    scenarios.write_text("\n".join([rows[0], f"- {{name: replay, trace: nowhere.csv, model: any, {some}}}"]))
    told = bench("bench", "serve", scenarios, *flags, code=1)
    assert "nowhere.csv: cannot be read" in told.stderr
    assert [run["scenario"]["name"] for run in json.loads(out.read_text())["runs"]] == ["answered"]
    # Where none ended there is nothing to keep.
    out.unlink()
    scenarios.write_text(f"- {{name: replay, trace: nowhere.csv, model: any, {some}}}")
    bench("bench", "serve", scenarios, *flags, code=1)
    assert not out.exists()


def test_a_busy_generator_is_said(scripted):
    # All are due at once, and the words of so many prompts take longer than the generator may be late.
    flags = ["--target", scripted, "--set", "model=any", "--set", "requests=100", "--set", "rate=1000000",
             "--set", "prompt_words=100000", "--set", "stream=false"]
    told = bench("bench", "serve", *flags, code=2)
    assert "the load generator was the bottleneck: these figures are not the server's" in told.stderr
    assert "requests left up to" in told.stdout and "failures" not in told.stdout
    told = bench("bench", "serve", *flags, "--allow-busy-generator")
    assert "the load generator was the bottleneck" in told.stdout


def test_the_limit_of_files_is_raised_and_what_lacks_them_is_said(scripted, tmp_path):
    out = tmp_path / "out.json"
    flags = ["bench", "serve", "--target", scripted, "--set", "model=any", "--set", "requests=200", "--output", out,
             "--set", "concurrency=100", "--set", "stream=false", "--set", "prompt_words=4"]

    def limited(kind):
        command = ["bash", "-c", f'ulimit -{kind}n 40; exec "$@"', "-", BINARY, *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return done, json.loads(out.read_text())["runs"][0]["result"]
    done, result = limited("S")
    assert result["failures"] == {}, done.stdout + done.stderr
    done, result = limited("")
    assert done.returncode == 2 and list(result["failures"]) == ["generator"], done.stdout + done.stderr
    assert result["generator"]["bottleneck"] and "generator: Too many open files" in done.stdout
    assert "the load generator was the bottleneck" in done.stderr


def test_a_sweep_finds_a_rate(serve, tmp_path):
    server = serve()
    out = tmp_path / "sweep.json"
    # A goal that any answer keeps: the sweep ends where all requests are in flight at once.
    flags = ["--set", "goal_e2e=100", "--set", "rate=20", "--set", "request_timeout=100"]
    for _ in range(20):  # where the machine does other things, the generator itself may be late
        told = bench("bench", "sweep", "--target", address(server), *SMALL, *flags, "--output", out, code=None)
        runs = json.loads(out.read_text())["runs"]
        if runs[0]["ended_by"] != "generator":
            break
    assert told.returncode == 0 and "take more of them" in told.stdout, told.stdout + told.stderr
    assert runs[0]["kept"] and runs[0]["best_rate"] >= 20
    assert runs[0]["result"]["good_requests_per_second"] > 0


@pytest.mark.skipif(SANITIZED, reason="measures what a sanitizer slows tenfold")
def test_the_machine_and_the_engine_are_measured(tmp_path):
    out = tmp_path / "kernels.json"
    names = "^linear/int8/gate_up/m:1$|^attention/int8/decode:1/"
    bench("bench", "kernels", "--filter", names, "--seconds", 0.01, "--output", out)
    file = json.loads(out.read_text())
    measured = [run["scenario"]["name"] for run in file["runs"]]
    assert measured == ["linear/int8/gate_up/m:1", "attention/int8/decode:1/context:512"]
    for run in file["runs"]:
        result = run["result"]
        roof = file["limits"][f"{result['arithmetic']}_gops"]
        assert result["of_arithmetic"] == pytest.approx(result["gops"] / roof, rel=1e-6)
    arithmetic = [run["result"]["arithmetic"] for run in file["runs"]]
    assert arithmetic[0] in ("byte", "word") and arithmetic[1] in ("float", "bf16")
    assert file["limits"]["byte_gops"] > file["limits"]["float_gops"], "an instruction multiplies more of them"
    assert "nothing is called" in bench("bench", "kernels", "--filter", "nothing", code=1).stderr
    bench("bench", "offline", DEMO, "--requests", 8, "--output-tokens", 8, "--rounds", 2, "--output", out)
    rounds = json.loads(out.read_text())["runs"]
    assert [r["result"]["ok"] for r in rounds] == [8, 8]
    assert "expected at most" in bench("bench", "offline", DEMO, "--prompt-tokens", 99999, code=1).stderr


@pytest.mark.skipif(not os.environ.get("PENSTOCK_QUIET"), reason="times are judged where nothing else runs")
def test_no_kernel_is_above_its_roof(tmp_path):
    out = tmp_path / "kernels.json"
    names = "^linear/.*/(gate_up|o)/m:(1|256)$|^attention/"
    bench("bench", "kernels", "--filter", names, "--seconds", 0.1, "--output", out)
    file = json.loads(out.read_text())
    shares = {run["scenario"]["name"]: (run["result"]["of_arithmetic"], run["result"]["of_memory"])
              for run in file["runs"]}
    assert len(shares) >= 35
    assert not {name: pair for name, pair in shares.items() if max(pair) > 1.15}, file["limits"]


def on_a_terminal(*arguments):
    """What a command writes to standard error where that is a terminal; standard output is none."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as ours:
        with subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=theirs) as process:
            os.close(theirs)
            told = b""
            try:
                while some := ours.read(65536):
                    told += some
            except OSError:  # EIO: the last writer is gone
                pass
        assert process.returncode == 0, told
    return told.decode()


def test_what_takes_long_shows_how_far_it_is(serve, tmp_path):
    server, text, probes = serve(), tmp_path / "text.txt", tmp_path / "probes.jsonl"
    text.write_text("The sea was calm. " * 300)
    probes.write_text('{"prompt": "a", "max_tokens": 2, "check": "regex", "answer": ".*"}\n' * 2)
    measured = {
        "kernels": ["bench", "kernels", "--filter", "linear/int8/o/m:[14]$", "--seconds", 0.001],
        "offline": ["bench", "offline", DEMO, "--requests", 4, "--output-tokens", 4, "--rounds", 1],
        "eval": ["eval", DEMO, "--text", text, "--tokens", 64, "--window", 32],
        "eval ": ["eval", "--server", address(server), "--text", text, "--windows", 2],
        "probes": ["eval", "--server", address(server), "--probes", probes],
    }
    for name, command in measured.items():
        total = 4 if name == "offline" else 2
        told = on_a_terminal(*command)
        assert f"\r\x1b[K{name.strip()} [{'':24}] 0/{total}" in told, (name, told)
        assert told.endswith("\r\x1b[K"), "the line is gone at the end"
        if name != "offline":
            assert f"[{'#' * 12:24}] 1/2" in told, (name, told)
    for command in measured.values():
        assert bench(*command).stderr == "", "nothing where it is no terminal"


def test_every_result_has_one_head(serve, tmp_path, monkeypatch):
    server, out, text = serve(), tmp_path / "out.json", tmp_path / "text.txt"
    text.write_text("The sea was calm. " * 200)
    flags = ["--rounds", 2, "--output", out, "--allow-busy-generator"]
    bench("bench", "serve", "--target", address(server), *SMALL, *flags)
    file = json.loads(out.read_text())

    def check(result, *schema):  # and kind
        head = ["schema", "kind"][:len(schema)]
        assert list(result)[:len(head) + 3] == [*head, "version", "time", "machine"]
        assert [result[key] for key in head] == list(schema) and result["version"] == file["version"]
        assert list(result["machine"]) == ["cpu", "cores", "memory_bytes", "kernel", "host"]
        assert all(result["machine"][key] == file["machine"][key] for key in ("cpu", "kernel", "host"))
    check(file, "penstock.bench/1", "serve")
    check(json.loads(bench("bench", "compare", out, out, "--json").stdout), "penstock.bench/1", "compare")
    whole = ["eval", DEMO, "--text", text, "--tokens", 64, "--window", 32, "--json"]
    served = ["eval", "--server", address(server), "--text", text, "--windows", 1, "--json"]
    for command in (whole, served):
        check(json.loads(bench(*command).stdout), "penstock.bench/1", "eval")
    monkeypatch.syspath_prepend(ROOT / "benchmarks/serving")
    from head import keep
    keep(out, "some", BINARY, {"rows": [1]})
    kept = json.loads(out.read_text())
    check(kept, "penstock.benchmarks.some/1")
    assert kept["rows"] == [1]
    assert "its schema is \"penstock.benchmarks.some/1\"" in bench("bench", "report", out, code=1).stderr


def test_quality_of_servers(serve, tmp_path):
    plain, coarse = serve(), serve("--set", "engine.quantize=int4-128")
    text = tmp_path / "text.txt"
    text.write_text("The sea was calm and the captain looked at the stars for a long time. " * 90)
    def judge(server, reference):
        done = bench("eval", "--server", address(server), "--reference-server", address(reference),
                     "--text", text, "--windows", 2, "--json")
        return json.loads(done.stdout)
    same = judge(plain, plain)
    assert same["least_mean_kl"] == pytest.approx(0, abs=1e-9) and same["same_top1"] == 1
    assert same["perplexity"] == same["reference_perplexity"] > 1 and same["predictions"] > 100
    rounded = judge(coarse, plain)
    assert rounded["least_mean_kl"] > 1e-6 and rounded["perplexity"] != rounded["reference_perplexity"]

    probes, kept = tmp_path / "probes.jsonl", tmp_path / "kept.jsonl"
    probes.write_text('{"prompt": "Tell me of the sea.", "max_tokens": 24}\n')
    bench("eval", "--server", address(plain), "--probes", probes, "--keep-probes", kept)
    assert json.loads(kept.read_text())["answer"]
    assert "1 of 1" in bench("eval", "--server", address(plain), "--probes", kept).stdout
    answer = json.loads(kept.read_text())["answer"]
    several = [{"check": "regex", "answer": "\\w+"}, {"check": "nll<=12", "answer": answer}, {"check": "token_hash"},
               {"check": "json"}, {"check": "choice", "choices": [answer.split()[0], "qqq"], "answer": "qqq"},
               {"check": "nll<=0.0001", "answer": answer}]
    probes.write_text("\n".join(json.dumps({"prompt": "Tell me of the sea.", "max_tokens": 24} | p) for p in several))
    bench("eval", "--server", address(plain), "--probes", probes, "--keep-probes", kept, "--floor", 0.5)
    assert len(json.loads(kept.read_text().splitlines()[2])["answer"]) == 64
    done = bench("eval", "--server", address(plain), "--probes", kept, "--json", "--floor", 0.6, code=2)
    assert json.loads(done.stdout)["passed"] == 3
    # Other weights give other tokens.
    done = bench("eval", "--server", address(coarse), "--probes", kept, "--json", "--floor", 0)
    assert json.loads(done.stdout)["passed"] == 2
    kept.write_text(json.dumps({"prompt": "Tell me of the sea.", "max_tokens": 24, "answer": answer}))
    changed = json.loads(kept.read_text())
    changed["answer"] = changed["answer"][:5] + "#" + changed["answer"][5:]
    kept.write_text(json.dumps(changed))
    assert "byte 5" in bench("eval", "--server", address(plain), "--probes", kept, code=2).stderr
    kept.write_text('{"prompt": 3}')
    assert "kept.jsonl:1: prompt: expected a string" in bench(
        "eval", "--server", address(plain), "--probes", kept, code=1).stderr
