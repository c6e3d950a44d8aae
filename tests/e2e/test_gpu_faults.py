"""What can be wrong with a GPU: each is one line that says what to do. The emulated one is told what is wrong by
PENSTOCK_EMULATED_GPU (kernels/emulator/emulator.h); a driver that is too old is tests/fakes/driver_stand_in.c."""

import json
import os
import resource
import shutil
import subprocess
import time
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


@pytest.mark.skipif(SANITIZED, reason="a sanitizer reserves more of the address space than that")
def test_memory_that_is_not_given_is_one_line():
    """Less than the process may have, but more than its limit of address space."""
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 5 << 30:
        pytest.skip("this machine has less memory than is asked for")
    done = subprocess.run(
        [BINARY, "serve", DEMO, "--port", "0", "--set", "engine.device=cpu", "--set", "engine.kv_memory=3GiB"],
        capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)))
    lines = [line for line in done.stderr.splitlines() if line.startswith("penstock: ")]
    assert done.returncode == 1 and len(lines) == 1, (done.returncode, done.stderr)
    assert "no memory for 3221225472 bytes" in lines[0] and "lower engine.kv_memory, see penstock plan" in lines[0]


def test_more_memory_than_a_gpu_has_is_one_line(emulated):
    line = refusal(*EMULATED, "--set", "engine.kv_memory=2GiB", PENSTOCK_EMULATED_GPU="memory=1073741824")
    assert line.startswith("engine.kv_memory is 2048 MiB, the device has 1024 MiB"), line
    assert "this process may have" in refusal(*EMULATED, "--set", "engine.kv_memory=100TiB")
    planned = run("plan", DEMO, *SMALL, "--set", "engine.device=cuda", "--set", "engine.kv_memory=100GiB",
                  "--gpu-memory", "80GiB")
    assert planned.returncode == 1 and "the device has 81920 MiB" in planned.stderr, planned.stderr


@pytest.mark.parametrize("gpu, words", [
    ("driver=0", "this machine has no NVIDIA driver; use device: cpu"),
    ("driver=11080", "the NVIDIA driver is for CUDA 11.8, which is too old for this build: update it"),
    ("gpus=0", "this machine has no NVIDIA GPU; use device: cpu"),
    ("capability=7.5", "a GPU named emulator has compute capability 7.5, the kernels need 8.0; use device: cpu"),
    ("memory=1000 others=1000", "open: out of memory (nvidia-smi says"),
])
def test_a_gpu_that_cannot_be_used_is_one_line_that_doctor_says_too(emulated, gpu, words):
    gpu = {"PENSTOCK_EMULATED_GPU": gpu}
    line = refusal(*EMULATED, **gpu)
    assert line.startswith("device cuda-emulated: ") and words in line and "device: cpu" in line, line
    checked = run("check-model", DEMO, "--device", "cuda-emulated", **gpu)
    assert checked.returncode == 4 and checked.stderr == f"penstock: {line}\n", checked.stderr
    code, found = doctor(*EMULATED, **gpu)
    assert code == 2 and found["device", "fault"] == f"models.demo: {line}", found
    planned = run("plan", DEMO, *EMULATED, **gpu)  # for one that has no such fault
    assert planned.returncode == 0 and f"its memory is not known, --gpu-memory says it: {line}\n" in planned.stdout


def test_doctor_says_of_a_machine_without_a_gpu_what_serve_says():
    if has_device("cuda"):
        pytest.skip("there is a GPU")
    line = refusal("--device", "cuda")
    code, found = doctor("--set", "engine.device=cuda")
    assert code == 2 and found["device", "fault"] == f"models.demo: {line}", found
    assert found["memory", "ok"].startswith("models take at least 0 of "), found


def test_auto_says_why_a_driver_is_of_no_use(serve, tmp_path):
    said = run("serve", DEMO, "--device", "cuda", "--port", "0").stderr
    if has_device("cuda") or "no CUDA backend" in said:
        pytest.skip("there is a GPU, or no CUDA in this build")
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1",
                    ROOT / "tests/fakes/driver_stand_in.c"], check=True)
    driver = {"LD_LIBRARY_PATH": str(tmp_path)}
    line = refusal("--device", "cuda", **driver)
    assert "the NVIDIA driver is for CUDA 11.8, which is too old for this build" in line
    auto = ["--set", "engine.device=auto"]
    note = f"device auto is the CPU: {line}"
    [warning] = serve(*auto, env=driver).logged(level="warning", model="demo")
    assert warning["message"] == note
    planned = run("plan", DEMO, *auto, **driver)
    assert planned.returncode == 0 and note in planned.stdout and "demo on cpu" in planned.stdout
    assert doctor(*auto, **driver)[1]["device", "warning"] == f"models.demo: {note}"
    # No driver is no news.
    assert not [line for line in serve(*auto).log_lines() if line["level"] == "warning" and "auto" in line["message"]]
    assert "auto" not in run("plan", DEMO, *auto).stdout
    assert ("device", "warning") not in doctor(*auto)[1]


def test_the_cache_is_what_the_gpu_leaves_and_as_planned(serve, emulated):
    flags = [*EMULATED, "--set", "engine.memory_fraction=1"]
    roomy = json.loads(run("plan", DEMO, "--json", *flags, PENSTOCK_EMULATED_GPU="memory=10000000000").stdout)["demo"]
    left = roomy["total_bytes"] - roomy["kv_bytes"] // 2  # for half of what a full batch needs
    gpu = {"PENSTOCK_EMULATED_GPU": f"memory={left + 10000000} others=10000000"}
    planned = run("plan", DEMO, "--json", *flags, **gpu)
    plan = json.loads(planned.stdout)["demo"]
    assert plan["absent"] == ""
    [ready] = serve(*flags, env=gpu).logged(message="model ready")
    assert (plan["kv_tokens"], plan["at_start_bytes"]) == (ready["kv_tokens"], ready["device_bytes"])
    # The GPU's, not the host's; and less than a full batch of full length needs.
    block = 16 * plan["kv_bytes"] / plan["kv_tokens"]
    assert plan["total_bytes"] <= left < plan["total_bytes"] + block
    assert plan["kv_tokens"] == roomy["kv_tokens"] // 2


@pytest.mark.parametrize("memory", [1 << 20, 11 << 20])  # before the weights are there, and after
def test_out_of_memory_at_load_says_what_to_do(emulated, memory):
    line = refusal(*EMULATED, "--set", "engine.kv_memory=4MiB", PENSTOCK_EMULATED_GPU=f"memory={memory}")
    assert "device cuda-emulated: no room for " in line and f" of {memory} bytes are free" in line, line
    assert "lower engine.kv_memory or engine.memory_fraction, see penstock plan; other processes" in line


@pytest.mark.parametrize("depth", [1, 2])
def test_a_fault_in_mid_step_ends_requests_and_the_process(serve, emulated, tmp_path, depth):
    trigger = tmp_path / "fault"
    server = serve(*EMULATED, "--set", "engine.kv_memory=2MiB", "--set", f"engine.pipeline_depth={depth}",
                   env={"PENSTOCK_EMULATED_GPU": f"fault_file={trigger}"})
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    assert server.get("/ready")
    stream = client.completions.create(model="demo", prompt="The sea", max_tokens=100, stream=True,
                                       extra_body={"ignore_eos": True})
    next(stream)
    trigger.write_text("")
    with pytest.raises((openai.APIError, openai.APIConnectionError)) as ended:
        while True:  # the first may have ended by itself meanwhile
            for _ in stream:
                pass
            stream = client.completions.create(model="demo", prompt="The sea", max_tokens=100, stream=True)
    assert "the device failed: device cuda-emulated: " in str(ended.value), ended.value
    with pytest.raises((urllib.error.URLError, ConnectionError)):  # not ready, then gone
        end = time.monotonic() + 60
        while time.monotonic() < end:
            server.get("/ready")
            time.sleep(0.02)
    assert server.process.wait(60) == 70
    [line] = [line for line in server.log_lines() if line["level"] == "error" and "the process ends" in line["message"]]
    assert line["error"].startswith("demo: the engine has failed: the device failed: device cuda-emulated: "), line
    assert str(trigger) in line["error"]
