"""A log that takes nothing more (a full disk, a reader that is gone or stands still) fails no request, and
the server ends as it is told to."""

import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

from rig import BINARY, ROOT, expect


def server(folder, stderr):
    """(process, port)"""
    ready = pathlib.Path(folder) / "ready.json"
    process = subprocess.Popen([BINARY, "serve", str(ROOT / "models/demo"), "--port", "0", "--set",
                                "server.public.grpc=", "--set", f"server.ready_file={ready}", "--set",
                                "observe.log=json", "--set", "observe.level=debug"], stderr=stderr)
    end = time.monotonic() + 60
    while not ready.exists():
        expect(process.poll() is None and time.monotonic() < end, "no start", process.poll())
        time.sleep(0.01)
    return process, json.loads(ready.read_text())["http"]


def ask(port, number):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = {"model": "demo", "prompt": f"Request {number}", "max_tokens": 2, "user": "u" * 200}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def holds(name, stderr, spoil=lambda: None, requests=400):
    with tempfile.TemporaryDirectory() as folder:
        process, port = server(folder, stderr)
        try:
            expect(ask(port, 0) == 200, name, "before")
            spoil()
            codes = []
            threads = [threading.Thread(target=lambda i=i: codes.extend(ask(port, i * 1000 + k)
                                                                        for k in range(requests // 4)))
                       for i in range(4)]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(f"{name}: {len(codes)} requests in {time.monotonic() - began:.1f} s", flush=True)
            expect(len(codes) == requests and set(codes) == {200}, name, set(codes), len(codes))
            process.terminate()
            expect(process.wait(60) == 0, name, "ends with", process.returncode)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def main():
    with open("/dev/full", "w") as full:
        holds("a full disk", full)
    reading, writing = os.pipe()
    holds("a reader that is gone", writing, lambda: os.close(reading))
    os.close(writing)
    # A pipe holds 64 KiB: some two hundred lines.
    reading, writing = os.pipe()
    holds("a reader that stands still", writing)
    os.close(writing)
    os.close(reading)


main()
