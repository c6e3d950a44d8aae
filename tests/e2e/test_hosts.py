"""Host: what a page of another name sends a server on loopback that asks for no key (DNS rebinding)."""

import json
import socket

import pytest
from conftest import DEMO
from test_wire import read_answer

ASK = json.dumps({"model": "demo", "prompt": "Once", "max_tokens": 1,
                  "messages": [{"role": "user", "content": "Hi"}]}).encode()


def ask(server, method, path, host, version="1.1", headers=""):
    head = f"{method} {path} HTTP/{version}\r\n" + (f"Host: {host}\r\n" if host else "") + headers
    body = ASK if method == "POST" else b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall((head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
        status, headers, text, _ = read_answer(sock)
        return status, headers, text


ROUTES = [("POST", "/v1/completions"), ("POST", "/v1/messages"), ("GET", "/v1/models"), ("GET", "/health"),
          ("GET", "/"), ("GET", "/metrics"), ("GET", "/nothing"), ("OPTIONS", "/v1/models")]


@pytest.mark.parametrize("method,path", ROUTES)
def test_a_name_that_is_none_of_the_servers_gets_nothing(demo, method, path):
    for host in ("evil.example", f"evil.example:{demo.port}", "localhost.evil.example", "x" * 5000):
        status, headers, text = ask(demo, method, path, host)
        assert status == 421, (method, path, host, text)
        error = json.loads(text)["error"]
        assert "server.allowed_hosts" in error["message"] and len(text) < 1000
        assert "access-control-allow-origin" not in headers


def test_its_own_names_do(demo):
    for host in ("localhost", f"localhost:{demo.port}", f"127.0.0.1:{demo.port}", "[::1]:1",
                 "demo.localhost", "LOCALHOST"):
        status, _, text = ask(demo, "POST", "/v1/completions", host)
        assert status == 200, (host, text)
    assert ask(demo, "GET", "/v1/models", "", version="1.0")[0] == 200


def test_names_can_be_listed_while_the_server_runs(serve, tmp_path):
    path = tmp_path / "penstock.yaml"
    base = f"models: {{demo: {{path: {DEMO}}}}}\n"
    path.write_text(base + "server: {allowed_hosts: [llm.corp]}\n")
    server = serve("--config", str(path), model=None)
    answers = lambda host: ask(server, "GET", "/v1/models", host)[0]  # noqa: E731
    assert [answers(h) for h in ("llm.corp", "localhost", "evil.example")] == [200, 200, 421]
    path.write_text(base + "server: {allowed_hosts: ['*']}\n")
    server.until(lambda: answers("evil.example") == 200)


def test_who_asks_for_a_key_takes_any(serve):
    server = serve("--api-key", "secret")
    assert ask(server, "GET", "/v1/models", "evil.example")[0] == 401
    assert ask(server, "GET", "/v1/models", "evil.example", headers="Authorization: Bearer secret\r\n")[0] == 200
