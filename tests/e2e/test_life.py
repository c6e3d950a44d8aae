"""From the first answer while loading to the last while leaving, as balancers and supervisors see it."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import BINARY, DEMO, MANY, SANITIZED, Server


def code_and_body(url, data=None):
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def kept_alive(port, body):
    """Of a client that would ask again on the same connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def agent(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        return s.makefile().read()


def stream_of(server, tokens, n=1):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    stream = client.completions.create(
        model="demo", prompt="Once", max_tokens=tokens, n=n, stream=True, temperature=0,
        extra_body={"ignore_eos": True},
    )
    next(stream)
    return stream


def test_says_how_far_loading_is(tmp_path):
    """A model from a pipe that nobody writes to yet never gets further than loading."""
    port = free_port()
    folder = tmp_path / "model"
    folder.mkdir()
    os.mkfifo(folder / "config.json")
    process = subprocess.Popen(
        [BINARY, "serve", str(folder), "--port", str(port), "--set", "server.public.grpc="],
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                code, body, headers = code_and_body(f"http://127.0.0.1:{port}/ready")
                break
            except OSError:
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.01)
        assert code == 503 and headers["Retry-After"]
        state = json.loads(body)
        expected = {"status": "loading", "phase": "weights", "model": "model", "models": 1}
        assert {key: state[key] for key in expected} == expected
        assert code_and_body(f"http://127.0.0.1:{port}/health")[0] == 503
        code, body, _ = code_and_body(f"http://127.0.0.1:{port}/v1/completions", b"{}")
        assert code == 503 and "loading" in json.loads(body)["error"]["message"]
    finally:
        process.kill()
        process.wait()


def test_a_model_whose_numbers_are_none_is_never_ready(tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(DEMO, folder)
    weights = folder / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    size = int.from_bytes(whole[:8], "little")
    begin, end = json.loads(whole[8 : 8 + size])["model.norm.weight"]["data_offsets"]
    whole[8 + size + begin : 8 + size + end] = b"\xff" * (end - begin)
    weights.write_bytes(whole)
    ended = subprocess.run([BINARY, "serve", str(folder), "--port", "0", "--set", "server.public.grpc="],
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode not in (0, -6, -11)
    assert f"model broken ({folder}): the model computes no finite number" in ended.stderr


BODY = b'{"model":"demo","prompt":"a","max_tokens":1}'


def test_while_it_announces_that_it_leaves_it_takes_requests(serve):
    server = serve("--set", "drain.announce=600s", "--set", "server.agent_check=127.0.0.1:0")
    port = json.loads(server.ready_file.read_text())["agent_check"]
    assert agent(port) == "up ready maxconn:1280\n"
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: code_and_body(server.url + "/ready")[0] == 503)
    assert agent(port) == "drain\n"
    code, headers = kept_alive(server.port, BODY)
    assert code == 200 and headers["Connection"] != "close"
    assert code_and_body(server.url + "/health")[0] == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == -signal.SIGTERM


def refusal_while_it_leaves(server, port):
    """(its headers, what the agent says); None: what ran was over so soon that the server ended before."""
    while server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            code, headers = kept_alive(server.port, BODY)
            if code == 503:
                return headers, agent(port)
    return None


def test_behind_the_announcement_it_takes_none_and_ends_those_that_run(serve):
    for _ in range(20):
        server = serve(
            "--set", "drain.announce=50ms", "--set", "drain.finish=110s",
            "--set", "engine.speculation.method=off",
            "--set", "server.agent_check=127.0.0.1:0",
        )
        port = json.loads(server.ready_file.read_text())["agent_check"]
        stream = stream_of(server, 200 if SANITIZED else 1900, n=16)
        server.process.send_signal(signal.SIGTERM)
        refused = refusal_while_it_leaves(server, port)
        assert list(stream)[-1].choices[0].finish_reason == "length"
        assert server.process.wait(120) == 0
        if refused:
            break
    headers, told = refused
    assert headers["Retry-After"] and headers["Connection"] == "close" and told == "drain\n"


def test_what_outlasts_the_drain_ends_with_an_error(serve):
    server = serve("--set", "drain.finish=10ms", "--set", "engine.speculation.method=off")
    stream = iter(stream_of(server, MANY, n=16))
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    assert server.process.wait(60) == 0
    (line,) = server.logged(message="request")
    assert line["code"] == 503 and line["finish"] == "abort" and line["completion_tokens"] > 0, line


def test_an_interrupt_does_not_announce(serve):
    server = serve("--set", "drain.announce=60s")
    began = time.monotonic()
    assert server.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 30


def test_the_page_for_balancers(serve):
    server = serve()
    stream = stream_of(server, 1500, n=16)

    def page():
        lines = server.get("/metrics/lb").splitlines()
        samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name.split("{")[0]: float(value) for name, value in samples}

    # The engine hands out a step's tokens before it counts the step.
    pages = []

    def has_one_that_runs():
        pages.append(page())
        return pages[-1]["vllm:num_requests_running"] >= 1

    server.until(has_one_that_runs)
    value = pages[-1]
    assert sorted(value) == sorted(
        [
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "vllm:cache_config_info",
            "vllm:lora_requests_info",
            "penstock_ready",
            "penstock_draining",
            "penstock_queue_predicted_wait_seconds",
            "penstock_last_step_timestamp_seconds",
        ]
    )
    assert value["penstock_ready"] == 1
    assert 0 < value["vllm:kv_cache_usage_perc"] < 1
    assert abs(value["penstock_last_step_timestamp_seconds"] - time.time()) < 5
    stream.close()


class Supervisor:
    """The other end of systemd's protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            self.lines += self.socket.recv(4096).decode().splitlines()


def test_the_supervisor_is_told(tmp_path):
    path = tmp_path / "notify"
    supervisor = Supervisor(path)
    server = Server(tmp_path, env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"})
    server.until(lambda: "READY=1" in supervisor.lines)
    server.until(lambda: supervisor.lines.count("WATCHDOG=1") >= 3)
    assert server.stop() == 0
    server.until(lambda: "STOPPING=1" in supervisor.lines)


def test_a_bad_agent_address(tmp_path):
    result = subprocess.run(
        [BINARY, "serve", DEMO, "--port", "0", "--set", "server.agent_check=here"],
        capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 1 and "server.agent_check" in result.stderr
