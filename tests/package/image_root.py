"""What the image holds, served from as docker/Dockerfile and docker/compose.yaml say: as its user, without
capabilities, on a root that cannot be written, with its health check. Needs root, mount namespaces and PyYAML."""
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

try:
    import yaml
except ImportError:
    yaml = None

SOURCE = pathlib.Path(__file__).resolve().parents[2]
KEY = "the-key-of-this-test"

# $1: the image's root, as a bind of its own; $2: the user; then folders that may be written, "--", the command.
READ_ONLY = """set -e; root=$1 user=$2; shift 2
mkdir -p "$root/proc" "$root/dev"     # as engines do
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do mount -t tmpfs -o "uid=${user%:*},gid=${user#*:}" tmpfs "$root$1"; shift; done; shift
exec chroot --userspec="$user" "$root" "$@"
"""


def lacks():
    """What this machine has not that serve() needs; None: nothing."""
    if yaml is None:
        return "no PyYAML"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        return "no mount namespaces"
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dockerfile_config(text):
    """The part of an image's configuration that serve() reads, from a Dockerfile of one line per instruction."""
    rows = dict(re.findall(r"^([A-Z]+) (.*)$", text, re.M))
    options, command = re.fullmatch(r"((?:--\S+ )*)CMD (.*)", rows["HEALTHCHECK"]).groups()
    [seconds] = re.findall(r"--start-period=(\d+)s", options)
    return {"User": rows["USER"], "Env": rows["ENV"].split(), "Volumes": json.loads(rows["VOLUME"]),
            "Healthcheck": {"Test": ["CMD", *json.loads(command)], "StartPeriod": int(seconds)},
            "Entrypoint": json.loads(rows["ENTRYPOINT"]), "Cmd": json.loads(rows["CMD"])}


def call(port, path, body=None, key=None):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error)


def serve(root, config, command):
    """Starts the server, but for its ports as it is told; asks what a user and a health check would.

    Returns the status of a call without a key.
    """
    port = free_port()
    inside = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(root), config["User"], *config["Volumes"], "--"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    server = subprocess.Popen([*inside, *config["Entrypoint"], *command, "--port", str(port), "--grpc-port", "0"],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
    try:
        end = time.monotonic() + 120
        while call(port, "/ready")[0] != 200:
            if server.poll() is not None or time.monotonic() > end:
                server.kill()
                sys.exit(f"no server in the image: {server.communicate()[0][-3000:]}")
            time.sleep(0.1)
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        assert f"Uid:\t{config['User'].split(':')[0]}\t" in status and "CapEff:\t0000000000000000" in status, status
        body = {"model": "demo", "prompt": "The sea", "max_tokens": 8}
        code, answer = call(port, "/v1/completions", body, KEY)
        assert code == 200 and json.loads(answer)["usage"]["completion_tokens"] > 0, (code, answer)
        keyless = call(port, "/v1/completions", body)[0]
        for path, words in (("/", b"<title>Penstock</title>"), ("/page/app.js", b"import")):
            code, answer = call(port, path)
            assert code == 200 and words in answer, (path, code)
        health = config["Healthcheck"]["Test"]
        assert health[0] == "CMD" and config["Healthcheck"]["StartPeriod"] > 0, health
        healthy = subprocess.run([*inside, *health[1:], "--target", f"127.0.0.1:{port}"], env=environment,
                                 capture_output=True, text=True)
        assert healthy.returncode == 0, healthy.stderr
        in_root = ["nsenter", "-m", "-t", str(server.pid), "touch"]
        touched = subprocess.run([*in_root, str(root / "etc/written")], capture_output=True, text=True)
        assert touched.returncode != 0 and "Read-only" in touched.stderr, "the root can be written"
        for folder in ("/tmp", *config["Volumes"]):
            touched = subprocess.run([*in_root, f"{root}{folder}/written"], capture_output=True, text=True)
            assert touched.returncode == 0, touched.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        output = server.communicate(timeout=120)[0]
    assert server.returncode == 0, (server.returncode, output[-2000:])
    return keyless


def serve_both(root, config):
    """As the image says, then as compose says."""
    assert serve(root, config, config["Cmd"]) == 200  # on loopback everyone may call
    service = yaml.safe_load((SOURCE / "docker/compose.yaml").read_text())["services"]["penstock"]
    assert service["read_only"] and service["tmpfs"] == ["/tmp"] and service["cap_drop"] == ["ALL"], service
    assert sorted(v.split(":")[1] for v in service["volumes"]) == sorted(config["Volumes"]), service["volumes"]
    assert serve(root, config, [part.replace("${PENSTOCK_KEY:-change-me}", KEY) for part in service["command"]]) == 401
