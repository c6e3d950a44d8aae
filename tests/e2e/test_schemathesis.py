"""schemathesis on /openapi.json: no fault of ours, and no answer that its own schema refuses."""

import pathlib
import subprocess
import sys

from conftest import SANITIZED

# A schema says less than the server checks (ids within the vocabulary, roles, sums of fields), so a
# body that it takes may still be refused.
NOT_CHECKED = "positive_data_acceptance"


def test_no_request_of_the_schema_finds_a_fault(demo, tmp_path):
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "run"]
    command += [demo.url + "/openapi.json", "--phases", "examples,coverage,fuzzing"]
    command += ["--exclude-checks", NOT_CHECKED, "--seed", "1", "-n", "8" if SANITIZED else "40"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=500, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert demo.process.poll() is None
