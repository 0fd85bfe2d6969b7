//! An aws-chunked body on its way in.
//!
//! Input: whether chunks are signed, a piece's length (2 bytes), then the body. However the body is
//! cut, the same verdict comes out and the same data; signed bodies pass byte for byte; a body
//! that we frame ourselves comes back.

use crate::edit::Script;
use bytes::Bytes;
use megalith_gateway::s3::chunked::Rechunker;

/// What a body is: its data, and what follows the last chunk.
type Body = (Vec<u8>, Vec<u8>);

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let (Some(signed), Some(piece)) = (script.byte(), script.short()) else {
        return;
    };
    let (signed, piece, body) = (signed & 1 == 1, piece.max(1), script.0);
    let whole = pass(body, signed, usize::MAX);
    let pieces = pass(body, signed, piece);
    if signed {
        assert_eq!(whole, pieces, "the pieces matter");
        assert!(
            whole.is_none_or(|passed| passed == body),
            "changed on its way"
        );
        return;
    }
    assert_eq!(whole.is_some(), pieces.is_some(), "the pieces matter");
    if let (Some(whole), Some(pieces)) = (whole, pieces) {
        assert_eq!(unchunked(&whole), unchunked(&pieces));
    }
    honest(body, piece);
}

/// What is passed on; None if the body is refused.
fn pass(body: &[u8], signed: bool, piece: usize) -> Option<Vec<u8>> {
    let mut rechunker = Rechunker::new(signed);
    let mut passed = Vec::new();
    for piece in body.chunks(piece) {
        rechunker
            .push(Bytes::copy_from_slice(piece), &mut passed)
            .ok()?;
    }
    rechunker.finish().ok()?;
    Some(passed.concat())
}

/// Sends any bytes as chunks of `piece` and takes them apart again.
fn honest(data: &[u8], piece: usize) {
    let mut body = Vec::new();
    for chunk in data.chunks(piece) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
    let passed = pass(&body, false, piece).expect("it is well formed");
    let (read, trailers) = unchunked(&passed);
    assert_eq!(read, data);
    assert_eq!(trailers, b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
}

/// Reads what our own code passed on.
fn unchunked(mut body: &[u8]) -> Body {
    let mut data = Vec::new();
    loop {
        let end = body.iter().position(|&byte| byte == b'\n').expect("a size");
        let line = std::str::from_utf8(&body[..end]).expect("text");
        let digits = line.split([';', '\r']).next().unwrap_or_default();
        let len = usize::from_str_radix(digits, 16).expect("a size");
        body = &body[end + 1..];
        if len == 0 {
            return (data, body.to_vec());
        }
        data.extend_from_slice(&body[..len]);
        assert_eq!(&body[len..len + 2], b"\r\n");
        body = &body[len + 2..];
    }
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let input = |signed: u8, piece: u16, body: &[u8]| {
        let mut input = vec![signed];
        input.extend_from_slice(&piece.to_le_bytes());
        input.extend_from_slice(body);
        input
    };
    let signature = "a".repeat(64);
    let signed =
        format!("5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n\r\n");
    let trailers = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    crate::named(vec![
        ("unsigned", input(0, 3, b"5\r\nhello\r\n0\r\n\r\n")),
        ("unsigned-with-trailers", input(0, 1, trailers)),
        ("signed", input(1, 7, signed.as_bytes())),
        ("signed-in-one-piece", input(1, 500, signed.as_bytes())),
        ("no-last-chunk", input(0, 2, b"5\r\nhello\r\n")),
        ("short-chunk", input(0, 2, b"5\r\nhel")),
        ("size-of-no-digits", input(0, 2, b"\r\nhello\r\n0\r\n\r\n")),
        ("size-with-a-sign", input(0, 2, b"+5\r\nhello\r\n0\r\n\r\n")),
        ("largest-size", input(0, 2, b"ffffffffffffffff\r\nhello")),
        (
            "size-beyond-numbers",
            input(0, 2, b"10000000000000000\r\nhello"),
        ),
        ("bare-line-ends", input(0, 2, b"5\nhello\n0\n\n")),
        ("no-line-end", input(0, 9, &[b'1'; 1100])),
    ])
}
