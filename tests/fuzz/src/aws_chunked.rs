//! An incoming aws-chunked body.
//!
//! Input: whether chunks are signed, a piece's length (2 bytes), then the body. However the body is
//! cut, the verdict and the data are the same. A body that we frame and sign ourselves comes back.
//! If one bit of a signed body is flipped, no other data and no other trailers come out. The upper
//! bits of the first byte, and the length, choose that bit and whether there are trailers.

use crate::edit::Script;
use megalith_gateway::s3::fuzz::{chain, take};
use megalith_sigv4::hash;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let (Some(signed), Some(piece)) = (script.byte(), script.short()) else {
        return;
    };
    let flip = usize::from(signed >> 1);
    let (signed, piece, body) = (signed & 1 == 1, piece.max(1), script.0);
    let whole = take(body, signed, usize::MAX);
    assert_eq!(whole, take(body, signed, piece), "the pieces matter");
    honest(body, signed, piece, flip);
}

/// Sends any bytes as chunks of `piece`, signed or not, and decodes them again.
fn honest(data: &[u8], signed: bool, piece: usize, flip: usize) {
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
    // Trailers have a signature of their own, which would also tell that a chunk was changed.
    let mut trailers = Vec::new();
    if flip & 64 == 0 {
        trailers.push(("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned()));
        body.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\n");
        if signed {
            let signed = chain.sign_trailers(b"x-amz-checksum-crc32:AAAAAA==\n");
            let line = format!("x-amz-trailer-signature:{}\r\n", signed.to_hex());
            body.extend_from_slice(line.as_bytes());
        }
    }
    body.extend_from_slice(b"\r\n");
    let taken = take(&body, signed, piece);
    assert_eq!(taken.as_ref(), Some(&(data.to_vec(), trailers)));
    if !signed {
        return;
    }
    if let Some(first) = data.first() {
        // The first byte of data comes after the first line.
        let at = body.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        body[at] = !first;
        assert_eq!(take(&body, signed, piece), None, "changed data passes");
        body[at] = *first;
    }
    // Any bit. The case of a length's digits or of a trailer's name says nothing.
    let at = piece.wrapping_mul(0x9e37).wrapping_add(flip) % body.len();
    body[at] ^= 1 << (flip % 8);
    let changed = take(&body, signed, piece);
    assert!(
        changed.is_none() || changed == taken,
        "byte {at} was changed"
    );
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
        ("signed-without-trailers", input(0x81, 3, b"hello")),
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
