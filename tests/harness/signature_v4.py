"""Signature version 4, step by step, so that tests can alter each step. Never used for load."""

import datetime
import hashlib
import hmac
import urllib.parse

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"


def quote(text, safe="~"):
    """Percent-encodes as S3 does; a lone surrogate \\udcXX stands for the byte XX."""
    return urllib.parse.quote(text, safe=safe, errors="surrogateescape")


def query_text(query):
    """The query in canonical order and form."""
    pairs = sorted((quote(name), quote(str(value))) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def target_of(path, query=None):
    """The text in the request line."""
    text = quote(path, safe="/~")
    return f"{text}?{query_text(query)}" if query else text


class Signer:
    """One key, one moment, one scope."""

    def __init__(self, host, access_key, secret_key, region="us-east-1", service="s3", now=None):
        now = now or datetime.datetime.now(datetime.timezone.utc)
        self.host = host
        self.access_key = access_key
        self.secret_key = secret_key
        self.stamp = now.strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.stamp[:8]}/{region}/{service}/aws4_request"

    def signature(self, text):
        """Signs any text with the key of this scope."""
        key = ("AWS4" + self.secret_key).encode()
        for part in self.scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def request_signature(self, method, path, query, headers, payload):
        """Signs a request; `headers` are those that are signed, in lower case."""
        names = sorted(headers)
        canonical = "\n".join(
            [
                method,
                quote(path, safe="/~"),
                query_text(query),
                *(f"{name}:{' '.join(str(headers[name]).split())}" for name in names),
                "",
                ";".join(names),
                payload,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return self.signature(f"AWS4-HMAC-SHA256\n{self.stamp}\n{self.scope}\n{digest}")

    def headers(self, method, path, query=None, headers=None, payload=EMPTY_SHA256):
        """All headers of a request signed by header; each given one is signed."""
        signed = {
            "host": self.host,
            "x-amz-content-sha256": payload,
            "x-amz-date": self.stamp,
            **{name.lower(): value for name, value in (headers or {}).items()},
        }
        signed = {name: value for name, value in signed.items() if value is not None}
        self.seed = self.request_signature(method, path, query or {}, signed, payload)
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope}, "
            f"SignedHeaders={';'.join(sorted(signed))}, Signature={self.seed}"
        )
        return {**signed, "authorization": authorization}

    def presign(self, method, path, expires=900, query=None, headers=None):
        """The target of a presigned request; `headers` must be sent along."""
        signed = {"host": self.host, **(headers or {})}
        query = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{self.scope}",
            "X-Amz-Date": self.stamp,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        }
        signature = self.request_signature(method, path, query, signed, UNSIGNED)
        return f"{target_of(path, query)}&X-Amz-Signature={signature}"
