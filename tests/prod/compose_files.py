"""docker/compose.yaml and the files that it mounts: each is there, its program can read it, names fit each other.
And what docker/build takes."""

import os
import pathlib
import re
import shutil
import sys
import tempfile

from rig import ROOT, expect, run

try:
    import yaml
except ImportError:
    print("no PyYAML: ./dev setup puts it into build/venv")
    sys.exit(77)
PROMTOOL, AMTOOL = shutil.which("promtool"), shutil.which("amtool")
if not PROMTOOL or not AMTOOL:
    print("promtool or amtool is not installed")
    sys.exit(77)
DOCKER = ROOT / "docker"
compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
services = compose["services"]


def mounted(service):
    """Path in the container -> path here, of files and folders; named volumes are None."""
    found = {}
    for volume in services[service].get("volumes", []):
        here, there = volume.split(":")[:2]
        found[there] = (DOCKER / here).resolve() if here.startswith(".") else None
        expect(found[there] is None or found[there].exists(), service, "mounts", here, "which is not there")
        expect(found[there] is not None or here in compose["volumes"], service, "has no volume", here)
    return found


def ports(service):
    return {entry.rsplit(":", 1)[1] for entry in services[service]["ports"]}


def points_to_a_service(url):
    host, port = re.fullmatch(r"(?:http://)?([\w-]+):(\d+)", url).groups()
    expect(host in services and port in ports(host), url, "is no port of", sorted(services))


# Prometheus: the configuration with the paths of this machine in the place of those in the container.
files = mounted("prometheus")
config = files["/etc/prometheus/prometheus.yml"].read_text()
loaded = yaml.safe_load(config)
expect("--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"], "another file is read")
[key] = services["prometheus"]["configs"]
expect(key["source"] in compose["configs"], key)
with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "key").write_text("key")
    for there, here in [*files.items(), (key["target"], f"{folder}/key")]:
        config = config.replace(there, str(here))
    (pathlib.Path(folder) / "prometheus.yml").write_text(config)
    done = run(PROMTOOL, "check", "config", f"{folder}/prometheus.yml")
    expect(done.returncode == 0 and "1 rule files found" in done.stdout, done.stdout, done.stderr)
[job] = loaded["scrape_configs"]
expect(job["job_name"] == "penstock", "the rules know the job by another name")
expect(job["authorization"]["credentials_file"] == key["target"], "the key lies elsewhere")
for targets in (job["static_configs"], loaded["alerting"]["alertmanagers"][0]["static_configs"]):
    for target in targets[0]["targets"]:
        points_to_a_service(target)

# Alertmanager, which reads the file of its image's own place.
done = run(AMTOOL, "check-config", mounted("alertmanager")["/etc/alertmanager/alertmanager.yml"])
expect(done.returncode == 0, done.stdout, done.stderr)

# Grafana: the boards lie where the provider looks, the data source is the Prometheus of above.
files = mounted("grafana")
for folder, kind in (("dashboards", "providers"), ("datasources", "datasources")):
    [entry] = yaml.safe_load(files[f"/etc/grafana/provisioning/{folder}/penstock.yaml"].read_text())[kind]
    if kind == "providers":
        boards = files[entry["options"]["path"]]
        expect(len(list(boards.glob("*.json"))) >= 5, "no dashboards in", boards)
    else:
        expect(entry["type"] == "prometheus" and entry["isDefault"], entry)
        points_to_a_service(entry["url"])

# Penstock: the key that Prometheus shows is the one that it asks for; only loopback needs none.
command = services["penstock"]["command"]
expect(command[command.index("--api-key") + 1] == compose["configs"]["key"]["content"], "two keys")
expect(command[command.index("--config") + 1] == "/etc/penstock/penstock.yaml", command)
mounted("penstock")

# docker/build takes the newest of several packages.
with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    packages = root / "build/package/package"
    for place in (packages, root / "docker", root / "bin"):
        place.mkdir(parents=True)
    shutil.copy(DOCKER / "build", root / "docker/build")
    for program in ("dev", "docker/make_rootfs", "bin/docker", "bin/nvcc"):  # what they are told goes into a file
        (root / program).write_text(f'#!/bin/sh\necho "{program} $*" >>{folder}/said\n')
        (root / program).chmod(0o755)
    for age, version in enumerate(("0.10.0", "0.2.0")):
        (packages / f"penstock_{version}_amd64.deb").write_text(version)
        os.utime(packages / f"penstock_{version}_amd64.deb", (1000 - age, 1000 - age))
    for kind in ("cpu", "cuda"):
        done = run(root / "docker/build", kind, env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"})
        expect(done.returncode == 0, kind, done.stdout, done.stderr)
    said = (root / "said").read_text()
    expect("docker/make_rootfs build/package/package/penstock_0.10.0_amd64.deb build/image/rootfs.tar\n" in said, said)
    expect((root / "build/image/penstock.deb").read_text() == "0.10.0", "an older package")
    expect(said.count("bin/docker build ") == 2, said)
print(f"{len(services)} services")
