"""Forged, stolen and broken tokens against a running server. Signatures are made by the openssl
command, which shares no code with the server's parser."""

import hashlib
import hmac
import json
import os
import pathlib
import time

from rig import bound, expect, openssl, serving
from tokens import Key, b64, token


def main():
    keys = {}

    def config(folder):
        for kind in ("rsa", "ec", "ed"):
            keys[kind] = Key(folder, kind, "k-" + kind)
        keys["thief"] = Key(folder, "rsa", "k-rsa-thief")
        keys["next"] = Key(folder, "ec", "k-next")
        (folder / "jwks.json").write_text(
            json.dumps({"keys": [keys[k].jwk() for k in ("rsa", "ec", "ed")]}))
        return {"auth": {"jwt": [{"issuer": "https://idp.test", "audience": "penstock",
                                  "jwks_file": "jwks.json", "tenant_claim": "org",
                                  "roles_claim": "roles"}]}}

    with serving(config) as server:
        now = int(time.time())
        base = {"iss": "https://idp.test", "aud": "penstock", "sub": "ann", "exp": now + 300,
                "nbf": now - 5, "iat": now, "org": "clinic", "roles": ["user"]}

        def ask(credential):
            return server.call("GET", "/v1/models", credential=credential)

        def but(**changes):
            claims = {**base, **changes}
            return {name: value for name, value in claims.items() if value is not None}

        for kind, alg in (("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")):
            status, text = ask(token(keys[kind], base, alg))
            expect(status == 200, alg, status, text)
        expect(ask(token(keys["ed"], but(aud=["x", "penstock"])))[0] == 200, "aud as a list")
        expect(ask(token(keys["ed"], but(exp=int(time.time()) - 30)))[0] == 200, "the leeway")
        expect(ask(token(keys["ed"], but(roles=["scraper"])))[0] == 403, "a role that may not")
        expect(ask(token(keys["ed"], but(roles=["king"])))[0] == 403, "a role that is none")

        rsa, ec, ed, thief = (keys[k] for k in ("rsa", "ec", "ed", "thief"))
        good = token(ed, base)
        text, signature = good.rsplit(".", 1)
        head, claims, _ = good.split(".")
        attacks = {}
        for alg in ("none", "None", "NONE", "nOnE", "", "HS256", "HS384", "RS384", "ES512", None, 7):
            attacks[f"alg {alg}"] = token(ed, base, header={"alg": alg}, signature=b"")
            attacks[f"alg {alg}, signed"] = b64({"alg": alg, "kid": ed.kid}) + "." + claims + "." + signature
        for name, secret in (("pem", rsa.public()), ("jwk", json.dumps(rsa.jwk()).encode()),
                             ("n", rsa.jwk()["n"].encode()), ("empty", b"")):
            forged = b64({"alg": "HS256", "kid": rsa.kid}) + "." + claims
            mac = hmac.new(secret, forged.encode(), hashlib.sha256).digest()
            attacks["HS256 by the public " + name] = forged + "." + b64(mac)
        attacks |= {
            "another key under the kid": token(thief, base, header={"kid": rsa.kid}),
            "unknown kid": token(rsa, base, header={"kid": "other"}),
            "kid of another kind": token(rsa, base, header={"kid": ec.kid}),
            "kid as a path": token(rsa, base, header={"kid": "../../dev/null"}),
            "kid as SQL": token(rsa, base, header={"kid": "' OR 1=1 --"}),
            "kid no string": token(rsa, base, header={"kid": [rsa.kid]}),
            "no kid, unknown key": token(thief, base, header={"kid": None}),
            "own jwk": token(thief, base, header={"jwk": thief.jwk(), "kid": None}),
            "own jwk, known kid": token(thief, base, header={"jwk": thief.jwk(), "kid": rsa.kid}),
            "jku": token(thief, base, header={"jku": "https://evil.test/jwks", "kid": None}),
            "x5u": token(thief, base, header={"x5u": "https://evil.test/c", "kid": None}),
            "x5c": token(thief, base, header={"x5c": ["AAAA"], "kid": None}),
            "crit": token(ed, base, header={"crit": ["exp"]}),
            "b64 false": token(ed, base, header={"b64": False, "crit": ["b64"]}),
            "zip": token(ed, base, header={"zip": "DEF"}),
            "RS256 as PS256": token(rsa, base, "PS256", signature=rsa.sign(b"x")),
            "ES256 zeros": token(ec, base, signature=bytes(64)),
            "ES256 DER": token(ec, base, signature=openssl("dgst", "-sha256", "-sign", ec.path, ec.path)),
            "EdDSA zeros": token(ed, base, signature=bytes(64)),
            "signature of another": text + "." + token(ed, but(org="x")).rsplit(".", 1)[1],
            "signature cut": good[:-4],
            "signature longer": good + "AAAA",
            "no signature": text + ".",
            "two parts": text,
            "four parts": good + ".x",
            "padding": good + "==",
            "swapped claims": head + "." + b64(but(org="victim")) + "." + signature,
            "five parts (JWE)": "a.b.c.d.e",
            "no JSON": b64(b"x") + "." + b64(b"y") + "." + signature,
            "claims a list": token(ed, [base]),
            "deep": token(ed, but(org=json.loads("[" * 60 + "]" * 60))),
            "nul": token(ed, but(org="clinic\0x")),
            "other issuer": token(ed, but(iss="https://evil.test")),
            "issuer with a slash": token(ed, but(iss="https://idp.test/")),
            "no issuer": token(ed, but(iss=None)),
            "issuer a list": token(ed, but(iss=["https://idp.test"])),
            "other audience": token(ed, but(aud="other")),
            "audience part": token(ed, but(aud="penstock2")),
            "no audience": token(ed, but(aud=None)),
            "audience object": token(ed, but(aud={"penstock": 1})),
            "expired": token(ed, but(exp=now - 90)),
            "no expiry": token(ed, but(exp=None)),
            "expiry as text": token(ed, but(exp=str(now + 300))),
            "expiry true": token(ed, but(exp=True)),
            "expiry huge": token(ed, but(exp=1e308)),
            "not yet valid": token(ed, but(nbf=now + 3600)),
            "nbf as text": token(ed, but(nbf="0")),
            "no tenant": token(ed, but(org=None)),
            "tenant empty": token(ed, but(org="")),
            "tenant a list": token(ed, but(org=["clinic"])),
            "tenant long": token(ed, but(org="x" * 200)),
        }
        twice = (b64({"alg": "EdDSA", "kid": ed.kid}) + "."
                 + b64(b'{"org":"victim",' + json.dumps(base).encode()[1:]))
        attacks["a claim twice"] = twice + "." + b64(ed.sign(twice.encode()))
        for name, forged in attacks.items():
            status, answer = ask(forged)
            expect(status == 401, name, status, answer)
        for at in range(0, len(good), 7):  # any byte changed
            changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
            expect(ask(changed)[0] == 401, "byte", at)
        expect(server.process.poll() is None, "the server lives")
        expect(all(forged not in server.log for forged in attacks.values() if len(forged) > 20),
               "a token in the log")

        # The issuer's keys change: the new one is taken, the old one is not, a broken file is passed over.
        jwks = pathlib.Path(server.folder) / "jwks.json"
        fresh = server.folder / "fresh.json"
        fresh.write_text(json.dumps({"keys": [keys["next"].jwk(), ed.jwk()]}))
        os.replace(fresh, jwks)
        new = token(keys["next"], base)
        server.wait(lambda: ask(new)[0] == 200, "a new key of the issuer", bound(1))
        expect(ask(token(ec, base))[0] == 401, "an old key of the issuer")
        jwks.write_text('{"keys": [')
        server.wait(lambda: "the old ones stay" in server.log, "a line about the broken key set", bound(2))
        expect(ask(new)[0] == 200, "the keys before the broken file")
        began = time.process_time()
        print(f"{len(attacks) + len(good) // 7} attacks refused, {began:.1f} s of this script's CPU")


main()
