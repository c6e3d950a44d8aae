"""What a script of the chain may not do, and that it ends when it tries: each bomb ends its own call in bounded time
while other calls are answered as before; a script that changes is taken while the server runs."""

import json
import pathlib
import threading
import time

import rig
from chain import ask, call, text_of

# Each is the body of `request(body, facts)`. "limit": it ends with 500 chain_limit. "passes": what it tried did not
# work, and its own call goes on.
BOMBS = {
    "endless loop": ("limit", "while true do end"),
    "loop that catches": ("limit", "while true do pcall(function() while true do end end) end"),
    "nested catches": ("limit", "local function f() pcall(f) while true do pcall(f) end end f()"),
    "handler that loops": ("passes", "assert(xpcall == nil)"),  # nothing would bound it
    "errors without end": ("limit", "while true do pcall(error, 'x') end"),
    "closing that loops": ("limit", "local x <close> = setmetatable({}, {__close = function() while true do end end})"
                                    " error('x')"),
    "recursion": (None, "local function f() return 1 + f() end f()"),
    "table that grows": ("limit", "local t = {} while true do t[#t + 1] = {} end"),
    "text that doubles": (None, "local s = 'x' while true do s = s .. s end"),
    "text that doubles, caught": ("limit", "local s = 'x' while true do pcall(function() s = s .. s end) end"),
    "string.rep": (None, "string.rep('x', 1 << 40)"),
    "string.rep of nothing": ("passes", "assert(string.rep('', 1 << 62) == '')"),
    "string.rep again and again": ("limit", "while true do pcall(string.rep, 'x', 4000000) end"),
    "string.format": (None, "string.format('%99999999d', 1)"),
    "table.concat": ("limit", "local t = {} for i = 1, 100000 do t[i] = 'abc' end while true do table.concat(t) end"),
    "table.concat with metamethods": (None, "table.concat(setmetatable({}, {__index = type}), '', 1, 1 << 60)"),
    "table.insert with __len": (None, "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 1)"),
    "table.sort with __len": (None, "table.sort(setmetatable({}, {__len = function() return (1 << 31) - 2 end}),"
                                    " rawequal)"),
    "table.move": ("passes", "assert(table.move == nil)"),
    "table.unpack": (None, "table.unpack({}, 1, 1 << 26)"),
    "pattern of many parts": ("passes", "assert(not string.find(string.rep('a', 20000),"
                                        " string.rep('.-', 20) .. 'b'))"),
    "pattern that backtracks": (None, "for i = 1, 1000 do string.find(string.rep('a', 30000) .. i, "
                                      "string.rep('a-', 200) .. 'b') end"),
    "gsub that grows": (None, "local s = string.rep('a', 100000) while true do s = string.gsub(s, 'a', 'aaaa') end"),
    "gsub of captures": (None, "string.gsub(string.rep('a', 100000), '(.*)', string.rep('%1', 100000))"),
    "patterns without end": ("limit", "local i = 0 while true do i = i + 1 "
                                      "pcall(string.find, 'a', 'x' .. i .. '.*') end"),
    "comparing long texts": ("limit", "local a, b = string.rep('a', 2000000) .. 'b', string.rep('a', 2000000) .. 'c' "
                                      "while true do local x = a < b end"),
    "utf8.len": ("limit", "local s = string.rep('a', 4000000) while true do utf8.len(s) end"),
    "next over holes": ("limit", "local t = {} for i = 1, 100000 do t['k' .. i] = 1 end "
                                 "for i = 1, 99999 do t['k' .. i] = nil end while true do next(t) end"),
    "finalizer": (None, "setmetatable({}, {__gc = function() while true do end end})"),
    "weak tables": (None, "setmetatable({}, {__mode = 'k'})"),
    "metatable of texts": ("passes", "assert(getmetatable('') == false)"),
    "answer that holds itself": (None, "local t = {} t[1] = t t[2] = t return t"),
    "answer of many shares": (None, "local t = 'x' for i = 1, 40 do t = {t, t} end body.user = nil "
                                    "body.messages = t return body"),
    "answer of long texts": (None, "local s, t = string.rep('x', 1000000), {} for i = 1, 100000 do t[i] = s end "
                                   "body.messages = t return body"),
    "answer of no JSON": (None, "body.x = print or function() end body.messages = body.x return body"),
    "what is not there": ("passes", "assert(not (io or os or debug or package or coroutine or load or loadstring or "
                                    "dofile or loadfile or require or print or collectgarbage or string.dump or "
                                    "string.pack or string.unpack or warn))"),
    "environment": ("passes", "assert(_G._G == _G and _G.io == nil and _ENV.os == nil)"),
    "globals broken": ("passes", "setmetatable(_G, {__index = function() error('no') end})"),
    "error of an odd kind": (None, "error(setmetatable({}, {__tostring = function() while true do end end}))"),
}

# A call of the user "probe" is told which script this is.
SCRIPT = """function request(body, facts)
 if body.user == "probe" then return deny(404, "script %s") end
 do %s end
 return nil
end
"""
ERRORS = 'penstock_chain_errors_total{link="bomb"}'
BUSY = 20  # seconds within which every bomb is over on a machine that is busy with others
SMALL = 0.020  # on a quiet one within which loops and memory bombs are over; what others may notice of them at most
ONE_MORE = 0.040  # what one function of the library, begun before the end, may take beyond
TRIES = 40  # what the machine does beside is noise: the least of some counts
STRICT = ("endless loop", "loop that catches", "nested catches", "table that grows", "text that doubles")


def bombs():
    def config(folder):
        (folder / "bomb.lua").write_text(SCRIPT % ("none", ""))
        (folder / "pepper").write_text("0123456789abcdef" * 4)
        return {
            "server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""},
                       "text_threads": 3},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "guards": {"bomb": {"use": "lua", "file": "bomb.lua", "timeout": "2s"}},
            "chain": ["tenant:guard"], "tenants": {"*": {}, "bomber": {"guard": ["bomb"]}},
        }

    with rig.serving(config) as server:
        bomber = server.keys("create", "--tenant", "bomber", "--role", "user")["key"]
        other = server.keys("create", "--tenant", "other", "--role", "user")["key"]
        server.wait(lambda: call(server, ask("hello"), credential=bomber)[0] == 200, "keys")
        server.wait(lambda: call(server, ask("hello"), credential=other)[0] == 200, "keys")
        expected = text_of(call(server, ask("hello"), credential=other)[2])
        stop, answered, wrong = threading.Event(), [0], []
        bombing, took = threading.Event(), {True: [], False: []}

        def others():
            while not stop.is_set():
                began, during = time.monotonic(), bombing.is_set()
                status, _, body = call(server, ask("hello"), credential=other)
                answered[0] += 1
                if during == bombing.is_set():
                    took[during].append(time.monotonic() - began)
                if status != 200 or text_of(body) != expected:
                    wrong.append(body)

        thread = threading.Thread(target=others)
        thread.start()
        try:
            for name, (outcome, code) in BOMBS.items():
                path = server.folder / "bomb.lua"
                errors = server.metric(ERRORS, other)
                new = path.with_suffix(".new")
                new.write_text(SCRIPT % (name, code))
                new.rename(path)
                probe = ask("hello", user="probe")
                server.wait(lambda: f"script {name}" in call(server, probe, credential=bomber)[2], name)
                before, least = answered[0], 1e9
                most = BUSY if not rig.QUIET else SMALL if name in STRICT else SMALL + ONE_MORE
                for _ in range(TRIES):
                    began = time.monotonic()
                    status, _, body = call(server, ask("hello"), credential=bomber)
                    least = min(least, time.monotonic() - began)
                    if least < most:
                        break
                rig.expect(least < most, name, "took", least)
                if outcome == "limit":
                    rig.expect(status == 500 and "chain_limit" in body, name, status, body)
                elif outcome == "passes":
                    rig.expect(status == 200, name, status, body, server.log[-2000:])
                else:
                    rig.expect(status in (500, 503), name, status, body)
                if outcome != "passes":
                    rig.expect(server.metric(ERRORS, other) > errors, name, "is not counted")
                server.wait(lambda: answered[0] > before, "an answer to others")
                print(f"{name}: {status} in {least * 1000:.0f} ms")
            if rig.QUIET:
                others_beside_bombs(server, bomber, bombing, took)
        finally:
            stop.set()
            thread.join()
        rig.expect(not wrong, "others were disturbed", wrong[:1])
        # A script that cannot be read leaves the old one; one that can be is taken.
        path = server.folder / "bomb.lua"
        path.write_text(SCRIPT % ("gone", "return deny(404, 'gone')"))
        server.wait(lambda: call(server, ask("hello"), credential=bomber)[0] == 404, "the new script")
        errors = server.metric(ERRORS, other)
        path.write_text("function request(")
        server.wait(lambda: call(server, ask("hello"), credential=bomber)[0] == 404 and
                    server.metric(ERRORS, other) > errors, "the error")
        server.wait(lambda: "the old script stays" in server.log and "bomb.lua" in server.log, "a line of the log")
        path.write_text(SCRIPT % ("next", ""))
        server.wait(lambda: call(server, ask("hello"), credential=bomber)[0] == 200, "the next script")


def others_beside_bombs(server, bomber, bombing, took):
    """What others' calls take while bombs follow each other, and while none does, turn and turn about."""
    path = server.folder / "bomb.lua"
    for name in ("endless loop", "table that grows"):
        path.write_text(SCRIPT % ("again " + name, BOMBS[name][1]))
        probe = ask("hello", user="probe")
        server.wait(lambda: f"script again {name}" in call(server, probe, credential=bomber)[2], name)
        for _ in range(3):
            for seconds in took.values():
                seconds.clear()
            bombs = 0
            for _ in range(6):
                bombing.set()
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    rig.expect(call(server, ask("hello"), credential=bomber)[0] == 500, name)
                    bombs += 1
                bombing.clear()
                time.sleep(0.5)
            beside, quiet = (sorted(seconds)[int(len(seconds) * 0.99)] for seconds in (took[True], took[False]))
            print(f"{bombs} of {name}: p99 of others {beside * 1e3:.1f} ms, without {quiet * 1e3:.1f} ms")
            if beside <= quiet + SMALL:
                break
        rig.expect(beside <= quiet + SMALL, "others are held up by", name)


def works():
    """What scripts are for."""
    script = """
    function request(body, facts)
      assert(facts.tenant == "anonymous" and facts.model == "demo" and #facts.request_id > 0)
      body.max_tokens = math.min(body.max_tokens or 16, 8)
      if body.user == "nobody" then return deny(404, "no such user") end
      if body.user == "elsewhere" then route("missing") end
      tag("turns", #body.messages)
      return body
    end
    function prompt(text, facts)
      return (string.gsub(text, "(%d%d%d)%-(%d+)", "%2/%1"))
    end
    function delta(text) return (string.upper(text)) end
    function log(record) tag("seen", record.completion_tokens) end
    """

    def config(folder):
        (folder / "house.lua").write_text(script)
        return {"guards": {"house": {"use": "lua", "file": "house.lua"}}, "chain": ["house"], **rig.ALIKE}

    with rig.serving(lambda folder: rig.ALIKE) as server:
        plain = text_of(call(server, ask("call 45/123 now", max_tokens=8))[2])
    with rig.serving(config) as server:
        status, _, body = call(server, ask("call 123-45 now", max_tokens=30))
        rig.expect(status == 200, body)
        rig.expect(json.loads(body)["usage"]["completion_tokens"] <= 8, "max_tokens", body)
        rig.expect(text_of(body) == upper(plain), "prompt and delta", text_of(body), plain)
        rig.expect(call(server, ask("x", user="nobody"))[0] == 404, "deny")
        rig.expect(call(server, ask("x", user="elsewhere"))[0] == 404, "route to nowhere")
        server.wait(lambda: '"tag.turns":"1"' in server.log and '"tag.seen":"' in server.log, "tags")


def upper(text):
    return "".join(c.upper() if c.isascii() else c for c in text)


if __name__ == "__main__":
    works()
    bombs()
    print("ok")
