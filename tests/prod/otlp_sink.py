"""A collector of traces that takes nothing on trust: what of a body breaks OTLP/HTTP's rules for JSON is a complaint.

Written from the protocol's specification (opentelemetry-proto's trace.proto, "JSON Protobuf Encoding" of OTLP): ids are
lower- or upper-case hex, 64-bit integers are decimal strings, enums are numbers, names are lowerCamelCase.
"""

import http.server
import json
import re
import threading
import time

UINT64 = re.compile(r"\d{1,20}")
VALUES = {"stringValue": str, "boolValue": bool, "intValue": str, "doubleValue": (int, float), "arrayValue": dict}
SPAN = {"traceId", "spanId", "parentSpanId", "flags", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
        "attributes", "status", "traceState", "events", "links"}


class Complaint(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Complaint(" ".join(map(str, what)))


def only(value, known, where):
    check(isinstance(value, dict), where, "is no object:", value)
    check(set(value) <= set(known), where, "has", set(value) - set(known))


def any_value(value, where):
    only(value, VALUES, where)
    check(len(value) == 1, where, "has not one value:", value)
    kind, inner = next(iter(value.items()))
    check(isinstance(inner, VALUES[kind]), where, kind, "is", inner)
    if kind == "intValue":
        check(re.fullmatch(r"-?\d{1,19}", inner), where, inner)
        return int(inner)
    if kind == "arrayValue":
        only(inner, ["values"], where)
        return [any_value(item, where) for item in inner["values"]]
    return inner


def attributes(pairs, where):
    out = {}
    check(isinstance(pairs, list), where, "attributes:", pairs)
    for pair in pairs:
        only(pair, ["key", "value"], where)
        check(isinstance(pair["key"], str) and pair["key"] and pair["key"] not in out, where, "key", pair)
        out[pair["key"]] = any_value(pair["value"], where)
    return out


def hexadecimal(text, size, where):
    check(isinstance(text, str) and re.fullmatch(f"[0-9a-fA-F]{{{size}}}", text), where, text)
    check(int(text, 16) != 0, where, "is zero")
    return text.lower()


def span(raw):
    only(raw, SPAN, "span")
    out = {"trace": hexadecimal(raw.get("traceId"), 32, "traceId"),
           "id": hexadecimal(raw.get("spanId"), 16, "spanId"), "parent": None}
    if raw.get("parentSpanId"):
        out["parent"] = hexadecimal(raw["parentSpanId"], 16, "parentSpanId")
    check(isinstance(raw.get("name"), str) and 0 < len(raw["name"]) <= 200, "name", raw.get("name"))
    check(raw.get("kind") in (1, 2, 3, 4, 5) and not isinstance(raw["kind"], bool), "kind", raw.get("kind"))
    for field in ("startTimeUnixNano", "endTimeUnixNano"):
        check(isinstance(raw.get(field), str) and UINT64.fullmatch(raw[field]), field, raw.get(field))
    out |= {"name": raw["name"], "kind": raw["kind"], "flags": raw.get("flags", 0),
            "begin": int(raw["startTimeUnixNano"]), "end": int(raw["endTimeUnixNano"])}
    check(out["begin"] <= out["end"], "times", raw)
    check(abs(out["end"] / 1e9 - time.time()) < 3600, "is not about now:", raw["endTimeUnixNano"])
    check(isinstance(out["flags"], int) and 0 <= out["flags"] < 1 << 32, "flags", raw.get("flags"))
    out["attributes"] = attributes(raw.get("attributes", []), "span")
    status = raw.get("status", {})
    only(status, ["code", "message"], "status")
    check(status.get("code", 0) in (0, 1, 2), "status", status)
    out["status"], out["message"] = status.get("code", 0), status.get("message", "")
    return out


def spans_of(body):
    """All spans of a body, with their resource's attributes."""
    only(body, ["resourceSpans"], "body")
    out = []
    for group in body["resourceSpans"]:
        only(group, ["resource", "scopeSpans", "schemaUrl"], "resourceSpans")
        resource = attributes(group["resource"]["attributes"], "resource")
        check(resource.get("service.name"), "a resource without service.name")
        for scope in group["scopeSpans"]:
            only(scope, ["scope", "spans", "schemaUrl"], "scopeSpans")
            only(scope["scope"], ["name", "version", "attributes"], "scope")
            out += [{**span(raw), "resource": resource} for raw in scope["spans"]]
    return out


class Sink:
    """Listens on a free port. `answer(handler)` replaces the right answer by another one."""

    def __init__(self, answer=None):
        self.spans, self.complaints, self.calls, self.lock = [], [], 0, threading.Lock()
        sink = self

        class Collector(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    check(self.path == "/v1/traces", "path", self.path)
                    check(self.headers["Content-Type"] == "application/json", "type", self.headers["Content-Type"])
                    found = spans_of(json.loads(raw))
                except (Complaint, ValueError, KeyError, TypeError) as error:
                    with sink.lock:
                        sink.complaints.append((repr(error), raw[:2000]))
                    found = []
                with sink.lock:
                    sink.calls += 1
                    sink.spans += found
                if answer is not None:
                    return answer(self)
                self.say(200, b"{}")

            def say(self, status, body, headers=()):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # the server goes away from a collector that is too slow
                pass

        self.server = Quiet(("127.0.0.1", 0), Collector)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, trace):
        with self.lock:
            return [s for s in self.spans if s["trace"] == trace]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
