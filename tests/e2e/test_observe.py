"""What a server tells about itself stays bounded and current, and what it does when it stands still."""

import concurrent.futures
import http.client
import json
import random
import re
import string
import subprocess
import threading
import time
import urllib.error
import urllib.request

from conftest import BINARY, DEMO, ROOT, SANITIZED


def post(server, path, body, timeout=120):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def series_of(page):
    return {line.rpartition(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}


def test_names_that_clients_make_up_become_no_series(serve):
    server = serve()
    before = series_of(server.get("/metrics"))
    count = 1000 if SANITIZED else 10_000
    source = random.Random(7)

    def ask(part):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for _ in range(part):
            name = "".join(source.choices(string.ascii_letters, k=12))
            body = json.dumps({"model": name, "prompt": "a", "user": name, "cache_salt": name})
            headers = {"Content-Type": "application/json", "X-Request-Id": name, "traceparent": name,
                       "Authorization": "Bearer " + name}
            connection.request("POST", source.choice(["/v1/completions", "/" + name]), body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404, answer.status

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, [count // 4] * 4))
    after = series_of(fresh(server))
    assert len(after) <= 5000 and after == before, after ^ before
    assert server.metric("penstock_requests_total", code="404") == count


def fresh(server):
    """A page that was made after this call: pages are kept for a quarter of a second."""
    time.sleep(0.26)
    return server.get("/metrics")


def test_every_counter_begins_at_zero(serve):
    server = serve("--set", "observe.otlp=http://127.0.0.1:9", "--set", "observe.legacy_names=true")
    page = server.get("/metrics")
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
    shown = {re.sub(r"_(bucket|sum|count)$", "", name.split("{")[0]) for name in series_of(page)}
    shown |= {name.split("{")[0] for name in series_of(page)}
    missing = {name for name, _ in rows} - shown
    # Those of certificates, aliases, adapters, links of a chain and GPUs are there where there are such.
    missing -= {name for name in missing if name.startswith("penstock_gpu_")}
    assert missing <= {
        "penstock_tls_cert_not_after_seconds", "penstock_tls_crl_next_update_seconds", "penstock_aliases_readable",
        "vllm:lora_requests_info",
        "penstock_chain_seconds", "penstock_chain_errors_total",
    }, missing
    for name, kind in rows:
        if kind != "counter" or "_cpu_seconds_" in name or name not in shown:
            continue
        values = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", page, re.M)
        assert values and all(float(v) == 0 for v in values), (name, values)
    codes = set(re.findall(r'penstock_requests_total{code="(\w+)"}', page))
    assert {"200", "400", "401", "403", "404", "408", "413", "429", "499", "500", "503", "other"} <= codes


def test_front_threads_say_what_they_spend(serve):
    server = serve()
    name = "penstock_front_cpu_seconds_total"
    parts = {part: server.metric(name, part=part) for part in
             ("http", "access", "json", "template", "tokenizer", "limits", "requests", "answers")}
    for i in range(50):
        assert post(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": f"{i} " * 300}],
                                                     "max_tokens": 4})[0] == 200
    for part, before in parts.items():
        assert server.metric(name, part=part) > before, part
    whole = server.metric("process_cpu_seconds_total")
    assert sum(server.metric(name, part=part) for part in parts) < whole


def test_pages_are_made_four_times_a_second_at_most(serve):
    """The process's CPU time is read for each page: pages that show the same were made once."""
    server = serve()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def page():
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    pages, began = [page()], time.monotonic()
    while time.monotonic() - began < 2 or len(pages) < 50:
        pages.append(page())
    elapsed = time.monotonic() - began
    made = 1 + sum(a != b for a, b in zip(pages, pages[1:]))
    assert 2 <= made <= 2 + 4 * elapsed and len(pages) > 1.5 * made, (made, len(pages), elapsed)
    # What has happened is on the page a quarter of a second later.
    before = server.metric("penstock_requests_total", code="404")
    post(server, "/v1/completions", {"model": "none", "prompt": "a"})
    assert server.metric("penstock_requests_total", code="404") == before + 1


def test_an_engine_that_stands_still_ends_the_process_with_70(serve, tmp_path):
    """A step that takes longer than limits.stall: here any does."""
    server = serve("--set", "limits.stall=1us", "--set", "engine.max_step_tokens=4096", "--set", "engine.itl_target=0s")
    over = threading.Event()

    def load():
        while not over.is_set():
            try:
                post(server, "/v1/completions", {"model": "demo", "prompt": [1] * 1500, "max_tokens": 200, "n": 8,
                                                 "ignore_eos": True})
            except (OSError, http.client.HTTPException):
                if server.process.poll() is not None:
                    return

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        server.until(lambda: server.process.poll() is not None, 120)
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
    code = server.process.returncode
    last = [line for line in server.log_lines() if "a new one is needed" in line["message"]]
    assert code == 70 and len(last) == 1, (code, server.log)
    assert "no step for" in last[0]["error"] and "limits.stall" in last[0]["error"]
    standing = [line for line in server.log_lines() if line["message"] == "where threads stand"]
    for name, place in (("engine", "EngineLoop::"), ("text", "TextLoop::Work"), ("http", "epoll")):
        assert any(re.search(rf"\d {name}\b", line["threads"]) and place in line["frames"] for line in standing), (
            name, standing)
    assert all(line["threads"] and line["state"] for line in standing), standing
    server.stop = lambda *a, **k: 0  # it has ended as it should


def run(*arguments, **options):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


def test_doctor_finds_a_sound_machine(tmp_path):
    # Of this machine three processes measure which kernels are fast, and may find differently.
    alike = ["--set", "engine.cpu_kernels=avx2", "--set", "engine.dtype=float32", "--set", "engine.kv_dtype=float32"]
    done = run("doctor", DEMO, "--json", *alike, "--set", f"server.state_dir={tmp_path}",
               "--set", "limits.max_connections=16")
    found = json.loads(done.stdout)
    by_check = {}
    for row in found:
        by_check.setdefault(row["check"], []).append(row)
    assert set(by_check) >= {"config", "disks", "limits", "clocks", "cpu", "memory"}, found
    assert not [row for row in found if row["finding"] == "fault"], found
    assert done.returncode in (0, 3), (done.returncode, found)
    plan = json.loads(run("plan", DEMO, "--json", *alike).stdout)["demo"]
    assert f"{plan['total_bytes'] // (1 << 20)} MiB of cpu" in json.dumps(found), (plan, found)
    assert f"up to {plan['grammar_bytes'] >> 20} MiB" in run("plan", DEMO, *alike).stdout, plan


def test_doctor_finds_what_is_wrong(tmp_path):
    def doctor(*arguments, **options):
        done = run("doctor", "--json", *arguments, **options)
        return done.returncode, {(r["check"], r["finding"]): r["text"] for r in json.loads(done.stdout)}

    code, found = doctor("--set", "limits.max_n=many")
    assert code == 1 and "limits.max_n" in found["config", "fault"], found
    (tmp_path / "file").write_text("")
    code, found = doctor("--set", f"server.state_dir={tmp_path}/file")
    assert code == 2 and "cannot be written" in found["disks", "fault"], found
    code, found = doctor("--set", "server.state_dir=/proc/penstock")
    assert code == 2 and "/proc/penstock" in found["disks", "fault"], found
    code, found = doctor("--set", "limits.max_connections=1000000", preexec_fn=few_files)
    assert code == 2 and "256" in found["limits", "fault"], found
    code, found = doctor(DEMO, "--set", "engine.kv_memory=900GiB", "--set", "limits.max_connections=16")
    assert code == 2 and "MiB" in found["memory", "fault"], found
    code, found = doctor("nobody/no-such-model", "--set", "limits.max_connections=16", env={"HF_HOME": str(tmp_path)})
    assert code == 3 and "no-such-model" in found["memory", "unknown"], found


def few_files():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def test_doctor_looks_at_certificates(tmp_path):
    def certificate(days):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", str(days), "-subj", "/CN=x", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
                       check=True, capture_output=True)
        done = run("doctor", "--json", "--set", f"tls.cert_file={tmp_path}/cert",
                   "--set", f"tls.key_file={tmp_path}/key", "--set", "limits.max_connections=16")
        rows = [r for r in json.loads(done.stdout) if r["check"] == "certificates"]
        return done.returncode, rows[0]["finding"]

    assert certificate(90)[1] == "ok"
    assert certificate(3)[1] == "warning"
    (tmp_path / "key").unlink()
    (tmp_path / "cert").write_text("no certificate")
    done = run("doctor", "--set", f"tls.cert_file={tmp_path}/cert", "--set", f"tls.key_file={tmp_path}/key")
    assert done.returncode == 2 and re.search(r"^fault +certificates", done.stdout, re.M), done.stdout


def test_tokenize_says_what_is_wrong_with_its_file(tmp_path):
    for path, words in ((DEMO, "is a folder"), (tmp_path / "none", "cannot be read")):
        done = run("tokenize", "--tokenizer", path, input="")
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_wrong_element_is_named(demo):
    for path, body, words in (
        ("/detokenize", {"tokens": [1, [2]]}, "tokens[1] must be a token id, got array"),
        ("/detokenize", {"tokens": [1, -2]}, "tokens[1] must be a token id, got -2"),
        ("/detokenize", {"tokens": "1"}, "tokens must be an array of token ids, got string"),
        ("/v1/completions", {"prompt": [1, 2, "3"]}, "prompt[2] must be a token id, got string"),
        ("/v1/completions", {"prompt": "a", "stop": ["a", 1.5]}, "stop[1] must be a string, got 1.5"),
    ):
        status, text = post(demo, path, {"model": "demo", **body})
        assert status == 400 and words in json.loads(text)["error"]["message"], text
