#!/usr/bin/env python3
"""Runs every block of commands, and of Python, in README.md and docs/.

    tests/docs/blocks.py BINARY WORK_FOLDER [PAGE ...]

A page's blocks run in one shell, in order, in a folder with links to the repository's. Ports are replaced by free ones.
Where a block talks to a server that no block has started, one is started on the bundled model. `penstock` is the binary
with these ports where none is named, and `bench` does not judge by how busy the machine is; `./dev serve` is `penstock
serve` without what ./dev installs and builds before. curl ends with an error where the answer is one. YAML that is
not kept as a file is a part of a configuration, and checked as one. Marks: page.py.
"""

import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import yaml

import commands
import page as pages

ROOT = commands.ROOT
PATIENCE = 300  # seconds: only a block that hangs takes so long
PORTS = (8000, 8001, 9000, 9001)
DEFAULT_SERVERS = ((8000, 8001), (9000, 9001))


class Failed(Exception):
    pass


def free_ports(count):
    """Below those that systems give to whoever asks for any, so that nobody else is given one before its use."""
    found = set()
    while len(found) < count:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                found.add(port)
            except OSError:
                pass
    return sorted(found)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def wait(condition, process, what, log):
    end = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            raise Failed(f"{what}: ended with {process.returncode}\n{log()}")
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {PATIENCE} s\n{log()}")
        time.sleep(0.02)


class Shell:
    """One page's folder, servers and shell."""

    def __init__(self, binary, folder):
        self.folder, self.own = folder, folder / ".test"
        self.own.mkdir(parents=True)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS))))
        self.servers = {}
        self.make_folder(binary)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "HF_", "OPENAI_"))},
            "PATH": f"{self.own}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.own), "HF_HOME": str(self.own / "huggingface"), "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "*", "no_proxy": "*",
        }
        self.process = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd=folder, env=self.env, text=True,
                                        stdin=subprocess.PIPE, start_new_session=True)
        self.count = 0

    def make_gguf(self):
        writer = ROOT / "tests/goldens/gguf_checkpoint.py"
        subprocess.run([sys.executable, writer, ROOT / "models/demo", self.folder / "demo.gguf", "--type", "Q8_0"],
                       check=True, capture_output=True)

    def make_folder(self, binary):
        for name in ("README.md", *commands.FOLDERS.split("|")):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "build").mkdir()
        (self.folder / "build/release").symlink_to(pathlib.Path(binary).parents[1])
        config = "models: {demo: {path: models/demo}}\nserver: {state_dir: state}\n"
        (self.folder / "demo.yaml").write_text(config)
        snapshot = self.own / "huggingface/hub/models--org--name/snapshots/0123456789abcdef0123456789abcdef01234567"
        snapshot.mkdir(parents=True)
        for file in (ROOT / "models/demo").iterdir():
            (snapshot / file.name).symlink_to(file)
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text(snapshot.name)
        (self.own / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        self.script(self.own / "penstock", f"""
case " $* " in
  " serve "*)
    [[ " $* " = *" --port "* ]] || set -- "$@" --port {self.ports[8000]}
    [[ " $* " = *" --grpc-port "* ]] || set -- "$@" --grpc-port {self.ports[8001]} ;;
  " top "* | " bench serve "* | " bench sweep "*)
    [[ " $* " = *" --target "* ]] || set -- "$@" --target 127.0.0.1:{self.ports[8000]} ;;
esac
case " $* " in " bench serve "* | " bench sweep "*) set -- "$@" --allow-busy-generator --quiet ;; esac
exec {binary} "$@"
""")
        self.script(self.folder / "dev", """
[ "$1" = serve ] || { echo "./dev $1 is not for tests" >&2; exit 1; }
shift
case "${1:-}" in
  "" | -*) [[ " $* " == *" --config "* || " $* " == *" --config="* ]] || set -- models/demo "$@" ;;
esac
exec penstock serve "$@"
""")

    @staticmethod
    def script(path, text):
        path.write_text("#!/usr/bin/env bash\n" + text.lstrip("\n"))
        path.chmod(0o755)

    def replaced(self, block):
        text = block.commands() if block.language in pages.SHELLS else block.text
        for old, new in block.pairs():
            if new == "demo.gguf":
                self.make_gguf()
            text = text.replace(old, new)
        return re.sub(r"(?<=[: =])(8000|8001|9000|9001)\b(?!\.\d)", lambda m: str(self.ports[int(m[0])]), text)

    def need_servers(self, text):
        """Starts what a block wants to talk to, and nobody has started."""
        if re.search(r"\bpenstock serve\b", text):
            return
        untold = re.search(r"\bpenstock (top|bench serve|bench sweep)\b(?!.*--target)", text)
        for http_port, grpc_port in ((self.ports[h], self.ports[g]) for h, g in DEFAULT_SERVERS):
            talks = f":{http_port}" in text or f":{grpc_port}" in text or (untold and http_port == self.ports[8000])
            if talks and not listens(http_port):
                self.start(f"penstock serve models/demo --port {http_port} --grpc-port {grpc_port}", http_port)

    def start(self, command, port):
        log = self.own / f"server-{port}.log"
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.env,
                                   stdin=subprocess.DEVNULL, stdout=open(log, "w"), stderr=subprocess.STDOUT,
                                   start_new_session=True)
        self.servers[port] = process
        wait(lambda: ready(port), process, command, log.read_text)

    def stop(self, port):
        process = self.servers.pop(port)
        process.terminate()
        if process.wait(PATIENCE) != 0:
            log = (self.own / f"server-{port}.log").read_text()[-2000:]
            raise Failed(f"a server ended with {process.returncode}\n{log}")

    def serve_each(self, text):
        for line in commands.plain(text).splitlines():
            if not line.strip():
                continue
            for port in list(self.servers):
                self.stop(port)
            self.start(line.strip(), self.ports[8000])
            self.stop(self.ports[8000])

    def serve(self, model):
        for port in list(self.servers):
            self.stop(port)
        port = self.ports[8000]
        config = model.endswith(".yaml")
        self.start(f"penstock serve {'--config ' * config}{model}", port)
        if not config:
            return
        said = yaml.safe_load((self.folder / model).read_text())
        expected = 401 if said.get("auth") else 200
        body = json.dumps({"model": next(iter(said["models"])), "prompt": "The sea", "max_tokens": 4})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        if connection.getresponse().status != expected:
            raise Failed(f"the server under {model} does not answer")

    def run(self, block):
        text = self.replaced(block)
        if "file" in block.marks:
            (self.folder / block.marks["file"]).write_text(text)
            return
        if "serves" in block.marks:
            self.serve_each(text)
            return
        if "served" in block.marks:
            self.serve(block.marks["served"])
        if "left" in block.marks:
            self.serve(block.marks["left"])
            self.stop(self.ports[8000])
        self.need_servers(text)
        self.count += 1
        script, output, done = (self.own / f"{self.count}.{end}" for end in ("block", "out", "done"))
        script.write_text(text)
        command = f"source {script}" if block.language in pages.SHELLS else f"python3 <{script}"
        if block.language in pages.SHELLS:
            command += " </dev/null"
        # What a block says counts until it ends: a server in the background goes on writing there, unseen.
        if "fails" in block.marks:
            command = (f"set +e\n( set -euo pipefail\n{command}\n)\n"
                       "[ $? -ne 0 ] || { echo it did not fail; exit 1; }\nset -e")
        self.process.stdin.write(
            f"set -euo pipefail\n{{ {command}\n}} >{output} 2>&1\nset +euo pipefail\ntouch {done}\n")
        self.process.stdin.flush()
        said = lambda: output.read_text(errors="replace") if output.exists() else ""
        wait(done.exists, self.process, "the block", lambda: said()[-4000:])
        if block.marks.get("prints", "") not in said():
            raise Failed(f"it did not print {block.marks['prints']!r} but:\n{said()[-4000:]}")

    def check_config(self, block):
        """A part of a configuration, with what it needs to be one."""
        parts = yaml.safe_load(self.replaced(block))
        parts = {"models": {"demo": {"path": "models/demo"}}, "server": {"state_dir": "state"}, **parts}
        file = self.folder / "part.yaml"
        file.write_text(json.dumps(parts))  # JSON is YAML
        done = subprocess.run(["penstock", "check-config", file], cwd=self.folder, env=self.env, text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise Failed(f"as a configuration: {done.stderr}")

    def close(self):
        problem = None
        for port in list(self.servers):
            try:
                self.stop(port)
            except Failed as failed:
                problem = failed
        try:
            os.killpg(self.process.pid, signal.SIGTERM)  # the shell and what its blocks left running
        except ProcessLookupError:
            pass
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        if problem:
            raise problem


def not_built(block, folder):
    """Programs of the benchmarks that the block calls, which not every build has (CI's has them)."""
    found = re.findall(r"build/release/benchmarks/\w+/\w+", block.text)
    return [program for program in dict.fromkeys(found) if not (folder / program).exists()]


def run_page(binary, folder, blocks, tell):
    """Problems of one page."""
    shell = Shell(binary, folder)
    try:
        for block in blocks:
            if not (runs(block) or "file" in block.marks):
                continue
            missing = [] if os.environ.get("CI") == "true" else not_built(block, shell.folder)
            if missing:
                tell(f"{block.where}: SKIPPED: this build has no {', '.join(missing)}")
                continue
            began = time.monotonic()
            try:
                shell.run(block)
            except (Failed, pages.Fault) as problem:
                return [f"{block.where}: {problem}"]
            tell(f"{block.where}: {'kept' if 'file' in block.marks else 'ran'}, {time.monotonic() - began:.1f} s")
        for block in filter(is_config, blocks):  # the files that they name may stand further down
            try:
                shell.check_config(block)
            except (Failed, pages.Fault, yaml.YAMLError) as problem:
                return [f"{block.where}: {problem}"]
            tell(f"{block.where}: a configuration")
    finally:
        try:
            shell.close()
        except Failed as problem:
            tell(str(problem))
            return [str(problem)]
    return []


def runs(block):
    return block.language in (*pages.SHELLS, "python") and "not run" not in block.marks and "file" not in block.marks


def is_config(block):
    return block.language == "yaml" and not block.text.startswith("-") and not {"file", "not run"} & set(block.marks)


def check(binary, work, texts, tell=print):
    """`texts`: page -> Markdown. Problems, after what could be run has been."""
    problems, program, ran, left = [], commands.Program(binary), 0, []
    for name, text in texts.items():
        try:
            blocks = pages.blocks(name, text)
            for block in blocks:
                block.pairs()
                if block.language in pages.SHELLS:
                    block.commands()
        except pages.Fault as fault:
            problems.append(str(fault))
            continue
        for block in blocks:
            if block.language in pages.SHELLS:
                problems += [f"{block.where}: {fault}" for fault in commands.faults(block.commands(), program)]
        problems += [f"{name}:{line}: {fault}" for line, span in pages.spans(text) for fault in
                     (commands.faults(span, program) if re.match(r"(penstock|\./dev) ", span) else [])]
        ran += sum(map(runs, blocks))
        left += [b for b in blocks if "not run" in b.marks]
        if any(runs(block) or is_config(block) for block in blocks):
            with tempfile.TemporaryDirectory(dir=work) as folder:
                problems += run_page(binary, pathlib.Path(folder), blocks, tell)
    tell(f"{ran} blocks run, {len(left)} not:")
    for block in left:
        tell(f"  {block.where}: {block.marks['not run']}")
    return problems


def main():
    binary, work = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    names = sys.argv[3:] or ["README.md", "CONTRIBUTING.md", "SECURITY.md",
                             *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
    problems = check(str(pathlib.Path(binary).resolve()), work, {name: (ROOT / name).read_text() for name in names},
                     lambda text: print(text, flush=True))
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
