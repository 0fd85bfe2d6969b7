//! Attacks on the bytes of an object, run against a store that may do anything to them.
//! The numbers are those of the project's list of attacks.

use megalith_crypto::cell::{CELL_OVERHEAD, PLAIN_CELL_LEN, SEALED_CELL_LEN};
use megalith_crypto::{
    BlobLayout, CellOpener, CellSealer, CryptoError, DataKey, StreamContext, StreamIv,
};
use std::collections::BTreeSet;

const CONTEXT: StreamContext = StreamContext {
    cluster: [7; 16],
    blob: 42,
    part: 0,
};

/// An object as the store holds it: cells in order, and the IV from the manifest.
struct Stored {
    iv: StreamIv,
    plain_len: u64,
    cells: Vec<Vec<u8>>,
}

fn seal(key: &DataKey, context: StreamContext, plain: &[u8]) -> Stored {
    let (mut sealer, iv) = CellSealer::new(key, context).unwrap();
    let layout = BlobLayout::new(plain.len() as u64).unwrap();
    let mut cells = Vec::new();
    for index in 0..layout.cells() {
        let start = index as usize * PLAIN_CELL_LEN;
        let end = plain.len().min(start + PLAIN_CELL_LEN);
        let mut cell = Vec::new();
        sealer
            .seal(&plain[start..end], layout.is_last(index), &mut cell)
            .unwrap();
        cells.push(cell);
    }
    Stored {
        iv,
        plain_len: plain.len() as u64,
        cells,
    }
}

/// Returns four full cells followed by a short one; all cells differ.
fn plaintext() -> Vec<u8> {
    (0..3 * PLAIN_CELL_LEN + 1000)
        .map(|i| (i / 1000 % 251) as u8)
        .collect()
}

/// Reads the object as a GET does: as many cells as the authenticated length says.
fn get(
    key: &DataKey,
    context: StreamContext,
    iv: &StreamIv,
    plain_len: u64,
    cells: &[Vec<u8>],
) -> Result<Vec<u8>, CryptoError> {
    let opener = CellOpener::new(key, context, iv)?;
    let layout = BlobLayout::new(plain_len)?;
    let mut out = Vec::new();
    for index in 0..layout.cells() {
        let cell = cells.get(index as usize).map_or(&[][..], Vec::as_slice);
        opener.open(index, layout.is_last(index), cell, &mut out)?;
    }
    Ok(out)
}

/// Reads the object as a naive store client would: all cells that exist, the last one as last.
fn get_what_is_there(
    key: &DataKey,
    iv: &StreamIv,
    cells: &[Vec<u8>],
) -> Result<Vec<u8>, CryptoError> {
    let opener = CellOpener::new(key, CONTEXT, iv)?;
    let mut out = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        opener.open(index as u64, index + 1 == cells.len(), cell, &mut out)?;
    }
    Ok(out)
}

#[test]
fn attack_01_truncated_at_every_boundary_fails() {
    let key = DataKey::generate().unwrap();
    let plain = plaintext();
    let stored = seal(&key, CONTEXT, &plain);
    let whole = get(&key, CONTEXT, &stored.iv, stored.plain_len, &stored.cells);
    assert_eq!(whole.unwrap(), plain);
    for kept in 1..stored.cells.len() {
        let cut = &stored.cells[..kept];
        let read = get(&key, CONTEXT, &stored.iv, stored.plain_len, cut);
        assert_eq!(read, Err(CryptoError::Unauthentic), "{kept} cells kept");
        // Even if the length is edited to fit, the last remaining cell is not a last cell.
        let read = get_what_is_there(&key, &stored.iv, cut);
        assert_eq!(read, Err(CryptoError::Unauthentic), "{kept} cells kept");
        let plain_len = (kept * PLAIN_CELL_LEN) as u64;
        let read = get(&key, CONTEXT, &stored.iv, plain_len, cut);
        assert_eq!(read, Err(CryptoError::Unauthentic), "{kept} cells kept");
        // Rewriting its length field doesn't make it one either.
        let mut marked = cut.to_vec();
        marked[kept - 1][..4].copy_from_slice(&(SEALED_CELL_LEN as u32).to_be_bytes());
        let read = get(&key, CONTEXT, &stored.iv, plain_len, &marked);
        assert_eq!(
            read,
            Err(CryptoError::Unauthentic),
            "{kept} cells kept, last one marked"
        );
    }
}

#[test]
fn attack_01_cells_cut_short_fail() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, &plaintext());
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    let last = stored.cells.len() as u64 - 1;
    for (index, cell) in stored.cells.iter().enumerate() {
        let index = index as u64;
        for kept in [0, 1, 4, 16, 31, 32, 33, cell.len() / 2, cell.len() - 1] {
            let mut out = Vec::new();
            let opened = opener.open(index, index == last, &cell[..kept], &mut out);
            assert_eq!(
                opened,
                Err(CryptoError::Unauthentic),
                "cell {index}, {kept} bytes"
            );
            assert!(out.is_empty());
            // The length field is rewritten to fit what is left.
            let mut shorter = cell[..kept].to_vec();
            if kept >= 4 {
                shorter[..4].copy_from_slice(&(kept as u32).to_be_bytes());
            }
            assert!(opener.open(index, true, &shorter, &mut out).is_err());
        }
    }
}

#[test]
fn attack_01_extended_objects_fail() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, &plaintext());
    let mut cells = stored.cells.clone();
    cells.push(stored.cells[3].clone());
    assert!(get_what_is_there(&key, &stored.iv, &cells).is_err());
    let mut longer = stored.cells[3].clone();
    longer.push(0);
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    assert!(opener.open(3, true, &longer, &mut Vec::new()).is_err());
    longer[..4].copy_from_slice(&(stored.cells[3].len() as u32 + 1).to_be_bytes());
    assert!(opener.open(3, true, &longer, &mut Vec::new()).is_err());
}

#[test]
fn attack_02_dropped_head_fails() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, &plaintext());
    for dropped in 1..stored.cells.len() {
        let tail = &stored.cells[dropped..];
        let plain_len = stored.plain_len - (dropped * PLAIN_CELL_LEN) as u64;
        let read = get(&key, CONTEXT, &stored.iv, plain_len, tail);
        assert_eq!(
            read,
            Err(CryptoError::Unauthentic),
            "{dropped} cells dropped"
        );
    }
    // No IV can be changed to count from another position: with any other nothing opens.
    for bit in 0..StreamIv::LEN * 8 {
        let mut iv = stored.iv;
        iv.0[bit / 8] ^= 1 << (bit % 8);
        let opener = CellOpener::new(&key, CONTEXT, &iv).unwrap();
        for (index, cell) in (0..).zip(&stored.cells) {
            for place in 0..4 {
                let opened = opener.open(place, index == 3, cell, &mut Vec::new());
                assert_eq!(opened, Err(CryptoError::Unauthentic), "bit {bit}");
            }
        }
    }
}

/// Nothing but the cells tells that key, IV or context is another one, and every blob has a cell.
#[test]
fn attack_04_an_empty_stream_opens_only_with_its_key_and_context() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, b"");
    let other_key = DataKey::generate().unwrap();
    let other_iv = seal(&key, CONTEXT, b"").iv;
    let other_part = StreamContext { part: 1, ..CONTEXT };
    let read = |key, context, iv| get(key, context, iv, 0, &stored.cells);
    assert_eq!(read(&key, CONTEXT, &stored.iv), Ok(Vec::new()));
    for read in [
        read(&other_key, CONTEXT, &stored.iv),
        read(&key, other_part, &stored.iv),
        read(&key, CONTEXT, &other_iv),
    ] {
        assert_eq!(read, Err(CryptoError::Unauthentic));
    }
}

#[test]
fn attack_03_reordered_cells_fail() {
    let key = DataKey::generate().unwrap();
    let plain = plaintext();
    let stored = seal(&key, CONTEXT, &plain);
    // Every way to fill four places with the four cells: all orders, repetitions and losses.
    for choice in 0..4_usize.pow(4) {
        let order: Vec<usize> = (0..4)
            .map(|place| choice / 4_usize.pow(place) % 4)
            .collect();
        let cells: Vec<Vec<u8>> = order
            .iter()
            .map(|cell| stored.cells[*cell].clone())
            .collect();
        let read = get(&key, CONTEXT, &stored.iv, stored.plain_len, &cells);
        match order == [0, 1, 2, 3] {
            true => assert_eq!(read.as_ref(), Ok(&plain)),
            false => assert_eq!(read, Err(CryptoError::Unauthentic), "{order:?}"),
        }
    }
}

#[test]
fn attack_03_cells_open_at_their_own_place_only() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, &plaintext());
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    let places = [
        0,
        1,
        2,
        3,
        4,
        255,
        256,
        1 << 20,
        1 << 32,
        (1 << 40) - 1,
        1 << 40,
        u64::MAX,
    ];
    for (index, cell) in stored.cells.iter().enumerate() {
        for place in places {
            for last in [false, true] {
                let opened = opener.open(place, last, cell, &mut Vec::new());
                let right = place == index as u64 && last == (index == 3);
                assert_eq!(
                    opened.is_ok(),
                    right,
                    "cell {index} at {place}, last: {last}"
                );
            }
        }
    }
}

#[test]
fn attack_04_spliced_cells_fail() {
    let keys = [DataKey::generate().unwrap(), DataKey::generate().unwrap()];
    let other_blob = StreamContext {
        blob: 43,
        ..CONTEXT
    };
    let other_part = StreamContext { part: 1, ..CONTEXT };
    let other_cluster = StreamContext {
        cluster: [8; 16],
        ..CONTEXT
    };
    // The same plaintext in another version (fresh key), another blob, another part of the same
    // upload (same key), another cluster, and in the same place sealed a second time.
    let streams = [
        (&keys[0], CONTEXT),
        (&keys[1], CONTEXT),
        (&keys[0], other_blob),
        (&keys[0], other_part),
        (&keys[0], other_cluster),
        (&keys[0], CONTEXT),
    ];
    let plain = plaintext();
    let stored: Vec<Stored> = streams
        .iter()
        .map(|(key, context)| seal(key, *context, &plain))
        .collect();
    for (target, (key, context)) in streams.iter().enumerate() {
        for source in (0..streams.len()).filter(|source| *source != target) {
            for place in 0..4 {
                let mut cells = stored[target].cells.clone();
                cells[place].clone_from(&stored[source].cells[place]);
                let read = get(
                    key,
                    *context,
                    &stored[target].iv,
                    stored[target].plain_len,
                    &cells,
                );
                assert_eq!(
                    read,
                    Err(CryptoError::Unauthentic),
                    "cell {place} of stream {source} in stream {target}"
                );
            }
        }
    }
}

#[test]
fn attack_04_whole_streams_open_only_with_their_key_and_context() {
    let keys = [DataKey::generate().unwrap(), DataKey::generate().unwrap()];
    let contexts = [
        CONTEXT,
        StreamContext {
            blob: 43,
            ..CONTEXT
        },
        StreamContext { part: 1, ..CONTEXT },
        StreamContext {
            cluster: [8; 16],
            ..CONTEXT
        },
    ];
    for (made, made_context) in contexts.iter().enumerate() {
        let stored = seal(&keys[0], *made_context, b"content");
        for (asked, context) in contexts.iter().enumerate() {
            for (which, key) in keys.iter().enumerate() {
                let read = get(key, *context, &stored.iv, stored.plain_len, &stored.cells);
                assert_eq!(read.is_ok(), made == asked && which == 0);
            }
        }
    }
}

#[test]
fn attack_17_every_flipped_bit_of_a_small_object_fails() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, b"a small object");
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    let cell = &stored.cells[0];
    for at in 0..cell.len() {
        for bit in 0..8 {
            let mut changed = cell.clone();
            changed[at] ^= 1 << bit;
            let mut out = vec![0xEE];
            let opened = opener.open(0, true, &changed, &mut out);
            assert_eq!(
                opened,
                Err(CryptoError::Unauthentic),
                "byte {at}, bit {bit}"
            );
            assert_eq!(out, [0xEE], "nothing unverified leaves");
        }
    }
}

#[test]
fn attack_17_flips_across_a_full_cell_fail() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, &vec![9; PLAIN_CELL_LEN + 1]);
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    let mut cell = stored.cells[0].clone();
    let mut out = vec![0; PLAIN_CELL_LEN];
    for at in (0..SEALED_CELL_LEN)
        .step_by(997)
        .chain(SEALED_CELL_LEN - 16..SEALED_CELL_LEN)
    {
        cell[at] ^= 0x80;
        let opened = opener.open_into(0, false, &cell, &mut out);
        assert_eq!(opened, Err(CryptoError::Unauthentic), "byte {at}");
        assert!(
            out.iter().all(|byte| *byte == 0),
            "nothing unverified leaves"
        );
        cell[at] ^= 0x80;
    }
    opener.open_into(0, false, &cell, &mut out).unwrap();
}

#[test]
fn attack_19_sealing_again_never_repeats_a_stream() {
    let key = DataKey::generate().unwrap();
    let plain = vec![3; 2 * PLAIN_CELL_LEN];
    let mut ivs = BTreeSet::new();
    let mut nonces = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for _ in 0..50 {
        let stored = seal(&key, CONTEXT, &plain);
        ivs.insert(stored.iv.0);
        for cell in &stored.cells {
            nonces.insert(cell[4..16].to_vec());
            tags.insert(cell[SEALED_CELL_LEN - 16..].to_vec());
        }
    }
    assert_eq!((ivs.len(), nonces.len(), tags.len()), (50, 100, 100));
}

#[test]
fn attack_30_hostile_cells_cost_no_memory() {
    let key = DataKey::generate().unwrap();
    let stored = seal(&key, CONTEXT, b"content");
    let opener = CellOpener::new(&key, CONTEXT, &stored.iv).unwrap();
    let mut out = Vec::new();
    // Length fields with any value; cells longer than any cell.
    let full = SEALED_CELL_LEN as u32;
    for claimed in [
        0,
        1,
        31,
        32,
        full - 1,
        full,
        full + 1,
        u32::MAX - 1,
        u32::MAX,
    ] {
        for len in [
            0,
            3,
            CELL_OVERHEAD - 1,
            CELL_OVERHEAD,
            SEALED_CELL_LEN,
            8 << 20,
        ] {
            let mut cell = vec![0; len];
            if len >= 4 {
                cell[..4].copy_from_slice(&u32::to_be_bytes(claimed));
            }
            for last in [false, true] {
                let opened = opener.open(0, last, &cell, &mut out);
                assert_eq!(opened, Err(CryptoError::Unauthentic));
            }
        }
    }
    assert!(
        out.capacity() <= 2 * SEALED_CELL_LEN,
        "{} bytes",
        out.capacity()
    );
}
