"""Keys of token issuers and the tokens that they sign, by the openssl command, which shares no code with the server."""

import base64
import json
import re

from rig import openssl


def b64(data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    def __init__(self, folder, kind, kid):
        self.kind, self.kid, self.path = kind, kid, folder / f"{kid}.pem"
        options = {"rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                   "ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ed": ["ED25519"]}[kind]
        openssl("genpkey", "-algorithm", *options, "-out", self.path)

    def public(self):
        return openssl("pkey", "-in", self.path, "-pubout")

    def jwk(self):
        der = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")
        if self.kind == "ed":
            return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": b64(der[-32:])}
        if self.kind == "ec":
            return {"kty": "EC", "crv": "P-256", "kid": self.kid, "x": b64(der[-64:-32]),
                    "y": b64(der[-32:])}
        modulus = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode()
        number = bytes.fromhex(re.search("=(\\w+)", modulus)[1])
        return {"kty": "RSA", "kid": self.kid, "n": b64(number), "e": "AQAB"}

    def sign(self, text, pss=False):
        file = self.path.with_suffix(".text")
        file.write_bytes(text)
        if self.kind == "ed":
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", file)
        extra = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"] if pss else []
        out = openssl("dgst", "-sha256", "-sign", self.path, *extra, file)
        if self.kind == "rsa":
            return out
        parts, at = [], 2
        for _ in range(2):  # SEQUENCE { INTEGER r, INTEGER s }
            size = out[at + 1]
            parts.append(out[at + 2 : at + 2 + size].lstrip(b"\0").rjust(32, b"\0"))
            at += 2 + size
        return b"".join(parts)


ALG = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}


def token(key, claims, alg=None, header=None, signature=None):
    alg = alg or ALG[key.kind]
    head = {"alg": alg, "typ": "JWT", "kid": key.kid, **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    text = b64(head) + "." + b64(claims)
    if signature is None:
        signature = key.sign(text.encode(), pss=alg == "PS256")
    return text + "." + b64(signature)
