"""Holds single threads of a server still, so that the rest of it goes on beside them."""

import contextlib
import ctypes
import os
import pathlib
import time

from rig import expect


class Stopper:
    """Holds single threads of a process still, as a debugger does. All calls come from one thread."""

    SEIZE, INTERRUPT, DETACH, ALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self):
        self.ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        self.held = set()
        self.ptrace.argtypes, self.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long

    def hold(self, thread):
        if self.ptrace(self.SEIZE, thread, 0, 0) != 0:
            return False
        self.held.add(thread)
        expect(self.ptrace(self.INTERRUPT, thread, 0, 0) == 0, "PTRACE_INTERRUPT", ctypes.get_errno())
        os.waitpid(thread, self.ALL)
        return True

    def release(self, thread):
        self.ptrace(self.DETACH, thread, 0, 0)

    def release_all(self):
        """Else a process that is killed does not end: this one would have to wait for its threads."""
        for thread in self.held:
            self.release(thread)


def cpu_of_threads(pid):
    out = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            out[int(task.name)] = int(fields[11]) + int(fields[12])
    return out


def busiest_thread(server):
    """The one that computes, while requests run."""
    def spent():
        before = cpu_of_threads(server.process.pid)
        time.sleep(0.3)
        after = cpu_of_threads(server.process.pid)
        return max(((after[t] - before.get(t, 0), t) for t in after), default=(0, 0))

    best = (0, 0)
    while best[0] < 3:  # ticks
        best = spent()
    return best[1]
