"""HTTP by hand: requests that no client library would send."""

import hashlib
import http.client
import socket
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from .signature_v4 import UNSIGNED, Signer, target_of


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: object
    body: bytes

    @property
    def code(self):
        """S3's error code, or None if the body is no error."""
        if not self.body:
            return None
        root = ElementTree.fromstring(self.body)
        return root.findtext("Code") if root.tag == "Error" else None

    def refuses(self, status, *codes):
        """Checks that it is this error, in S3's XML."""
        assert self.status == status, (self.status, self.body[:2000])
        assert self.code in codes, (self.code, self.body[:2000])
        assert b"<Message>" in self.body, self.body[:2000]


class Gone(Exception):
    """The server closed the connection without an answer."""


def exchange(address, method, target, headers, body=b"", half_close=False, timeout=20):
    """Sends these bytes on a connection of their own. `headers`: a dict or a list of pairs."""
    with socket.create_connection(address, timeout=timeout) as sock:
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        try:
            sock.sendall("\r\n".join([*head, "", ""]).encode())
            sock.sendall(body)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # there may be an answer although the server reads no further
        response = http.client.HTTPResponse(sock, method=method)
        try:
            response.begin()
            return Answer(response.status, response.headers, response.read())
        except TimeoutError:
            raise  # silence is never right
        except (http.client.HTTPException, OSError) as error:
            raise Gone(repr(error)) from error


class Raw:
    """Signs properly by default, and lets each thing be wrong."""

    def __init__(self, host, port, access_key, secret_key):
        self.address = (host, port)
        self.host = f"{host}:{port}"
        self.keys = (access_key, secret_key)

    def signer(self, keys=None, host=None, **scope):
        return Signer(host or self.host, *(keys or self.keys), **scope)

    def send(self, method, path, body=b"", query=None, headers=None, signer=None, payload=None,
             extra=None, half_close=False):
        """`headers` are signed, `extra` are added afterwards or replace what was there."""
        signer = signer or self.signer()
        payload = payload or hashlib.sha256(body).hexdigest()
        sent = signer.headers(method, path, query, headers, payload)
        if body or method in ("PUT", "POST"):
            sent["content-length"] = str(len(body))
        sent |= extra or {}
        sent = {name: value for name, value in sent.items() if value is not None}
        return self.plain(method, target_of(path, query), sent, body, half_close)

    def plain(self, method, target, headers=None, body=b"", half_close=False):
        """Signs nothing."""
        headers = headers or {}
        if not isinstance(headers, list):
            given = {name.lower() for name in headers}
            if "host" not in given:
                headers = {"host": self.host, **headers}
            if body and not {"content-length", "transfer-encoding"} & given:
                headers = {**headers, "content-length": str(len(body))}
        return exchange(self.address, method, target, headers, body, half_close)

    def put_unsigned(self, path, body, **kwargs):
        return self.send("PUT", path, body, payload=UNSIGNED, **kwargs)
