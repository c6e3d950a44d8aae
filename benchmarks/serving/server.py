"""A server for the length of a benchmark, on a port of its own."""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import time


@contextlib.contextmanager
def running(binary, config, *arguments):
    """Starts `binary` with a configuration (a dict; where it listens is added) and gives its HTTP port."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ready, file = folder / "ready.json", folder / "penstock.yaml"
        file.write_text(json.dumps({
            "server": {"public": {"http": "127.0.0.1:0", "grpc": ""}, "ready_file": str(ready)}, **config}))
        process = subprocess.Popen([binary, "serve", "--config", file, *arguments], stderr=(folder / "log").open("w"))
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.05)
            yield json.loads(ready.read_text())["http"]
        finally:
            process.terminate()
            process.wait()
