"""What can be wrong with a GPU: each is one line that says what to do. The emulated one is told what is wrong by
PENSTOCK_EMULATED_GPU (kernels/emulator/emulator.h); a driver that is too old is tests/fakes/driver_stand_in.c."""

import json
import os
import shutil
import subprocess
import urllib.error

import openai
import pytest
from conftest import BINARY, DEMO, ROOT, SANITIZED

SMALL = ["--set", "engine.max_batch=2", "--set", "engine.max_step_tokens=32", "--set", "engine.max_len=128",
         "--set", "engine.dtype=bfloat16"]
EMULATED = ["--set", "engine.device=cuda-emulated", *SMALL]


def run(*arguments, **environment):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})


def has_device(name):
    return run("check-model", DEMO, "--device", name, "--golden", "/nowhere").returncode != 4


@pytest.fixture(scope="module")
def emulated():
    if SANITIZED or not has_device("cuda-emulated"):
        pytest.skip("the emulated GPU is not in this build, or slow under a sanitizer")


def refusal(*arguments, **environment):
    """The one line with which `serve` ends before it serves."""
    done = run("serve", DEMO, "--port", "0", *arguments, **environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("penstock: ")]
    assert done.returncode == 1 and len(lines) == 1, (done.returncode, done.stderr)
    assert "terminate" not in done.stderr, done.stderr
    return lines[0].removeprefix("penstock: ")


def doctor(*arguments, **environment):
    done = run("doctor", DEMO, "--json", *arguments, **environment)
    return done.returncode, {(row["check"], row["finding"]): row["text"] for row in json.loads(done.stdout)}


def test_more_memory_than_there_is_is_one_line():
    flags = ["--set", "engine.device=cpu", "--set", "engine.kv_memory=100TiB"]
    line = refusal(*flags)
    assert line.startswith("engine.kv_memory is 104857600 MiB, this process may have ") and "lower it" in line, line
    planned = run("plan", DEMO, *flags)
    assert planned.returncode == 1 and planned.stderr == f"penstock: models.demo: {line}\n", planned.stderr
    code, found = doctor(*flags)
    assert code == 2 and found["memory", "fault"] == f"models.demo: {line}", found


def test_more_memory_than_a_gpu_has_is_one_line(emulated):
    line = refusal(*EMULATED, "--set", "engine.kv_memory=2GiB", PENSTOCK_EMULATED_GPU="memory=1073741824")
    assert line.startswith("engine.kv_memory is 2048 MiB, the device has 1024 MiB"), line
    assert "this process may have" in refusal(*EMULATED, "--set", "engine.kv_memory=100TiB")
    planned = run("plan", DEMO, *SMALL, "--set", "engine.device=cuda", "--set", "engine.kv_memory=100GiB",
                  "--gpu-memory", "80GiB")
    assert planned.returncode == 1 and "the device has 81920 MiB" in planned.stderr, planned.stderr
