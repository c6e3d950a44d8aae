"""The systemd unit, by systemd's own tools: nothing in it is unknown or wrong, what it leaves open is little, and a
server calls nothing that its filter of system calls forbids.

Of both forms: deploy/systemd (installed by hand, under /usr/local) and the package's, which CMake makes of it.
"""

import pathlib
import re
import shutil
import signal
import sys
import tempfile

import rig
from rig import BINARY, ROOT, expect, run, serving

ANALYZE = shutil.which("systemd-analyze")
if not ANALYZE:
    print("systemd-analyze is not installed")
    sys.exit(77)
MOST_EXPOSURE = 15  # of 100, as `systemd-analyze security` adds it up
BY_ROOT = {"fchown"}  # of SQLite, whose files have the folder's owner; the unit's user is not root


def verify(text):
    """What systemd has to say of a unit whose program is this build's; "": nothing."""
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder) / "penstock.service"
        unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={BINARY}", text, flags=re.M))
        done = run(ANALYZE, "verify", "--man=no", "--recursive-errors=no", unit)
        said = done.stdout + done.stderr
        return said or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def has_folders(text):
    """Where what the documentation names may be written: the state, and the socket of operators."""
    expect(re.search(r"^StateDirectory=penstock$", text, re.M), "no state directory")
    expect(re.search(r"^RuntimeDirectory=penstock$", text, re.M), "no /run/penstock")


def exposure(text):
    """(whether that is more than MOST_EXPOSURE, the rows of what is open)"""
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder) / "penstock.service"
        unit.write_text(text)
        done = run(ANALYZE, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", unit)
        expect("Overall exposure level" in done.stdout, done.stdout, done.stderr)
        rows = [line for line in done.stdout.splitlines() if not line.startswith("\u2713")]
        return done.returncode != 0, "\n".join(rows)


def calls_of(group):
    """The names in one of systemd's sets of system calls, such as @system-service."""
    told = run(ANALYZE, "syscall-filter", group).stdout.splitlines()
    rows = [line.strip() for line in told if line.startswith("    ")]
    names = {row for row in rows if row[0] not in "@#"}
    return names.union(*(calls_of(row) for row in rows if row[0] == "@"))


def allowed_calls(text):
    allowed = set()
    for sign, group in re.findall(r"^SystemCallFilter=(~?)(@[\w-]+)$", text, re.M):
        allowed = allowed - calls_of(group) if sign else allowed | calls_of(group)
    expect(len(allowed) > 200, len(allowed), "system calls are allowed")
    return allowed


def made_calls(home):
    """What a server calls from its start to its end; None where nobody may watch it."""
    trace, traced = home / "trace", home / "traced"
    traced.write_text(f'#!/bin/sh\nexec strace -D -f -qq -o "{trace}" "{BINARY}" "$@"\n')
    traced.chmod(0o755)
    if not shutil.which("strace") or run("strace", "-f", "-qq", "-o", trace, "true").returncode != 0:
        return None
    rig.BINARY = str(traced)

    def config(folder):
        return {"server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")}}}

    with serving(config) as server:
        rig.BINARY = BINARY
        body = {"model": "demo", "prompt": "The sea", "max_tokens": 8, "stream": True}
        expect(server.call("POST", "/v1/completions", body)[0] == 200, server.log)
        expect(server.call("GET", "/metrics")[0] == 200, server.log)
        server.config_path.write_text(server.config_path.read_text().replace('"json"', '"text"'))
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: "configuration" in server.log, "a reload")
    calls = set(re.findall(r"^\d+ +([a-z]\w*)\(", trace.read_text(), re.M))
    expect({"execve", "accept", "exit_group"} <= {c.rstrip("4") for c in calls}, calls)
    return calls


def main():
    text = (ROOT / "deploy/systemd/penstock.service").read_text()
    units = {"deploy/systemd": text}
    packaged = pathlib.Path(BINARY).parents[1] / "package/penstock.service"
    if packaged.exists():
        units["package"] = packaged.read_text()
        expect("ExecStart=/usr/bin/penstock " in units["package"], "the package's unit starts another program")
    for name, unit in units.items():
        said = verify(unit)
        expect(not said, name, said)
        has_folders(unit)
        over, table = exposure(unit)
        expect(not over, name, "leaves open more than", MOST_EXPOSURE, "of 100", table)
        print(name, re.search(r"Overall exposure level.*?: *(.*)", table)[1])
    # This test can fail.
    expect("Unknown key" in verify(text.replace("ProtectHome=yes", "ProtectHouse=yes")), "an unknown key passes")
    expect(verify(text.replace("Type=notify", "Type=notfiy")), "an unknown type passes")
    expect(exposure(text.replace("SystemCallFilter", "#"))[0], "a unit without a filter of system calls passes")
    with tempfile.TemporaryDirectory() as folder:
        calls = made_calls(pathlib.Path(folder))
    if calls is None:
        print("SKIPPED: which system calls a server makes: no strace, or it may not trace")
    else:
        forbidden = calls - BY_ROOT - allowed_calls(text)
        expect(not forbidden, "the unit forbids what a server calls:", forbidden)
        stricter = allowed_calls(text + "SystemCallFilter=~@network-io\n")
        expect("socket" in calls - stricter, "a unit that forbids sockets passes")
        print(len(calls), "system calls, all allowed")
    # What the drain may take fits before systemd kills: see the comments of the unit.
    reference = (ROOT / "configs/reference.yaml").read_text()
    times = [re.search(rf"^  {key}: (\d+)(s|m)$", reference, re.M) for key in ("announce", "finish")]
    drain = sum(int(found[1]) * {"s": 1, "m": 60}[found[2]] for found in times)
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M)[1])
    expect(stop >= drain + 10, "TimeoutStopSec", stop, "is less than the drain's", drain, "s and 10 s")


main()
