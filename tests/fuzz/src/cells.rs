//! Cells in a body of shard bytes: `Deframer` of `megalith-client`.
//!
//! Input: the shard's length (3 bytes), the first cell, how many, a piece's length (2 bytes), then
//! the body. However the body is cut, the cells and the verdict are the same; a complete body has
//! exactly the announced length; an honest body comes back.

use crate::edit::Script;
use bytes::Bytes;
use megalith_client::framing::{self, CRC_LEN, Deframer, FramedCell};
use megalith_model::shape::CELL_LEN;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let Some((len, first, count, piece)) = head(&mut script) else {
        return;
    };
    let body = script.0;
    let whole = deframe((len, first, count), body, usize::MAX);
    assert_eq!(whole, deframe((len, first, count), body, piece));
    let (cells, verdict) = whole;
    let expected = framing::body_len(len, first, count);
    assert_eq!(verdict.is_none(), body.len() as u64 > expected, "overlong");
    assert_eq!(verdict == Some(true), body.len() as u64 == expected);
    let taken: u64 = cells
        .iter()
        .map(|cell| cell.bytes.len() as u64 + CRC_LEN)
        .sum();
    assert!(taken <= body.len() as u64);
    honest(len.min(body.len() as u64), body, piece);
}

fn head(script: &mut Script<'_>) -> Option<(u64, u64, u64, usize)> {
    let (len, first) = (script.offset()? as u64, u64::from(script.byte()?));
    let (count, piece) = (u64::from(script.byte()?), script.short()?.max(1));
    Some((len, first, count, piece))
}

/// Returns the cells, and whether the body is complete; None if it is too long.
fn deframe(
    (len, first, count): (u64, u64, u64),
    body: &[u8],
    piece: usize,
) -> (Vec<FramedCell>, Option<bool>) {
    let mut deframer = Deframer::new(len, first, count);
    let mut cells = Vec::new();
    for piece in body.chunks(piece) {
        let piece = Bytes::copy_from_slice(piece);
        if deframer.push(piece, |cell| cells.push(cell)).is_err() {
            return (cells, None);
        }
    }
    (cells, Some(deframer.is_complete()))
}

/// Frames the bytes as a shard and decodes them again.
fn honest(len: u64, bytes: &[u8], piece: usize) {
    let shard = &bytes[..len as usize];
    let framed: Vec<u8> = shard
        .chunks(CELL_LEN as usize)
        .flat_map(|cell| framing::frame(cell.to_vec()))
        .collect();
    let (cells, complete) = deframe((len, 0, framing::cells(len)), &framed, piece);
    assert_eq!(complete, Some(true));
    assert!(cells.iter().all(FramedCell::is_intact));
    let back: Vec<u8> = cells.into_iter().flat_map(|cell| cell.bytes).collect();
    assert_eq!(back, shard);
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let input = |len: u32, first: u8, count: u8, piece: u16, body: &[u8]| {
        let len = len.to_le_bytes();
        let mut input = vec![len[0], len[1], len[2], first, count];
        input.extend_from_slice(&piece.to_le_bytes());
        input.extend_from_slice(body);
        input
    };
    let ten = framing::frame(b"ten bytes!".to_vec());
    let long = vec![7; CELL_LEN as usize + 5];
    let two: Vec<u8> = long
        .chunks(CELL_LEN as usize)
        .flat_map(|cell| framing::frame(cell.to_vec()))
        .collect();
    let last = framing::frame(long[CELL_LEN as usize..].to_vec());
    crate::named(vec![
        ("one-cell", input(10, 0, 1, 3, &ten)),
        ("one-cell-bytewise", input(10, 0, 9, 1, &ten)),
        ("cut-short", input(10, 0, 1, 4, &ten[..12])),
        ("too-long", input(9, 0, 1, 4, &ten)),
        ("nothing-behind-the-end", input(10, 1, 1, 4, b"")),
        ("bytes-behind-the-end", input(10, 1, 1, 4, b"x")),
        (
            "last-of-two-cells",
            input(long.len() as u32, 1, 1, 4, &last),
        ),
        ("two-cells", input(long.len() as u32, 0, 2, 1000, &two)),
    ])
}
