"""What is made for a terminal: run, top."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from conftest import BINARY, DEMO

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


GREEDY = ("--temperature", "0", "--max-tokens", "12")


def test_one_prompt(serve):
    """The answer is what the server gives to the same conversation."""
    answer = run("run", DEMO, "Tell me of the sea.", *GREEDY)
    assert answer.returncode == 0, answer.stderr
    server = serve()
    import urllib.request
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
    one = terminal("run", DEMO, "--set", "engine.threads=1", "--max-tokens", "1900", "--ignore-eos")
    one.prompt()
    one.send(b"Tell me a long story of the sea and of all who sailed on it.\r")
    one.until(lambda s: len(s.partition(b"\x1b[?2004l")[2]) > 20)
    one.send(CTRL_C)
    assert "(stopped)" in one.prompt()
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
