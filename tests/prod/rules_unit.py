"""The rules for Prometheus: promtool checks and tests them, and every series that they read is one of ours."""

import pathlib
import re
import shutil
import sys
import tempfile

from rig import BINARY, ROOT, Authority, expect, run, serving

sys.path.insert(0, str(ROOT / "tests/fakes"))
from stand_in_gpu import ENGINE, StandInGpu, has_emulated_gpu  # noqa: E402

PROMTOOL = shutil.which("promtool")
FOLDER = ROOT / "deploy/prometheus"


def series(text):
    return set(re.findall(r"\b((?:vllm:|penstock_)\w+)", re.sub(r"#.*", "", text)))


def exported():
    with tempfile.TemporaryDirectory() as folder:  # some series are of TLS, others of aliases, guards or a GPU
        authority = Authority(folder)
        cert, key = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
        (pathlib.Path(folder) / "revoked.pem").write_text(authority.revocations())
        gpu = StandInGpu(pathlib.Path(folder) / "gpu")
        demo = str(ROOT / "models/demo")
        config = {"tls": {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.cert),
                          "client_crl_file": f"{folder}/revoked.pem"}, "chain": ["schema"],
                  "server": {"state_dir": str(pathlib.Path(folder) / "state")}, "registry": {"aliases": "local"},
                  "models": {"demo": {"path": demo}, "on-gpu": {"path": demo, "engine": ENGINE}}}
        with serving(lambda _: config, env=gpu.environment) as server:
            def page():
                return server.call("GET", "/metrics", connection=server.connect(authority.context()))[1]

            server.wait(lambda: "penstock_gpu_up{" in page(), "what the driver says")
            told = page()
    return set(re.findall(r"^# TYPE (\S+)", told, re.M))


def known(name, families):
    return name in families or re.sub(r"_(bucket|sum|count)$", "", name) in families


if not has_emulated_gpu(BINARY, ROOT / "models/demo"):
    print("this build has no emulated GPU, of which some rules tell")
    sys.exit(77)
rules = (FOLDER / "penstock.rules.yml").read_text()
families = exported()
strangers = sorted(name for name in series(rules) if not known(name, families))
expect(not strangers, "rules read what the server does not export:", strangers)
runbook = (ROOT / "docs/runbook.md").read_text()
alerts = re.findall(r"alert: (\w+)", rules)
pages = re.findall(r"^## (\w+)$", runbook, re.M)
expect(alerts and sorted(alerts) == sorted(pages), "alerts and the runbook's pages differ:", set(alerts) ^ set(pages))
if PROMTOOL is None:
    print("promtool is not installed: the rules were not run")
    sys.exit(77)
for verb, file in (("check", "penstock.rules.yml"), ("test", "penstock.rules.test.yml")):
    done = run(PROMTOOL, verb, "rules", FOLDER / file, cwd=FOLDER)
    expect(done.returncode == 0, verb, done.stdout, done.stderr)
print(f"{len(alerts)} alerts, {len(series(rules))} series")
