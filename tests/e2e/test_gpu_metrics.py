"""What /metrics tells of the GPU that serves: here the emulated one, with a driver that answers from a script."""

import sys

import pytest
from conftest import BINARY, DEMO, DEVICE, ROOT, SANITIZED

sys.path.insert(0, str(ROOT / "tests/fakes"))
from stand_in_gpu import ENGINE, StandInGpu, has_emulated_gpu  # noqa: E402

LABELS = '{gpu="0",uuid="GPU-5f0c"'


@pytest.fixture
def gpu(tmp_path):
    if SANITIZED or DEVICE or not has_emulated_gpu(BINARY, DEMO):
        pytest.skip("no emulated GPU, or one that is ten times slower under a sanitizer")
    return StandInGpu(tmp_path / "driver")


def on_gpu(serve, gpu):
    flags = [part for key, value in ENGINE.items() for part in ("--set", f"engine.{key}={value}")]
    return serve(*flags, env=gpu.environment)


UP = "penstock_gpu_up" + LABELS + "}"


def of_gpu(server):
    return {name: value for name, value in server.metrics().items() if name.startswith("penstock_gpu_")}


def once(server, condition):
    """The figures of the first page that has them so."""
    pages = []

    def holds():
        pages.append(of_gpu(server))
        return condition(pages[-1])
    server.until(holds)
    return pages[-1]


def test_the_figures_of_the_gpu_that_serves(serve, gpu):
    server = on_gpu(serve, gpu)
    told = once(server, lambda page: page.get(UP) == 1)  # a page waits for the driver, but not for long
    assert told['penstock_gpu_info' + LABELS + ',name="Stand-in",pci_address="ffff:00:00.0",driver="580.1"}'] == 1
    for name, value in {
        "up}": 1, "utilization_ratio}": 0.87, "memory_busy_ratio}": 0.41, "memory_used_bytes}": 400,
        "memory_total_bytes}": 1000, "temperature_celsius}": 64, "power_watts}": 512.345, "power_limit_watts}": 700,
        "energy_joules_total}": 9, 'clock_hertz,clock="sm"}': 1.98e9, 'throttled,reason="power_cap"}': 1,
        'throttled,reason="hw_thermal"}': 0, 'ecc_errors_total,type="uncorrected"}': 0,
        'row_remap,state="failed"}': 0, "xid_errors_total}": 0, "last_xid}": 0,
    }.items():
        name, comma, kind = name.rstrip("}").partition(",")
        assert told[f"penstock_gpu_{name}{LABELS}{comma}{kind}}}"] == pytest.approx(value), name
    # Each page is of its own moment; what is not supported, or not allowed, is not there.
    gpu.say(temperature="71", power=None, energy="!4", throttle="64", xids="79")
    told = once(server, lambda page: page.get("penstock_gpu_temperature_celsius" + LABELS + "}") == 71)
    assert told["penstock_gpu_throttled" + LABELS + ',reason="hw_thermal"}'] == 1
    assert told["penstock_gpu_last_xid" + LABELS + "}"] == 79
    assert not [name for name in told if "power_watts" in name or "energy" in name]


def test_a_gpu_that_is_lost_and_a_driver_that_hangs_delay_nobody(serve, gpu):
    server = on_gpu(serve, gpu)
    server.until(lambda: of_gpu(server).get(UP) == 1)
    gpu.say(memory="!15", xids="79")
    told = once(server, lambda page: page[UP] == 0 and page.get("penstock_gpu_xid_errors_total" + LABELS + "}"))
    assert told["penstock_gpu_xid_errors_total" + LABELS + "}"] == 1
    assert not [name for name in told if "temperature" in name or "memory" in name]
    gpu.say()
    server.until(lambda: of_gpu(server)[UP] == 1)
    gpu.say(hang=True)
    told = of_gpu(server)
    assert told[UP] == 0 and not [name for name in told if "temperature" in name]
    gpu.say()
    server.until(lambda: of_gpu(server)[UP] == 1)
    gpu.say(hang=True)
    assert of_gpu(server)[UP] == 0
    assert server.stop() == 0  # the driver still hangs


def test_every_new_fault_is_a_line_that_says_what_to_do(serve, gpu):
    server = on_gpu(serve, gpu)
    once(server, lambda page: page.get(UP) == 1)
    gpu.say(xids="79 31 31")
    once(server, lambda page: page.get("penstock_gpu_xid_errors_total" + LABELS + "}") == 3)
    lines = [line for line in server.log_lines() if "(Xid)" in line["message"]]
    assert [(line["level"], line["gpu"], line["uuid"], line["xid"], line["times"]) for line in lines] == [
        ("error", "0", "GPU-5f0c", 31, 2), ("error", "0", "GPU-5f0c", 79, 1)], lines
    assert "fallen off its bus" in lines[1]["what"] and "start the machine again" in lines[1]["what_to_do"]
    of_gpu(server)  # and no second one
    assert len([line for line in server.log_lines() if "(Xid)" in line["message"]]) == 2


def test_without_a_driver_that_answers_there_is_one_line_and_no_series(serve, gpu):
    gpu.say(init="!9")
    server = on_gpu(serve, gpu)
    [line] = server.logged(message="no metrics of GPUs")
    assert line["error"] == "libnvidia-ml.so.1: stand-in error 9"
    gpu.say()
    assert not of_gpu(server) and not of_gpu(server)
    assert len(server.logged(message="no metrics of GPUs")) == 1


def test_a_server_on_the_cpu_asks_no_driver(serve, gpu):
    server = serve(env=gpu.environment)
    assert not of_gpu(server)
    assert not [line for line in server.log_lines() if line["message"] == "no metrics of GPUs"]
