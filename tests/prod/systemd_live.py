"""A real systemd runs the unit: started, reloaded, killed, hung, and stopped in the middle of an answer.

systemd is the first process of namespaces of its own (processes, mounts, network, cgroups), over a copy of this
machine's files that is gone afterwards. Needs root; whatever the machine does not permit is said and skips.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from rig import BINARY, ROOT, bound, expect, run

SYSTEMD = "/lib/systemd/systemd"
WATCHDOG = 3  # seconds, in place of the unit's minute
CONFIG = json.dumps({"models": {"demo": {"path": "/opt/penstock-demo"}},
                     "observe": {"level": "warn"}})
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
mkdir -p etc/penstock etc/systemd/system/penstock.service.d opt/penstock-demo usr/local/bin
cp "$2/penstock" usr/local/bin/penstock
cp -r "$2/demo/." opt/penstock-demo
cp "$2/penstock.service" etc/systemd/system/
cp "$2/quick.conf" etc/systemd/system/penstock.service.d/
cp "$2/penstock.yaml" etc/penstock/
mkdir old
pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
"""


def skip(*why):
    print("SKIPPED:", *why)
    sys.exit(77)


class Machine:
    """Its first process is systemd; `unshare` is the parent of that one."""

    def __init__(self, folder, log):
        names = ("--mount", "--pid", "--net", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child")
        self.parent = subprocess.Popen(["unshare", *names, "sh", "-c", BOOT, "boot", folder / "root", folder / "files"],
                                       stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.first = None

    def boots(self):
        if self.parent.poll() is not None:
            return False
        children = pathlib.Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
        with_name = [pid for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n"]
        self.first = with_name[0] if with_name else None
        return self.first is not None and self.run("systemctl", "is-system-running").stdout.strip() in (
            "running", "degraded")

    def enter(self, *command):
        return ["nsenter", "-t", self.first, "-m", "-p", "-n", "-u", "-i", "-C", "env", "-i",
                "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *command]

    def run(self, *command):
        return run(*self.enter(*command), timeout=bound(60))

    def get(self, path):
        return self.run("curl", "-fsS", f"http://127.0.0.1:8000{path}").stdout

    def show(self, name):
        return self.run("systemctl", "show", "--value", "--property", name, "penstock").stdout.strip()

    def wait(self, condition, what):
        end = time.monotonic() + bound(60)
        while not condition():
            expect(time.monotonic() < end, what, self.run("journalctl", "--no-pager", "-n", "30").stdout)
            time.sleep(0.1)

    def end(self):
        self.parent.kill()
        self.parent.wait()


def lay_out(files):
    files.mkdir()
    (files / "penstock").symlink_to(BINARY)
    (files / "demo").symlink_to(ROOT / "models/demo")
    (files / "penstock.service").symlink_to(ROOT / "deploy/systemd/penstock.service")
    (files / "quick.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG}\n")
    (files / "penstock.yaml").write_text(CONFIG)


def serves(machine):
    return machine.show("ActiveState") == "active" and '"demo"' in machine.get("/v1/models")


def config_hash(machine):
    return re.search(r'penstock_config_hash_info{hash="(\w+)"}', machine.get("/metrics"))[1]


def main():
    if os.geteuid() != 0:
        skip("not root")
    for program in ("unshare", "nsenter", "pivot_root", "ip", "curl"):
        if not shutil.which(program):
            skip(program, "is not installed")
    if not pathlib.Path(SYSTEMD).exists():
        skip("systemd is not installed")
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+") as log:
        folder = pathlib.Path(name)
        (folder / "root").mkdir()
        lay_out(folder / "files")
        machine = Machine(folder, log)
        try:
            end = time.monotonic() + bound(60)
            while not machine.boots():
                if machine.parent.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    skip("no systemd boots here:", log.read().strip()[-500:])
                time.sleep(0.1)
            live(machine)
        finally:
            machine.end()


def live(machine):
    started = machine.run("systemctl", "start", "penstock")  # returns when the server is ready
    expect(started.returncode == 0, started.stderr, machine.run("journalctl", "--no-pager", "-n", "30").stdout)
    expect(machine.show("StatusText") == "serving" and serves(machine), machine.show("StatusText"))
    user = machine.run("ps", "-o", "user=", "-p", machine.show("MainPID")).stdout.strip()
    expect(user not in ("", "root"), "the server runs as", user)
    print("serves as", user)

    before = config_hash(machine)
    machine.run("sed", "-i", 's/"warn"/"info"/', "/etc/penstock/penstock.yaml")
    expect(machine.run("systemctl", "reload", "penstock").returncode == 0, "no reload")
    machine.wait(lambda: config_hash(machine) != before, "the reload's configuration")
    expect(machine.show("NRestarts") == "0", "restarted by a reload")

    machine.run("kill", "-KILL", machine.show("MainPID"))
    machine.wait(lambda: machine.show("NRestarts") == "1" and serves(machine), "no restart behind a kill")
    machine.run("kill", "-STOP", machine.show("MainPID"))
    machine.wait(lambda: machine.show("NRestarts") == "2" and serves(machine), "no restart of what hangs")
    print("restarted behind a kill and by the watchdog")

    body = {"model": "demo", "prompt": "The sea", "n": 16, "max_tokens": 1500, "ignore_eos": True}
    call = subprocess.Popen(machine.enter("curl", "-sS", "http://127.0.0.1:8000/v1/completions", "-H",
                                          "Content-Type: application/json", "-d", json.dumps(body)),
                            stdout=subprocess.PIPE, text=True)
    running = re.compile(r"^vllm:num_requests_running{.*} [1-9]", re.M)
    machine.wait(lambda: running.search(machine.get("/metrics")), "a running request")
    stop = machine.run("systemctl", "stop", "penstock")
    expect(stop.returncode == 0, stop.stderr)
    said = call.communicate(timeout=bound(60))[0]
    expect(said, "no answer", machine.run("journalctl", "--no-pager", "-n", "30").stdout)
    answer = json.loads(said)
    expect(answer["usage"]["completion_tokens"] == 16 * 1500, answer.get("usage"))
    expect(machine.show("Result") == "success" and machine.show("ActiveState") == "inactive", machine.show("Result"))
    print("a stop lets an answer end, and is a success")


main()
