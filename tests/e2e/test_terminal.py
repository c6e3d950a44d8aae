"""What is made for a terminal: run, top; what serve and bench write there, and elsewhere."""

import datetime
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import time
import urllib.request

import pytest
from conftest import BINARY, DEMO, HAS_GRPC, SANITIZED

UP, CTRL_C, CTRL_D = b"\x1b[A", b"\x03", b"\x04"


def run(*arguments, **keywords):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=300, **keywords)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(BINARY, [BINARY, *arguments])
        self.seen = b""

    def read(self, timeout=0.05):
        if select.select([self.fd], [], [], timeout)[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                return False
        return True

    def until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition(self.seen):
            assert self.read(), self.seen
            assert time.monotonic() < end, self.seen[-2000:]
        return self.seen

    def prompt(self, mark=b">>> "):
        """Waits for a prompt that begins now, and forgets what was before; what was written since the last key."""
        seen = self.until(lambda s: b"\x1b[?2004h\r" + mark in s)
        self.seen = b""
        written = seen.partition(b"\x1b[?2004l")[2].partition(b"\x1b[?2004h")[0]
        return written.decode(errors="replace").replace("\r", "")

    def send(self, keys):
        os.write(self.fd, keys)

    def end(self):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if not self.read():  # its terminal is closed already, as long as it still tidies up
                time.sleep(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(self.seen)


@pytest.fixture
def terminal():
    begun = []

    def begin(*arguments):
        begun.append(Terminal(*arguments))
        return begun[-1]
    yield begin
    for one in begun:
        try:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


ALIKE = ("--set", "engine.cpu_kernels=avx2")  # two processes may find different ones faster
GREEDY = (*ALIKE, "--temperature", "0", "--max-tokens", "12")


def test_one_prompt(serve):
    """The answer is what the server gives to the same conversation."""
    answer = run("run", DEMO, "Tell me of the sea.", *GREEDY)
    assert answer.returncode == 0, answer.stderr
    server = serve(*ALIKE)
    body = {"messages": [{"role": "user", "content": "Tell me of the sea."}], "temperature": 0, "max_tokens": 12}
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        expected = json.loads(reply.read())["choices"][0]["message"]["content"]
    assert answer.stdout == expected + "\n"
    assert run("run", DEMO, *GREEDY, input="Tell me of the sea.\n").stdout == answer.stdout
    # A prompt and an input are one prompt.
    both = run("run", DEMO, "Tell me", *GREEDY, input="of the sea.")
    assert both.returncode == 0 and both.stdout != answer.stdout
    assert run("run", DEMO, input="").returncode == 1
    assert "tokens of prompt" in run("run", DEMO, "Hi", "--verbose", *GREEDY).stderr


def test_a_conversation(terminal):
    one = terminal("run", DEMO, *GREEDY)
    one.prompt()
    one.send(b"Tell me of the sea.\r")
    first = one.prompt()
    one.send(UP + b"\r")  # the same again, in the same conversation
    one.prompt()
    one.send(b"/clear\r")
    one.prompt()
    one.send(UP + UP + b"\r")  # behind /clear
    again = one.prompt()
    assert first == again and len(first) > 5, (first, again)
    one.send(b'"""of several\r')
    one.prompt(b"... ")
    one.send(b'lines"""\r')
    assert one.prompt()
    one.send(b"half a line" + CTRL_C)  # which is then gone
    one.prompt()
    one.send(b"/nonsense\r")
    assert "There is no /nonsense" in one.prompt()
    one.send(CTRL_D)
    assert one.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal):
    one = terminal("run", DEMO, "--set", "engine.threads=1", "--set", "engine.speculation.method=off",
                   "--max-tokens", "1900", "--ignore-eos")
    one.prompt()
    for _ in range(50):  # until the key comes before the end of the answer
        one.send(b"Tell me a long story of the sea and of all who sailed on it.\r")
        one.until(lambda s: len(s.partition(b"\x1b[?2004l")[2]) > 20)
        one.send(CTRL_C)
        said = one.prompt()
        if "(stopped)" in said:
            break
    assert "(stopped)" in said
    one.send(b"/bye\r")
    assert one.end() == 0


def test_top(demo, terminal):
    frame = run("top", "--target", demo.url, "--once", "--interval", "0.2")
    assert frame.returncode == 0, frame.stderr
    assert ": ready, up" in frame.stdout and "KV cache" in frame.stdout
    assert re.search(r"^demo +0 +0 ", frame.stdout, re.M), frame.stdout
    one = terminal("top", "--target", demo.url.removeprefix("http://"), "--interval", "0.2")
    one.until(lambda s: s.count(b"penstock ") >= 3)  # frames
    assert b"\x1b[?1049h" in one.seen
    one.send(CTRL_C)
    assert one.end() == 0
    assert b"\x1b[?1049l" in one.seen
    nobody = run("top", "--target", "http://127.0.0.1:1", "--once")
    assert nobody.returncode == 1 and nobody.stderr.startswith("penstock: http://127.0.0.1:1")


def test_top_with_a_key(serve):
    server = serve("--api-key", "right", "--host", "127.0.0.1")
    assert run("top", "--target", server.url, "--once", "--interval", "0.1", "--api-key", "right").returncode == 0


class Pipe:
    """A command whose messages go into a pipe; the rest is as of a Terminal."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([BINARY, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.pid, self.fd, self.seen = self.process.pid, self.process.stderr.fileno(), b""

    until = Terminal.until

    def read(self, timeout=0.05):
        if not select.select([self.fd], [], [], timeout)[0]:
            return True
        more = os.read(self.fd, 65536)
        self.seen += more
        return bool(more)

    def end(self):
        while self.read():
            pass
        return self.process.wait(120)


@pytest.fixture
def pipe():
    begun = []

    def begin(*arguments):
        begun.append(Pipe(*arguments))
        return begun[-1]
    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()
        one.process.stderr.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def serve_arguments(model, port, *more):
    grpc = ("--grpc-port", "0") if HAS_GRPC else ("--set", "server.public.grpc=")
    return ("serve", str(model), "--port", str(port), *grpc, *more)


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST" if body else "GET", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def as_people_read(line):
    """(level, message, fields) of a line, which nobody can mistake for another."""
    value = r'("(?:[^"\\]|\\.)*"|\S*)'
    match = re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} ([IWE]) (.*?)((?:  \w+={value})*)", line)
    assert match and not line.startswith("{") and "\x1b" not in line, line
    level = {"I": "info", "W": "warning", "E": "error"}[match[1]]
    return level, match[2], dict(re.findall(rf"  (\w+)={value}", match[3]))


def as_programs_read(line):
    fields = json.loads(line)
    datetime.datetime.fromisoformat(fields["time"])
    return fields.pop("level"), fields.pop("message"), {k: str(v) for k, v in fields.items() if k != "time"}


@pytest.mark.parametrize("where, log, read_line", [
    ("terminal", "auto", as_people_read), ("pipe", "auto", as_programs_read),
    ("terminal", "json", as_programs_read), ("pipe", "text", as_people_read)])
def test_the_log_is_for_who_reads_it(request, where, log, read_line):
    """Text on a terminal and JSON elsewhere, unless the configuration says which."""
    port = free_port()
    one = request.getfixturevalue(where)(*serve_arguments(DEMO, port, "--set", f"observe.log={log}"))
    one.until(lambda s: b"serving" in s)
    body = {"prompt": "The sea", "max_tokens": 3, "ignore_eos": True, "request_id": "line-1\nforged"}
    assert ask(port, "/v1/completions", json.dumps(body))[0] == 200
    one.until(lambda s: b"completion_tokens" in s)
    os.kill(one.pid, signal.SIGTERM)
    assert one.end() == 0
    lines = [read_line(line) for line in one.seen.decode().replace("\r", "").splitlines()]
    (level, _, fields), = [line for line in lines if line[1] == "request"]  # one line, whatever its client wrote
    assert level == "info" and (fields["code"], fields["completion_tokens"], fields["model"]) == ("200", "3", "demo")
    assert fields["prompt_tokens"].isdigit() and float(fields["total_ms"]) > 0
    assert any("draining" in message for _, message, _ in lines)


def large_model(folder, layers=6 if SANITIZED else 24, hidden=512, inner=1536, vocabulary=512):
    """Zeros, which take no room on the disk; no tokenizer."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": vocabulary,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}))
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,),
              "lm_head.weight": (vocabulary, hidden)}
    for i in range(layers):
        for name, shape in {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
                            **{f"self_attn.{p}_proj": (hidden, hidden) for p in "qkvo"},
                            "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
                            "mlp.down_proj": (hidden, inner)}.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    head, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return at >> 20


@pytest.mark.parametrize("where, read_line", [("terminal", as_people_read), ("pipe", as_programs_read)])
def test_what_takes_long_to_load_says_how_far_it_is(request, tmp_path, where, read_line):
    """Stopped in the middle of its loading for longer than a second, the server then says where it was."""
    mib = large_model(tmp_path / "large")
    for _ in range(50):
        port = free_port()
        one = request.getfixturevalue(where)(*serve_arguments(
            tmp_path / "large", port, "--set", "engine.kv_memory=32MiB", "--set", "engine.threads=1"))
        seen = {}

        def in_the_middle():
            try:
                status, body = ask(port, "/ready")
            except OSError:
                return False
            seen.update(json.loads(body))
            return status == 200 or seen.get("bytes", 0) > 0
        one.until(lambda _: in_the_middle())
        os.kill(one.pid, signal.SIGSTOP)
        time.sleep(1.1)
        os.kill(one.pid, signal.SIGCONT)
        one.until(lambda s: b"serving" in s)
        os.kill(one.pid, signal.SIGTERM)
        assert one.end() == 0
        lines = [read_line(line) for line in one.seen.decode().replace("\r", "").splitlines()]
        told = [fields for _, message, fields in lines if message == "loading"]
        if told:
            break
    assert seen["model"] == "large" and 0 < seen["bytes"] <= seen["total"] and seen["total"] >> 20 == mib
    for fields in told:
        assert fields["model"] == "large" and 0 < int(fields["mib"]) <= int(fields["of_mib"]) == mib


def test_a_load_run_has_a_bar_on_a_terminal_alone(demo, terminal, tmp_path):
    arguments = ("bench", "serve", "--target", demo.url.removeprefix("http://"), "--output", str(tmp_path / "out.json"),
                 "--set", "requests=30", "--set", "rate=10", "--set", "prompt_words=8", "--set", "max_tokens=24",
                 "--allow-busy-generator")
    one = terminal(*arguments)
    one.until(lambda s: re.search(rb"\r\x1b\[K[^\r]*\[#+ *\] \d+/30, \d in flight, \d+ pieces/s", s))
    assert one.end() == 0
    assert b"\x1b" not in one.seen.rpartition(b"\r\x1b[K")[2]  # the last is erased
    quiet = terminal(*arguments, "--quiet")
    assert quiet.end() == 0 and b"in flight" not in quiet.seen
    elsewhere = run(*arguments)
    assert elsewhere.returncode == 0 and "\x1b" not in elsewhere.stderr and "in flight" not in elsewhere.stderr
