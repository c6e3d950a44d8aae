"""deploy/haproxy with a real HAProxy and three servers: one killed, one leaving, one standing still, under streams."""

import contextlib
import os
import re
import signal
import threading
import time

from farm import Load, farm, needs_haproxy
from rig import QUIET, expect

SECONDS = float(os.environ.get("PENSTOCK_PROD_SECONDS", "6"))
STREAMS = 60


def one_killed_breaks_only_what_it_was_answering(f):
    load = Load(f, STREAMS, tokens=1900)
    end = time.monotonic() + 120
    while load.running < STREAMS:  # every one has its first token
        expect(time.monotonic() < end, load.running, "streams")
        time.sleep(0.001)
    load.tokens = 40
    # Of what clients have not read the server may have written all: what it still writes is broken by its end.
    most = f.figures("current_sessions")[0]
    busy = re.compile(r"^vllm:num_requests_running\S* [1-9]", re.M)
    f.servers[0].wait(lambda: busy.search(f.servers[0].call("GET", "/metrics/lb")[1]), "a stream of the first")
    killed = time.monotonic()
    f.servers[0].kill()
    gone = time.monotonic()
    while sum(began >= gone for began, _, _ in list(load.ended)) < STREAMS:
        expect(time.monotonic() < end, len(load.ended), "ended")
        time.sleep(0.05)
    ended = load.stop()
    failed = [x for x in ended if not x[2]]
    late = [began - gone for began, _, _ in failed if began >= gone]
    before = sum(end <= gone for _, end, _ in ended)  # another may have begun there in the place of each
    print(f"{len(ended)} streams, {len(failed)} broken of {most:.0f}, {len(late)} of those that began later")
    expect(0 < len(failed) <= min(most + before, STREAMS // 2 + 1) and not late, killed, failed, late)


def one_leaving_loses_nothing(f):
    load = Load(f, STREAMS)
    time.sleep(SECONDS / 3)
    f.servers[1].stop()
    time.sleep(SECONDS / 2)
    ended = load.stop()
    print(f"{len(ended)} streams")
    expect(len(ended) > STREAMS and all(well for _, _, well in ended), [x for x in ended if not x[2]])


def one_standing_still_is_left_out_within_two_seconds(f):
    load = Load(f, timeout=3 if QUIET else 10)
    time.sleep(SECONDS / 3)
    stopped, out = time.monotonic(), []

    def watch():
        while not out and not load.stopping.is_set():
            with contextlib.suppress(OSError):
                if not f.up()[2]:
                    out.append(time.monotonic() - stopped)
            time.sleep(0.02)

    f.servers[2].process.send_signal(signal.SIGSTOP)
    watching = threading.Thread(target=watch)
    watching.start()
    time.sleep(SECONDS)
    end = time.monotonic() + 60
    while not QUIET and not (out and sum(began > stopped + out[0] for began, _, _ in list(load.ended)) >= STREAMS):
        expect(time.monotonic() < end, out, len(load.ended), "ended")
        time.sleep(0.05)
    ended = load.stop()
    watching.join()
    f.servers[2].process.send_signal(signal.SIGCONT)
    late = [began - stopped for began, _, well in ended if not well]
    print(f"{len(ended)} streams; out of rotation after {out[0] if out else -1:.2f} s, the last that failed began"
          f" {max(late, default=0):.2f} s after the stop")
    most = 2 if QUIET else out[0]  # a busy machine's checks come late
    expect(len(ended) > 20 and out and out[0] <= most, out)
    expect(max(late, default=0) <= most, late)


needs_haproxy()
for part in (
    one_killed_breaks_only_what_it_was_answering,
    one_leaving_loses_nothing,
    one_standing_still_is_left_out_within_two_seconds,
):
    print(part.__name__, flush=True)
    with farm() as f:
        part(f)
