"""S3 clients: boto3 for what people use, a bare one for load."""

import datetime
import hashlib
import hmac
import http.client
import urllib.parse

import boto3
from botocore.config import Config

REGION = "us-east-1"


def client(endpoint, access_key, secret_key, retries=1, verify=None, **config):
    """A boto3 client. `retries` counts attempts, so 1 shows every failure."""
    settings = {
        "signature_version": "s3v4",
        "retries": {"total_max_attempts": retries, "mode": "standard"},
        "s3": {"addressing_style": "path"},
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": 64,
        **config,
    }
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=REGION,
        verify=verify,
        config=Config(**settings),
    )


class Bare:
    """Signs and sends one request at a time on one connection, with little CPU of its own."""

    EMPTY = hashlib.sha256(b"").hexdigest()

    def __init__(self, host, port, access_key, secret_key, timeout=60):
        self.host = f"{host}:{port}"
        self.access_key = access_key
        self.secret = secret_key
        self.connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self.day = None

    def _key(self, day):
        if self.day != day:
            key = ("AWS4" + self.secret).encode()
            for part in (day, REGION, "s3", "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self.day, self.signing_key = day, key
        return self.signing_key

    def signed_headers(self, method, path, query, headers, payload, now=None):
        """The headers of a SigV4 request; `payload` is its hash or UNSIGNED-PAYLOAD."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        day = stamp[:8]
        signed = {
            "host": self.host,
            "x-amz-content-sha256": payload,
            "x-amz-date": stamp,
            **{name.lower(): value for name, value in headers.items()},
        }
        names = ";".join(sorted(signed))
        canonical = "\n".join(
            [
                method,
                urllib.parse.quote(path, safe="/~"),
                "&".join(
                    f"{urllib.parse.quote(k, safe='~')}={urllib.parse.quote(v, safe='~')}"
                    for k, v in sorted(query.items())
                ),
                *(f"{name}:{signed[name]}" for name in sorted(signed)),
                "",
                names,
                payload,
            ]
        )
        scope = f"{day}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n" + hashlib.sha256(
            canonical.encode()
        ).hexdigest()
        signature = hmac.new(self._key(day), text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def request(self, method, path, body=None, query=None, headers=None, payload=None):
        """Returns (status, headers, body). The connection is made again after an error."""
        query = query or {}
        payload = payload or ("UNSIGNED-PAYLOAD" if body else self.EMPTY)
        sent = self.signed_headers(method, path, query, headers or {}, payload)
        sent.pop("host")
        target = urllib.parse.quote(path, safe="/~")
        if query:
            target += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        try:
            self.connection.request(method, target, body=body, headers=sent)
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def put(self, bucket, key, body):
        return self.request("PUT", f"/{bucket}/{key}", body=body)

    def get(self, bucket, key):
        return self.request("GET", f"/{bucket}/{key}")
