#!/usr/bin/env python3
"""Seconds from the start of a server to its being ready: by the clock, and of CPU time, which other work on the machine
does not move as much. The first start is not counted: it reads the files into memory.

  ready.py PENSTOCK MODEL_DIR [--starts N] [--output FILE]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from head import keep


def start_once(binary, model):
    """(seconds by the clock, seconds of CPU time) until the ready file is there."""
    with tempfile.TemporaryDirectory() as folder:
        ready = pathlib.Path(folder) / "ready.json"
        begun = time.perf_counter()
        process = subprocess.Popen(
            [binary, "serve", model, "--port", "0", "--set", "server.public.grpc=127.0.0.1:0",
             "--set", f"server.ready_file={ready}"], stderr=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit(f"{binary} serve {model} ended with {process.returncode}")
                time.sleep(0.001)
            seconds = time.perf_counter() - begun
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return seconds, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        finally:
            process.terminate()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("penstock")
    parser.add_argument("model")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    starts = [start_once(options.penstock, options.model) for _ in range(options.starts + 1)][1:]
    wall, cpu = zip(*starts)
    result = {
        "what": "seconds from a server's start to its being ready",
        "model": options.model, "starts": len(starts), "load": os.getloadavg()[0],
        "seconds": {"median": statistics.median(wall), "least": min(wall), "most": max(wall)},
        "cpu_seconds": {"median": statistics.median(cpu), "least": min(cpu), "most": max(cpu)},
    }
    print(json.dumps(result, indent=1))
    keep(options.output, "ready", options.penstock, result)


if __name__ == "__main__":
    main()
