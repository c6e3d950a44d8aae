"""Series by tenant: those that the configuration names; whoever else comes is counted together, so that names
which clients bring make no series."""

import functools
import json
import re
import time

from rig import expect, serving
from tokens import Key, token

NAMES = ("requests", "rejected", "prompt_tokens", "generation_tokens", "queue_seconds")


def main():
    keys = []

    def config(folder):
        keys.append(Key(folder, "ed", "k"))
        (folder / "jwks.json").write_text(json.dumps({"keys": [keys[0].jwk()]}))
        return {"auth": {"jwt": [{"issuer": "https://idp.test", "audience": "penstock", "jwks_file": "jwks.json",
                                  "tenant_claim": "org", "roles_claim": "roles"}]},
                "tenants": {"*": {}, "clinic": {}, "few": {"rpm": 2}, "idle": {}}}

    @functools.cache  # made once: those of one tenant are asked quicker than its limit grows
    def of(org):
        return token(keys[0], {"iss": "https://idp.test", "aud": "penstock", "sub": "ann", "org": org,
                               "exp": int(time.time()) + 3600, "roles": ["user"]})

    with serving(config) as server:
        def ask(org, **more):
            body = {"prompt": "Once upon a time", "max_tokens": 5, "temperature": 0, "ignore_eos": True, **more}
            return server.call("POST", "/v1/completions", body, credential=of(org))

        def series():
            time.sleep(0.26)
            text = server.call("GET", "/metrics")[1]
            rows = re.findall(r'^penstock_tenant_(\w+)_total\{tenant="([^"]*)"\} (\S+)$', text, re.M)
            return {(name, tenant): float(value) for name, tenant, value in rows}

        fresh = series()
        expect(set(fresh) == {(n, t) for n in NAMES for t in ("anonymous", "clinic", "few", "idle", "other")}, fresh)
        expect(not any(fresh.values()), "they begin at 0", fresh)
        used = [json.loads(ask("clinic")[1])["usage"] for _ in range(3)]
        expect([ask("few")[0] for _ in range(5)] == [200, 200, 429, 429, 429], "rpm")
        expect(ask("clinic", temperature="hot")[0] == 400, "a bad one")
        strangers = [f"stranger-{i}" for i in range(25)]
        for org in strangers:
            expect(ask(org)[0] == 200, org)

        def counted():
            return series()[("requests", "other")] == len(strangers)

        server.wait(counted, "all counted: answers leave before they are")
        now = series()
        expect(set(now) == set(fresh), "no further series", set(now) - set(fresh))
        expect(now[("requests", "clinic")] == 4 and now[("rejected", "clinic")] == 0, now)
        expect(now[("prompt_tokens", "clinic")] == sum(u["prompt_tokens"] for u in used), now, used)
        expect(now[("generation_tokens", "clinic")] == 15, now)
        expect(now[("requests", "few")] == 5 and now[("rejected", "few")] == 3, now)
        expect(now[("queue_seconds", "other")] > 0, now)
        expect(now[("requests", "idle")] == 0, now)
        # A tenant that a reload names has series from its first request on.
        server.config_path.write_text(server.config_path.read_text().replace('"idle": {}', '"idle": {}, "new": {}'))
        server.wait(lambda: ask("new")[0] == 200 and ("requests", "new") in series(), "a series of its own")
    print("series by tenant:", len(now), "for", len(strangers) + 3, "tenants")


if __name__ == "__main__":
    main()
