"""Where Alertmanager sends what fires: not a test of its own."""

import http.server
import json
import threading


class Webhook:
    """What Alertmanager sends: the last state of each (alert, instance), and all that ever fired."""

    def __init__(self):
        self.state, self.fired, self.lock = {}, {}, threading.Lock()
        hook = self

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with hook.lock:
                    for alert in body["alerts"]:
                        labels = alert["labels"]
                        key = labels["alertname"], labels.get("instance")
                        hook.state[key] = alert["status"]
                        if alert["status"] == "firing":
                            hook.fired.setdefault(key, labels)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def arrived(self, name, instance):
        with self.lock:
            return self.state.get((name, instance)) == "firing"

    def resolved(self, name, instance):
        with self.lock:
            return self.state.get((name, instance)) == "resolved"
