"""aws-chunked bodies, signed and unsigned, with and without trailers."""

import hashlib

from .signature_v4 import EMPTY_SHA256, target_of

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MODES = (SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER)


class ChunkedPut:
    """A PUT whose frames a test may alter before it is sent.

    `frames` are the data chunks, the final empty chunk and, if the mode has one, the trailer.
    """

    def __init__(self, signer, path, data, mode, trailer=None, headers=None, chunk=65_536,
                 method="PUT", query=None):
        self.signer = signer
        self.method = method
        self.path = path
        self.query = query or {}
        self.trailer = trailer
        sent = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(data)),
            **(headers or {}),
        }
        if trailer:
            sent["x-amz-trailer"] = trailer[0]
        self.headers = signer.headers(method, path, self.query, sent, mode)
        self.signatures = [signer.seed]
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)] + [b""]
        signed = mode != UNSIGNED_TRAILER
        self.frames = [self._signed(piece) if signed else self._plain(piece) for piece in pieces]
        if mode == SIGNED:
            self.frames[-1] += b"\r\n"
        else:
            self.frames.append(self._trailer(signed))

    def _sign(self, algorithm, *digests):
        text = [algorithm, self.signer.stamp, self.signer.scope, self.signatures[-1], *digests]
        self.signatures.append(self.signer.signature("\n".join(text)))
        return self.signatures[-1].encode()

    def _signed(self, piece):
        digest = hashlib.sha256(piece).hexdigest()
        signature = self._sign("AWS4-HMAC-SHA256-PAYLOAD", EMPTY_SHA256, digest)
        return self._frame(piece, b";chunk-signature=" + signature)

    def _plain(self, piece):
        return self._frame(piece, b"")

    @staticmethod
    def _frame(piece, extension):
        # The empty chunk's own line end is that of the trailers, or of the body.
        end = b"\r\n" if piece else b""
        return f"{len(piece):x}".encode() + extension + b"\r\n" + piece + end

    def _trailer(self, signed):
        lines = b""
        if self.trailer:
            lines = f"{self.trailer[0]}:{self.trailer[1]}\r\n".encode()
        if signed:
            canonical = lines.replace(b"\r\n", b"\n")
            signature = self._sign("AWS4-HMAC-SHA256-TRAILER",
                                   hashlib.sha256(canonical).hexdigest())
            lines += b"x-amz-trailer-signature:" + signature + b"\r\n"
        return lines + b"\r\n"

    def send(self, raw, frames=None, **extra):
        """Sends the frames as they are now; `extra` replaces headers (with _ for -)."""
        body = b"".join(self.frames if frames is None else frames)
        headers = {**self.headers, "content-length": str(len(body))}
        headers |= {name.replace("_", "-"): value for name, value in extra.items()}
        short = int(headers["content-length"]) > len(body)
        return raw.plain(self.method, target_of(self.path, self.query), headers, body,
                         half_close=short)

