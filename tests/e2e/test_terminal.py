"""What is made for a terminal: run, top, help, completions, the man page."""

import json
import os
import pty
import re
import select
import shutil
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


def commands():
    """All of them, by --help itself."""
    found, left = [], [[]]
    while left:
        path = left.pop()
        found.append(path)
        text = run("help", *path).stdout
        below = text.partition("\nSubcommands:\n")[2].partition("\n\n")[0]
        left += [path + [m] for m in re.findall(r"^  (\S+) ", below, re.M)]
    return found


def test_help_fits_a_screen_and_has_an_example():
    all_commands = commands()
    assert len(all_commands) > 20
    for path in all_commands:
        done = run(*path, "--help")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) <= 50, path
        assert done.stdout == run("help", *path).stdout
        if path:
            assert "Example:\n  " in done.stdout, f"{path} has no example (src/server/command_tree.cc, or its footer)"


def test_examples_name_options_that_there_are():
    known = {tuple(path) for path in commands()}
    for path in known:
        example = run(*path, "--help").stdout.partition("Example:")[2]
        for line in re.findall(r"penstock ([^|;\n]*)", example):
            words = tuple(line.split())
            shown = next(words[:n] for n in (3, 2, 1, 0) if words[:n] in known)
            options = run(*shown, "--help").stdout
            for flag in re.findall(r"(?<!\S)--[a-z-]+", line):
                assert flag in options, (line, flag)


def test_errors_name_the_nearest_word():
    for words, expected in [
        (["serv"], "penstock has no command serv; did you mean serve?"),
        (["serve", "--prot", "1"], "penstock serve has no option --prot; did you mean --port?"),
        (["admin", "keys", "crate"], "penstock admin keys has no command crate; did you mean create?"),
        (["help", "admin", "kyes"], "penstock admin has no command kyes; did you mean keys?"),
        (["top", "--targt=x"], "penstock top has no option --targt; did you mean --target?"),
    ]:
        done = run(*words)
        assert done.returncode == 1 and expected in done.stderr, done.stderr


def test_bash_completes(tmp_path):
    script = tmp_path / "penstock.bash"
    script.write_text(run("completion", "bash").stdout)

    def complete(*words):
        line = " ".join(f"'{w}'" for w in words)
        code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _penstock; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()
    assert complete("penstock", "se") == ["serve"]
    assert set(complete("penstock", "admin", "keys", "")) >= {"create", "rotate", "revoke", "list"}
    assert "--port" in complete("penstock", "serve", "--set", "a=b", "--p")
    assert complete("penstock", "top", "--onc") == ["--once"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell, tmp_path):
    script = tmp_path / f"penstock.{shell}"
    script.write_text(run("completion", shell).stdout)
    if not shutil.which(shell):
        assert os.environ.get("CI") != "true"
        pytest.skip(f"no {shell}: ./dev setup installs it")
    subprocess.run([shell, "-n", str(script)], check=True)
    if shell == "fish":
        ask = f"source {script}; complete -C 'penstock admin keys cr'"
        done = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True,
                              env={**os.environ, "HOME": str(tmp_path)})
        assert done.stdout.split()[0] == "create"
    else:
        ask = f"autoload -Uz compinit && compinit -u -d {tmp_path}/dump; source {script}; echo $_comps[penstock]"
        done = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "_penstock"


def test_the_man_page(tmp_path):
    page = run("help", "--man").stdout
    for path in commands():
        if path:
            assert "penstock " + " ".join(path).replace("-", "\\-") in page, path
    if not shutil.which("groff"):
        assert os.environ.get("CI") != "true"
        pytest.skip("no groff: ./dev setup installs it")
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page, capture_output=True, text=True, check=True)
    assert not done.stderr and "penstock admin keys create" in done.stdout
