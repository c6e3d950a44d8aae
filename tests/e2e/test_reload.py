"""A configuration that changes while the server runs: taken whole, or not at all."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import BINARY, DEMO, SANITIZED

BASE = f"""
models:
  demo:
    path: {DEMO}
"""


def post(server, body, path="/v1/completions", key=None):
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(server.url + path, body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def ask(server, n, key=None):
    return post(server, '{"model":"demo","prompt":"a","max_tokens":1,"n":%d}' % n, key=key)


def replace(path, text):
    """As editors do: a new file takes the name."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


def configured(serve, path, text, *arguments):
    path.write_text(BASE + text)
    return serve("--config", str(path), *arguments, model=None)


def info(server):
    return [k for k in server.metrics() if k.startswith("penstock_config_hash_info")]


def test_a_changed_file_is_taken(serve, tmp_path):
    config = tmp_path / "penstock.yaml"
    server = configured(serve, config, "limits: {max_n: 2}\n")
    assert ask(server, 3) == 400
    before = info(server)
    replace(config, BASE + "limits: {max_n: 3}\n")
    server.until(lambda: ask(server, 3) == 200)
    (line,) = server.logged(message="configuration taken", cause="file")
    assert line["changed"] == "limits.max_n"
    after = info(server)
    assert len(before) == len(after) == 1 and before != after
    assert server.metric("penstock_config_last_reload_success") == 1
    config.write_text(BASE + "limits: {max_n: 2}\n")  # in place, back to what it was
    server.until(lambda: ask(server, 3) == 400)
    server.until(lambda: info(server) == before)


def test_a_change_while_models_load_is_taken_when_they_have(serve, tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(BASE + "limits: {max_n: 1}\n")
    server = serve("--config", str(path), "--allow-anonymous", model=None, wait=False)
    server.until(lambda: "no API key is asked for" in server.log)  # the file has been read
    path.write_text(BASE + "limits: {max_n: 3}\n")
    server.wait_ready()
    server.until(lambda: ask(server, 2) == 200)


def test_is_read_once_for_each_change(serve, tmp_path):
    """Neither what changes beside it nor the watching itself has it read again."""
    config = tmp_path / "penstock.yaml"
    server = configured(serve, config, "observe: {level: debug}\n")
    replace(config, BASE + "observe: {level: debug}\nlimits: {max_n: 3}\n")
    server.logged(message="configuration taken", cause="file")
    for i in range(20):
        (tmp_path / "beside.log").write_text(str(i))
        time.sleep(0.05)
    replace(config, BASE + "observe: {level: debug}\nlimits: {max_n: 4}\n")
    server.until(lambda: ask(server, 4) == 200)
    server.until(lambda: len(server.logged(message="configuration taken")) >= 2)
    assert len(server.logged(message="configuration taken")) == 2


def test_a_mounted_folder_is_swapped(serve, tmp_path):
    """As a ConfigMap: the file is a link through a link that is replaced."""
    for version, n in (("v1", 2), ("v2", 3)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "penstock.yaml").write_text(BASE + f"limits: {{max_n: {n}}}\n")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "penstock.yaml").symlink_to("..data/penstock.yaml")
    server = serve("--config", str(tmp_path / "penstock.yaml"), model=None)
    assert ask(server, 3) == 400
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    server.until(lambda: ask(server, 3) == 200)


@pytest.mark.parametrize(
    "text, part",
    [
        ("limits: {max_m: 3}\n", "did you mean 'max_n'"),
        ("limits: {max_n: many}\n", "limits.max_n"),
        ("limits: [\n", "penstock.yaml:"),
        ("limits: {max_n: 3}\nserver: {io_threads: 2}\n", "restart_required: server.io_threads"),
        ("limits: {max_n: 3}\nengine: {max_batch: 8}\n", "models.demo.engine.max_batch"),
        ("auth: {api_key_file: missing}\n", "missing"),
    ],
)
def test_a_bad_file_changes_nothing(serve, tmp_path, text, part):
    config = tmp_path / "penstock.yaml"
    server = configured(serve, config, "limits: {max_n: 2}\n")
    before = info(server)
    config.write_text(BASE + text)
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: "not taken" in server.log)
    line = server.logged(message="configuration not taken, the old one stays")[0]
    assert part in line["error"], line
    assert ask(server, 2) == 200 and ask(server, 3) == 400
    assert server.metric("penstock_config_last_reload_success") == 0
    assert info(server) == before
    config.write_text(BASE + "limits: {max_n: 3}\n")
    server.until(lambda: ask(server, 3) == 200)
    assert server.metric("penstock_config_last_reload_success") == 1


def test_keys_come_and_go(serve, tmp_path):
    config, keys = tmp_path / "penstock.yaml", tmp_path / "keys"
    keys.write_text("old-key\n")
    server = configured(serve, config, "auth: {api_key_file: keys}\n")
    assert ask(server, 1, "old-key") == 200 and ask(server, 1, "new-key") == 401
    keys.write_text("old-key\nnew-key\n")
    server.until(lambda: ask(server, 1, "new-key") == 200)
    assert ask(server, 1, "old-key") == 200
    keys.write_text("new-key\n")
    server.until(lambda: ask(server, 1, "old-key") == 401)
    assert ask(server, 1, "new-key") == 200
    assert "new-key" not in server.log and "old-key" not in server.log


def test_the_level_of_the_log(serve, tmp_path):
    config = tmp_path / "penstock.yaml"
    server = configured(serve, config, "observe: {level: info}\n")

    def level(text, request_id):
        before = info(server)
        config.write_text(BASE + f"observe: {{level: {text}}}\n")
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: info(server) != before)
        body = {"model": "demo", "prompt": "a", "max_tokens": 1, "request_id": request_id}
        assert post(server, json.dumps(body)) == 200

    level("error", "quiet")
    level("info", "loud")
    server.logged(message="request", request_id="loud")
    assert not [line for line in server.log_lines() if line.get("request_id") == "quiet"]


def test_running_requests_keep_what_they_began_with(serve, tmp_path):
    config = tmp_path / "penstock.yaml"
    server = configured(serve, config, "limits: {max_n: 4}\n")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    stream = client.completions.create(
        model="demo", prompt="Once", n=4, max_tokens=1900, stream=True,
        extra_body={"ignore_eos": True},
    )
    next(stream)
    config.write_text(BASE + "limits: {max_n: 1}\n")
    server.until(lambda: ask(server, 2) == 400)
    ends = [c.choices[0].finish_reason for c in stream if c.choices and c.choices[0].finish_reason]
    assert ends == ["length"] * 4


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def hash_in_force(admin):
    """By the admin socket, whose answers are of this moment, as pages of metrics are not."""
    connection = http.client.HTTPConnection("admin")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(admin))
    connection.request("GET", "/admin/v1/config")
    try:
        return json.load(connection.getresponse())["hash"]
    finally:
        connection.close()


def percentile(values, share):
    return sorted(values)[int(len(values) * share)]


def test_many_reloads_under_load_lose_nothing(serve, tmp_path):
    """PENSTOCK_RELOADS sets how many (the limits are of 10,000). Stretches with reloads take turns with quiet ones, so
    that what else the machine does falls on the latencies of both."""
    reloads = int(os.environ.get("PENSTOCK_RELOADS", "60" if SANITIZED else "500"))
    stretch = max(10, min(100, reloads // 10))
    config = tmp_path / "penstock.yaml"
    (tmp_path / "beside").mkdir()
    admin = tmp_path / "admin.sock"
    rest = f"observe: {{level: error}}\nserver: {{admin: {{unix: {admin}}}}}\n"
    server = configured(serve, config, "limits: {max_n: 2}\n" + rest)
    codes, stop, reloading = set(), threading.Event(), threading.Event()
    took = {True: [], False: []}  # while reloads went on, and while none did

    def load():
        while not stop.is_set():
            during, began = reloading.is_set(), time.monotonic()
            codes.add(ask(server, 1))
            if during == reloading.is_set():
                took[during].append(time.monotonic() - began)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    seconds, count = [], 0

    def reload(path=config, least=0):
        """What is written elsewhere is no reload, but takes of this process and of the machine what one takes."""
        nonlocal count
        count += path == config
        was = hash_in_force(admin)
        began = time.monotonic()
        replace(path, BASE + f"limits: {{max_n: {3 + count % 2}}}\n" + rest)
        while hash_in_force(admin) == was if path == config else time.monotonic() - began < least:
            assert time.monotonic() - began < 10
            if path != config:
                hash_in_force(admin)
            time.sleep(0.002)
        return time.monotonic() - began

    try:
        for _ in range(stretch):  # what is made once
            reload()
        before = resident(server)
        while len(seconds) < reloads:
            reloading.set()
            some = [reload() for _ in range(min(stretch, reloads - len(seconds)))]
            reloading.clear()
            seconds += some
            for least in some[:stretch // 2]:
                reload(tmp_path / "beside" / "penstock.yaml", least)
        after = resident(server)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == {200}
    beside, quiet = percentile(took[True], 0.99), percentile(took[False], 0.99)
    print(
        f"{reloads} reloads, {len(took[True]) + len(took[False])} requests; seen after p50"
        f" {percentile(seconds, 0.5) * 1e3:.0f} ms, p99 {percentile(seconds, 0.99) * 1e3:.0f} ms; p99 of requests"
        f" {beside * 1e3:.1f} ms beside reloads, {quiet * 1e3:.1f} ms without; resident {before:.1f} to {after:.1f} MiB"
    )
    if not SANITIZED:
        assert after - before < 5, (before, after)
    if os.environ.get("PENSTOCK_QUIET"):  # nothing else runs on the machine
        assert beside < max(0.020, 1.5 * quiet), (beside, quiet)
        assert percentile(seconds, 0.99) < 0.1, percentile(seconds, 0.99)


def test_without_a_file_sighup_is_harmless(serve):
    server = serve()
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert ask(server, 1) == 200


def check_config(config, socket_path):
    return subprocess.run([BINARY, "check-config", str(config), "--against-running", str(socket_path)],
                          capture_output=True, text=True, timeout=60)


def test_what_a_file_would_change_in_the_running_server(serve, tmp_path):
    config, admin, other = tmp_path / "penstock.yaml", tmp_path / "admin.sock", tmp_path / "other.yaml"
    rest = f"server: {{admin: {{unix: {admin}}}, ready_file: {tmp_path}/0/ready.json}}\nobserve: {{log: json}}\n"
    server = configured(serve, config, "limits: {max_n: 2}\n" + rest)
    shown = subprocess.run([BINARY, "admin", "config", "--socket", str(admin)], capture_output=True, text=True)
    values = json.loads(shown.stdout)["values"]

    def against(text):
        other.write_text(BASE + text)
        done = check_config(other, admin)
        lines = done.stdout.splitlines()
        # The server's own flags are no part of the file.
        return done.returncode, [line for line in lines if line.split(":")[0] not in FLAGS], done.stderr

    assert values["limits.max_n"] == "2"
    same = check_config(config, admin)
    FLAGS = {line.split(":")[0] for line in same.stdout.splitlines()}
    assert "limits.max_n" not in FLAGS and not any(flag.startswith("models") for flag in FLAGS), same.stdout
    code, lines, _ = against("limits: {max_n: 7}\n" + rest)
    assert lines == ["limits.max_n: 2 -> 7"]
    code, lines, _ = against("limits: {max_n: 2}\nengine: {max_batch: 8}\n" + rest)
    assert code == 1 and lines and all(line.endswith("-> 8 (needs a restart)") for line in lines), lines
    code, lines, error = against("limits: {max_m: 7}\n" + rest)
    assert code == 1 and not lines and "did you mean 'max_n'" in error
    assert ask(server, 2) == 200 and ask(server, 3) == 400, "asking has changed nothing"
    # A change that it calls live is one that a reload takes.
    replace(config, BASE + "limits: {max_n: 7}\n" + rest)
    server.until(lambda: ask(server, 7) == 200)
    assert "limits.max_n" not in check_config(config, admin).stdout
    missing = check_config(config, tmp_path / "none.sock")
    assert missing.returncode == 4 and "none.sock" in missing.stderr
