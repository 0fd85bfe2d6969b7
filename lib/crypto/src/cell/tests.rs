//! Cells through the public interface: round trips and layout arithmetic.

use super::*;
use proptest::prelude::*;

const CONTEXT: StreamContext = StreamContext {
    cluster: [7; 16],
    blob: 42,
    part: 3,
};

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn seal_blob(key: &DataKey, plain: &[u8]) -> (StreamIv, Vec<u8>) {
    let (mut sealer, iv) = CellSealer::new(key, CONTEXT).unwrap();
    let layout = BlobLayout::new(plain.len() as u64).unwrap();
    let mut out = Vec::new();
    for index in 0..layout.cells() {
        let start = index as usize * PLAIN_CELL_LEN;
        let end = plain.len().min(start + PLAIN_CELL_LEN);
        sealer
            .seal(&plain[start..end], layout.is_last(index), &mut out)
            .unwrap();
    }
    assert!(sealer.is_finished());
    assert_eq!(sealer.cells(), layout.cells());
    assert_eq!(out.len() as u64, layout.sealed_len());
    (iv, out)
}

fn open_range(opener: &CellOpener, blob: &[u8], len: u64, range: Range<u64>) -> Vec<u8> {
    let layout = BlobLayout::new(len).unwrap();
    let span = layout.span(range).unwrap();
    let mut out = Vec::new();
    for index in span.cells {
        let sealed = layout.sealed_range(index).unwrap();
        let cell = &blob[sealed.start as usize..sealed.end as usize];
        opener
            .open(index, layout.is_last(index), cell, &mut out)
            .unwrap();
    }
    out[span.skip..][..span.take as usize].to_vec()
}

#[test]
fn blobs_of_every_edge_length_round_trip() {
    let key = DataKey::generate().unwrap();
    let cell = PLAIN_CELL_LEN;
    for len in [0, 1, 4096, cell - 1, cell, cell + 1, 2 * cell, 2 * cell + 1] {
        let plain = plaintext(len);
        let (iv, blob) = seal_blob(&key, &plain);
        let opener = CellOpener::new(&key, CONTEXT, &iv).unwrap();
        assert_eq!(open_range(&opener, &blob, len as u64, 0..len as u64), plain);
    }
}

#[test]
fn an_empty_blob_has_one_authenticated_cell() {
    let key = DataKey::generate().unwrap();
    let (iv, blob) = seal_blob(&key, &[]);
    assert_eq!(blob.len(), CELL_OVERHEAD);
    let opener = CellOpener::new(&key, CONTEXT, &iv).unwrap();
    opener.open(0, true, &blob, &mut Vec::new()).unwrap();
    assert!(opener.open(0, false, &blob, &mut Vec::new()).is_err());
}

#[test]
fn every_thread_opens_with_one_opener() {
    fn shared<T: Send + Sync>(_: &T) {}
    let key = DataKey::generate().unwrap();
    let plain = plaintext(4 * PLAIN_CELL_LEN);
    let (iv, blob) = seal_blob(&key, &plain);
    let opener = CellOpener::new(&key, CONTEXT, &iv).unwrap();
    shared(&opener);
    #[expect(
        clippy::disallowed_methods,
        reason = "the callers' threads are what is tested"
    )]
    std::thread::scope(|scope| {
        for index in (0..4_u64).rev() {
            let (opener, blob, plain) = (&opener, &blob, &plain);
            scope.spawn(move || {
                let cell = &blob[index as usize * SEALED_CELL_LEN..][..SEALED_CELL_LEN];
                let mut out = Vec::new();
                opener.open(index, index == 3, cell, &mut out).unwrap();
                assert_eq!(
                    out,
                    plain[index as usize * PLAIN_CELL_LEN..][..PLAIN_CELL_LEN]
                );
            });
        }
    });
}

#[test]
fn a_sealer_refuses_wrong_lengths_and_anything_after_the_last_cell() {
    let key = DataKey::generate().unwrap();
    let misuse = |result| assert!(matches!(result, Err(CryptoError::Misuse(_))), "{result:?}");
    for (len, last) in [
        (PLAIN_CELL_LEN - 1, false),
        (0, false),
        (PLAIN_CELL_LEN + 1, false),
        (PLAIN_CELL_LEN + 1, true),
    ] {
        let (mut sealer, _) = CellSealer::new(&key, CONTEXT).unwrap();
        let mut out = vec![1, 2, 3];
        misuse(sealer.seal(&vec![0; len], last, &mut out));
        assert_eq!(out, [1, 2, 3]);
        misuse(sealer.seal(&[], true, &mut out));
        assert!(!sealer.is_finished());
    }
    let (mut sealer, _) = CellSealer::new(&key, CONTEXT).unwrap();
    let mut out = Vec::new();
    sealer.seal(b"all", true, &mut out).unwrap();
    misuse(sealer.seal(b"more", true, &mut out));
    assert_eq!(out.len(), 3 + CELL_OVERHEAD);
}

#[test]
fn round_sizes_are_round_numbers_of_cells() {
    for (plain, cells, sealed) in [
        (65_535, 1, 65_567),
        (65_536, 1, 65_568),
        (65_537, 2, 65_601),
        (1 << 20, 16, 1_049_088),
        (64 << 20, 1024, 67_141_632),
        ((64 << 20) + 1, 1025, 67_141_665),
    ] {
        let layout = BlobLayout::new(plain).unwrap();
        assert_eq!((layout.cells(), layout.sealed_len()), (cells, sealed));
        assert_eq!(plain_len(sealed), Ok(plain));
    }
}

#[test]
fn lengths_that_no_blob_has_are_refused() {
    let sealed = SEALED_CELL_LEN as u64;
    assert_eq!(plain_len(CELL_OVERHEAD as u64), Ok(0));
    assert_eq!(plain_len(sealed), Ok(PLAIN_CELL_LEN as u64));
    assert_eq!(plain_len(sealed + 33), Ok(PLAIN_CELL_LEN as u64 + 1));
    for bad in [
        0,
        1,
        31,
        sealed + 1,
        sealed + 31,
        sealed + 32,
        u64::MAX,
        u64::MAX - sealed + 1,
    ] {
        assert_eq!(plain_len(bad), Err(CryptoError::InvalidLength), "{bad}");
    }
    assert!(BlobLayout::new(PLAIN_BLOB_LEN_MAX).is_ok());
    assert!(BlobLayout::new(PLAIN_BLOB_LEN_MAX + 1).is_err());
    assert_eq!(
        plain_len(sealed_len(PLAIN_BLOB_LEN_MAX)),
        Ok(PLAIN_BLOB_LEN_MAX)
    );
    assert_eq!(sealed_len(u64::MAX), u64::MAX);
    let layout = BlobLayout::new(10).unwrap();
    assert!(layout.span(5..11).is_err());
    #[expect(clippy::reversed_empty_ranges, reason = "that is what must be refused")]
    let reversed = layout.span(5..4);
    assert!(reversed.is_err());
    assert!(layout.sealed_range(1).is_err());
    assert!(layout.sealed_range(u64::MAX).is_err());
    assert_eq!(layout.span(5..5).unwrap().cells, 0..0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lengths_convert_both_ways(len in 0..=PLAIN_BLOB_LEN_MAX) {
        prop_assert_eq!(plain_len(sealed_len(len)), Ok(len));
    }

    #[test]
    fn sealed_lengths_convert_or_are_refused(sealed in 0_u64..1 << 57) {
        if let Ok(plain) = plain_len(sealed) {
            prop_assert_eq!(sealed_len(plain), sealed);
        }
    }

    #[test]
    fn any_range_opens_to_its_bytes(
        len in 1_usize..3 * PLAIN_CELL_LEN,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let key = DataKey::generate().unwrap();
        let plain = plaintext(len);
        let (iv, blob) = seal_blob(&key, &plain);
        let opener = CellOpener::new(&key, CONTEXT, &iv).unwrap();
        let (a, b) = (a.index(len + 1), b.index(len + 1));
        let (start, end) = (a.min(b), a.max(b));
        let opened = open_range(&opener, &blob, len as u64, start as u64..end as u64);
        prop_assert_eq!(&opened[..], &plain[start..end]);
    }
}
