"""What the scripts of this folder share: a server under a configuration, keys and certificates.

Each script runs by itself (`python3 tests/prod/NAME.py`), prints what it saw and exits 1 on the first
expectation that does not hold.
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PENSTOCK_BINARY", str(ROOT / "build/release/bin/penstock"))
# Nothing else runs on the machine: what is said of time holds (./dev test --prod).
QUIET = bool(os.environ.get("PENSTOCK_QUIET"))
# A completion of 1024 sequences, which no machine ends while a test lasts; an engine needs a max_queue of LONG_QUEUE.
LONG = {"model": "demo", "prompt": ["Once"] * 64, "n": 16, "max_tokens": 1500, "ignore_eos": True}
LONG_QUEUE = 8192

# Of servers whose numbers are compared: each start chooses among the processor's kernels by what it measures.
ALIKE = {"engine": {"cpu_kernels": "avx2"}}


def bound(seconds):
    """How long to wait for what is promised within `seconds`, which a quiet machine is held to."""
    return seconds if QUIET else 60


def expect(condition, *what):
    if not condition:
        print("FAILED:", *what)
        sys.exit(1)


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, **options)
    expect(done.returncode == 0, "openssl", *arguments, done.stderr.decode())
    return done.stdout


def free_port():
    """Below those that systems give to whoever asks for any, so that nobody else is given it before its use."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Redis:
    """A redis-server in a folder, with the password `secret`."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--requirepass", "secret", "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while self.ask("PING") != "PONG":
            expect(time.monotonic() < end, "redis-server does not start")
            time.sleep(0.02)

    def ask(self, *words):
        return run("redis-cli", "-p", self.port, "-a", "secret", "--no-auth-warning", *words).stdout.strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Server:
    """`penstock serve` on the demo model with free ports."""

    def __init__(self, folder, config, *arguments, env=None):
        self.folder, self.ended = pathlib.Path(folder), False
        self.config_path = self.folder / "penstock.yaml"
        config = {"models": {"demo": {"path": str(ROOT / "models/demo")}}, **config}
        config.setdefault("server", {}).setdefault(
            "public", {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"})
        config["server"]["ready_file"] = str(self.folder / "ready.json")
        config.setdefault("observe", {"log": "json"})
        self.config_path.write_text(json.dumps(config))  # JSON is YAML
        self.log_path = self.folder / "log"
        (self.folder / "ready.json").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", str(self.config_path), *arguments],
            stderr=open(self.log_path, "w"),
            env={**os.environ, **(env or {})},
        )
        self.wait(lambda: (self.folder / "ready.json").exists(), "ready")
        ports = json.loads((self.folder / "ready.json").read_text())
        self.port, self.grpc_port = ports["http"], ports["grpc"]

    @property
    def log(self):
        return self.log_path.read_text()

    def edit_config(self, edit):
        """Has `edit` change the configuration in its place, and waits until the server has taken it."""
        config = json.loads(self.config_path.read_text())
        edit(config)
        taken = self.log.count("configuration taken")
        self.config_path.write_text(json.dumps(config))
        self.process.send_signal(signal.SIGHUP)
        self.wait(lambda: self.log.count("configuration taken") > taken, "a reload")

    def wait(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            expect(self.process.poll() is None, "the server ended:", self.log)
            expect(time.monotonic() < end, "never", what, self.log)
            time.sleep(0.01)

    def connect(self, context=None):
        if context is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)

    def call(self, method, path, body=None, credential=None, headers=None, connection=None):
        """(status, text)"""
        connection = connection or self.connect()
        headers = dict(headers or {})
        if credential is not None:
            headers["Authorization"] = "Bearer " + credential
        payload = None if body is None else body if isinstance(body, str) else json.dumps(body)
        connection.request(method, path, payload, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def begin(self, body, credential=None):
        """The connection of a completion whose answer nobody has read."""
        connection = self.connect()
        headers = {"Authorization": "Bearer " + credential} if credential else {}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        return connection

    def metric(self, series, credential=None):
        """The sum of a metric's series, or of those that begin with a name and labels. A page is kept for a quarter of
        a second: what is past now is on it."""
        time.sleep(0.26)
        text = self.call("GET", "/metrics", credential=credential)[1]
        begins = (series,) if "{" in series else (series + "{", series + " ")
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(begins))

    def keys(self, *arguments):
        """Runs `penstock admin keys`; its JSON."""
        done = run(BINARY, "admin", "keys", *arguments, "--json", "--config", self.config_path)
        expect(done.returncode == 0, "admin keys", arguments, done.stderr)
        return json.loads(done.stdout)

    def kill(self):
        """As nothing that it could do anything about."""
        self.process.kill()
        self.process.wait()
        self.ended = True

    def stop(self):
        if self.ended:
            return
        self.ended = True
        self.process.terminate()
        code = self.process.wait(60)
        expect(code == 0, "the server ended with", code, self.log)
        expect("Sanitizer" not in self.log and "runtime error" not in self.log, self.log)


@contextlib.contextmanager
def serving(config, *arguments, env=None):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder, config(pathlib.Path(folder)), *arguments, env=env)
        try:
            yield server
            server.stop()
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = pathlib.Path(folder), name
        self.folder.mkdir(exist_ok=True)
        self.cert, self.key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", 30, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def issue(self, name, san, days=30, usage="serverAuth,clientAuth"):
        """(certificate, key) as paths."""
        base = self.folder / f"{self.name}-{name}"
        key, request, cert = (base.with_suffix(s) for s in (".key", ".csr", ".crt"))
        extensions = base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={san}\nextendedKeyUsage={usage}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key,
                "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", cert)
        return cert, key

    def revocations(self, *certificates, begins=0, seconds=86400):
        """A list of revoked certificates that is in force from so many seconds on, for some seconds: PEM."""
        base = ["ca", "-config", self.folder / f"{self.name}.cnf", "-cert", self.cert, "-keyfile", self.key]
        index = self.folder / f"{self.name}.index"
        base[2].write_text(f"[ca]\ndefault_ca = own\n[own]\ndatabase = {index}\ndefault_md = sha256\n")
        index.write_text("")
        for certificate in certificates:
            openssl(*base, "-revoke", certificate)
        now = time.time()
        times = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now + after)) for after in (begins, begins + seconds)]
        return openssl(*base, "-gencrl", "-crl_lastupdate", times[0], "-crl_nextupdate", times[1]).decode()

    def context(self, pair=None, version=None):
        context = ssl.create_default_context(cafile=str(self.cert))
        if pair:
            context.load_cert_chain(*map(str, pair))
        if version:
            context.minimum_version = context.maximum_version = version
        return context
