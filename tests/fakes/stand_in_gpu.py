"""The emulated GPU with a driver that tells how it is: tests/fakes/nvml_stand_in.c, built where a test asks for it."""

import pathlib
import shutil
import subprocess

ADDRESS = "ffff:00:00.0"  # of the emulated GPU
FIGURES = {
    "index": "0", "uuid": "GPU-5f0c", "name": "Stand-in", "utilization": "87 41", "memory": "1000 600 400",
    "temperature": "64", "power": "512345", "power_limit": "700000", "energy": "9000", "sm_clock": "1980",
    "memory_clock": "2619", "throttle": "4", "corrected": "0", "uncorrected": "0", "remapped": "0 0 0 0", "xids": "0",
}
# Keys of a configuration or of --set: small, the emulator keeps what it knows of every byte.
ENGINE = {"device": "cuda-emulated", "kv_memory": "2MiB", "max_batch": 2, "max_step_tokens": 32, "max_len": 128,
          "dtype": "bfloat16"}


def has_emulated_gpu(binary, model):
    """Whether the build has the device."""
    probe = subprocess.run([binary, "check-model", model, "--device", "cuda-emulated", "--golden", "/nowhere"],
                           capture_output=True, text=True)
    return probe.returncode != 4


class StandInGpu:
    """`environment` makes a server find it; what it says may change while the server runs."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.script = folder / "script"
        subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", "-O1", "-o", folder / "libnvidia-ml.so.1",
                        pathlib.Path(__file__).parent / "nvml_stand_in.c"], check=True)
        self.environment = {"LD_LIBRARY_PATH": str(folder), "NVML_SCRIPT": str(self.script)}
        self.say()

    def say(self, hang=False, init=None, **figures):
        """As FIGURES but for these; None: not supported, "!4": an error."""
        rows = [f"{ADDRESS} {key} {value}" for key, value in {**FIGURES, **figures}.items() if value is not None]
        rows += ["driver version 580.1"] + ["driver hang 1"] * hang + [f"driver init {init}"] * (init is not None)
        partial = self.script.with_suffix(".partial")
        partial.write_text("\n".join(rows) + "\n")
        partial.rename(self.script)  # never half of it
