"""A real systemd runs the unit: started, reloaded, killed, hung, and stopped in the middle of an answer.

systemd is the first process of namespaces of its own (processes, mounts, network, cgroups), over a copy of this
machine's files that is gone afterwards. Needs root; whatever the machine does not permit is said and skips.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import rig
from rig import BINARY, ROOT, bound, expect, run

SYSTEMD = "/lib/systemd/systemd"
ANSWER = "/tmp/answer"
WATCHDOG = 10  # seconds, in place of the unit's minute
CONFIG = json.dumps({"models": {"demo": {"path": "/opt/penstock-demo", "engine": {"max_queue": rig.LONG_QUEUE}}},
                     "drain": {"finish": f"{WATCHDOG + 4}s"}})
# $1: an empty folder, $2: what lay_out() made. Of the machine's kernel and devices nothing can be written from inside.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
mkdir old
pivot_root . old
cd /
mkdir -p etc/penstock etc/systemd/system/penstock.service.d opt/penstock-demo usr/local/bin
for name in fstab crypttab; do rm -f etc/$name; : >etc/$name; done
for name in sysctl modules-load udevd udev-trigger tmpfiles-setup-dev; do
  ln -sfn /dev/null etc/systemd/system/systemd-$name.service
done
cp --remove-destination "old$2/penstock" usr/local/bin/penstock
cp -r "old$2/demo/." opt/penstock-demo
cp --remove-destination "old$2/penstock.service" etc/systemd/system/
cp "old$2/quick.conf" etc/systemd/system/penstock.service.d/
cp --remove-destination "old$2/penstock.yaml" etc/penstock/
umount -l old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
"""


def skip(*why):
    print("SKIPPED:", *why)
    sys.exit(77)


def cgroups():
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup")}


class Machine:
    """Its first process is systemd; `unshare` is the parent of that one."""

    def __init__(self, folder, log):
        names = ("--mount", "--pid", "--net", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child")
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *names, "sh", "-c", BOOT, "boot"]
        self.cgroups = cgroups()
        self.parent = subprocess.Popen([*command, folder / "root", folder / "files"], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
        self.first = None

    def boots(self):
        try:
            children = pathlib.Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
            first = [pid for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n"]
        except OSError:
            return False
        self.first = first[0] if first else None
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

    def log(self):
        return self.run("journalctl", "--no-pager", "-n", "30").stdout

    def wait(self, condition, what):
        end = time.monotonic() + bound(60)
        while not condition():
            expect(time.monotonic() < end, what, self.log())
            time.sleep(0.1)

    def end(self):
        if self.first is not None:
            self.run("kill", "-s", "RTMIN+3", "1")   # halt
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.parent.wait(bound(60))
        self.parent.kill()
        self.parent.wait()
        for folder in sorted(cgroups() - self.cgroups, key=len, reverse=True):   # it leaves its own
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def lay_out(files):
    files.mkdir()
    shutil.copy(BINARY, files / "penstock")
    shutil.copytree(ROOT / "models/demo", files / "demo")
    shutil.copy(ROOT / "deploy/systemd/penstock.service", files)
    (files / "quick.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG}\n")
    (files / "penstock.yaml").write_text(CONFIG)


def serves(machine):
    return machine.show("ActiveState") == "active" and '"demo"' in machine.get("/v1/models")


def figure(machine, name):
    """The largest value of a metric's series; 0: there is none."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", machine.get("/metrics"), re.M)
    return max(map(float, found), default=0)


def main():
    if os.geteuid() != 0:
        skip("not root")
    for program in ("unshare", "setpriv", "nsenter", "pivot_root", "ip", "curl", "ps", "kill", "journalctl"):
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
    expect(started.returncode == 0, started.stderr, machine.log())
    expect(machine.show("StatusText") == "serving" and serves(machine), machine.show("StatusText"))
    user = machine.run("ps", "-o", "user=", "-p", machine.show("MainPID")).stdout.strip()
    expect(user not in ("", "root"), "the server runs as", user)
    print("serves as", user)

    taken = "penstock_config_last_reload_timestamp_seconds"
    before = figure(machine, taken)
    expect(machine.run("systemctl", "reload", "penstock").returncode == 0, "no reload")
    machine.wait(lambda: figure(machine, taken) > before, "a reload")
    expect(machine.show("NRestarts") == "0", "restarted by a reload")

    for signal in ("KILL", "STOP"):   # the second is the watchdog's
        before = int(machine.show("NRestarts"))
        machine.run("kill", "-s", signal, machine.show("MainPID"))
        machine.wait(lambda: int(machine.show("NRestarts")) > before and serves(machine), f"a restart behind {signal}")
    print("restarted behind a kill and by the watchdog")

    call(machine, {"model": "demo", "prompt": "The sea", "n": 16, "max_tokens": 500, "ignore_eos": True})
    stop(machine)
    answer = json.loads(machine.run("cat", ANSWER).stdout)
    expect(answer["usage"]["completion_tokens"] == 16 * 500, answer)
    print("a stop lets an answer end, and is a success")

    expect(machine.run("systemctl", "start", "penstock").returncode == 0, machine.log())
    call(machine, rig.LONG)
    begin = time.monotonic()
    stop(machine)
    expect(time.monotonic() - begin > WATCHDOG, "what no machine ends was ended early", machine.log())
    print("draining for longer than the watchdog waits is a success too")


def call(machine, body):
    subprocess.Popen(machine.enter("curl", "-sS", "-o", ANSWER, "http://127.0.0.1:8000/v1/completions", "-H",
                                   "Content-Type: application/json", "-d", json.dumps(body)))
    machine.wait(lambda: figure(machine, "vllm:num_requests_running") > 0, "a running request")


def stop(machine):
    stopped = machine.run("systemctl", "stop", "penstock")
    expect(stopped.returncode == 0, stopped.stderr)
    state = machine.show("Result"), machine.show("ActiveState")
    expect(state == ("success", "inactive"), state, machine.log())


main()
