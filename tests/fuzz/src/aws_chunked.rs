//! An incoming aws-chunked body.
//!
//! Input: whether chunks are signed, a piece's length (2 bytes), then the body. However the body is
//! cut, the verdict and the data are the same. A body that we frame and sign ourselves comes back;
//! if one byte of it is changed, it doesn't.

use crate::edit::Script;
use megalith_gateway::s3::fuzz::{chain, take};
use megalith_sigv4::hash;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let (Some(signed), Some(piece)) = (script.byte(), script.short()) else {
        return;
    };
    let (signed, piece, body) = (signed & 1 == 1, piece.max(1), script.0);
    let whole = take(body, signed, usize::MAX);
    assert_eq!(whole, take(body, signed, piece), "the pieces matter");
    honest(body, signed, piece);
}

/// Sends any bytes as chunks of `piece`, signed or not, and decodes them again.
fn honest(data: &[u8], signed: bool, piece: usize) {
    let mut chain = chain();
    let mut body = Vec::new();
    for chunk in data.chunks(piece).chain([&b""[..]]) {
        let mut line = format!("{:x}", chunk.len());
        if signed {
            let signature = chain.sign_chunk(hash(chunk)).to_hex();
            line.push_str(&format!(";chunk-signature={signature}"));
        }
        body.extend_from_slice(line.as_bytes());
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    let trailer = ("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned());
    body.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\n");
    if signed {
        let signature = chain
            .sign_trailers(b"x-amz-checksum-crc32:AAAAAA==\n")
            .to_hex();
        let line = format!("x-amz-trailer-signature:{signature}\r\n");
        body.extend_from_slice(line.as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    let taken = take(&body, signed, piece);
    assert_eq!(taken, Some((data.to_vec(), vec![trailer])));
    if let (true, Some(first)) = (signed, data.first()) {
        // The first byte of data comes after the first line.
        let at = body.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        body[at] = !first;
        assert_eq!(take(&body, signed, piece), None, "changed data passes");
    }
}

/// The first inputs.
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
