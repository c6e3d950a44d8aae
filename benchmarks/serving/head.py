"""The head of result files: that of penstock.bench/1, with a schema of the benchmark's own, as its body is another."""
import json
import os
import platform
import re
import subprocess
import time


def head(benchmark, penstock):
    """{schema, version with commit, time, machine} of what `benchmark` measures with the program `penstock`."""
    told = subprocess.run([str(penstock), "version"], capture_output=True, text=True, check=True).stdout
    cpu = re.search(r"^model name\s*: (.*)$", open("/proc/cpuinfo").read(), re.M)
    return {
        "schema": f"penstock.benchmarks.{benchmark}/1",
        "version": "+".join(re.search(r"^penstock (\S+)\ncommit: (\S+)$", told, re.M).groups()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": cpu[1] if cpu else platform.machine(), "cores": len(os.sched_getaffinity(0)),
                    "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
                    "kernel": platform.release(), "host": platform.node()},
    }


def keep(path, benchmark, penstock, body):
    """Writes `body` below its head to `path`; nothing where that is empty."""
    if path:
        with open(path, "w") as file:
            file.write(json.dumps(head(benchmark, penstock) | body, indent=1) + "\n")
