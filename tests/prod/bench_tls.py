"""`penstock bench` and `eval` towards https: what they measure there, and certificates that are not to be trusted."""

import json
import pathlib
import tempfile

from rig import BINARY, Authority, expect, run, serving

SMALL = ["--allow-busy-generator"]
for assignment in ("requests=12", "concurrency=3", "prompt_words=8", "max_tokens=6"):
    SMALL += ["--set", assignment]


def results(target, ca, out, *arguments):
    """(the run's result, what was said)"""
    done = run(BINARY, "bench", "serve", "--target", target, "--ca", ca, *SMALL, *arguments, "--output", out)
    if done.returncode != 0 and "no request succeeded" not in done.stderr:
        return None, done.stderr
    return json.loads(out.read_text())["runs"][0]["result"], done.stdout + done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        out, text = folder / "out.json", folder / "text.txt"
        text.write_text("One day a small boat went down the river, and nobody knew where it would end. " * 40)
        ours, theirs = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
        pair = ours.issue("server", "DNS:localhost,IP:127.0.0.1")
        with serving(lambda _: {"tls": {"cert_file": str(pair[0]), "key_file": str(pair[1])}}) as server:
            for host in ("localhost", "127.0.0.1"):
                result, said = results(f"https://{host}:{server.port}/v1", ours.cert, out)
                expect(result and (result["ok"], result["failed"], result["completion_tokens"]) == (12, 0, 72), said)
            done = run(BINARY, "eval", "--server", f"https://localhost:{server.port}", "--ca", ours.cert,
                       "--text", text, "--json")
            expect(done.returncode == 0 and json.loads(done.stdout)["perplexity"] > 1, done.stdout, done.stderr)
            # Nobody we know signed it; the model's name is given or has to be asked for.
            target = f"https://localhost:{server.port}"
            result, said = results(target, theirs.cert, out)
            expect(result is None and "certificate" in said, said)
            result, said = results(target, theirs.cert, out, "--set", "model=demo")
            expect(result["ok"] == 0 and result["failures"] == {"tls": 12} and "no request succeeded" in said, result)
            result, said = results(target, folder / "text.txt", out)
            expect(result is None and "text.txt: expected certificates in PEM" in said, said)
            # A port that does not speak it, and a server that is asked in clear.
            result, said = results(f"http://localhost:{server.port}", ours.cert, out)
            expect(result is None and "no HTTP answer" in said, said)
        pair = ours.issue("other", "DNS:other.example")
        with serving(lambda _: {"tls": {"cert_file": str(pair[0]), "key_file": str(pair[1])}}) as server:
            result, said = results(f"https://localhost:{server.port}", ours.cert, out)
            expect(result is None and "ostname mismatch" in said, said)
            result, said = results(f"https://127.0.0.1:{server.port}", ours.cert, out)
            expect(result is None and "IP address mismatch" in said, said)
        with serving(lambda _: {}) as server:
            result, said = results(f"https://localhost:{server.port}", ours.cert, out, "--set", "model=demo")
            expect(result["ok"] == 0 and result["failures"] == {"tls": 12}, result)


main()
