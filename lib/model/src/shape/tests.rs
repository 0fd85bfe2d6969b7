//! The arithmetic at every boundary, and against a model that puts each cell into its place.

use super::*;
use proptest::prelude::*;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn profile(k: u8, m: u8) -> Profile {
    Profile::new(k, m).expect("valid")
}

fn layout(shape: Shape, k: u8, m: u8, len: u64) -> SegmentLayout {
    SegmentLayout::new(shape, profile(k, m), BlobId(4), len)
}

/// The ciphertext bytes of so many plaintext bytes.
fn sealed(plain: u64) -> u64 {
    plain + plain.div_ceil(CELL_PLAIN_LEN).max(1) * CELL_OVERHEAD
}

/// The cells' lengths of each shard of one segment, by slot.
type Shards = Vec<Vec<u64>>;

/// Puts the cells of a coded blob into their places, one after the other.
fn placed(len: u64, profile: Profile) -> Vec<Shards> {
    let (k, n) = (profile.data(), profile.shards());
    let mut segments: Vec<Shards> = Vec::new();
    let (mut left, mut cells) = (len, 0);
    while left > 0 {
        if cells % 1024 == 0 {
            segments.push(vec![Vec::new(); n]);
        }
        let shards = segments.last_mut().expect("just begun");
        let cell = left.min(65_568);
        let column = cells % 1024 % k;
        shards[column].push(cell);
        if column == 0 {
            // The first cell of a stripe is its longest: parity is as long.
            shards[k..].iter_mut().for_each(|shard| shard.push(cell));
        }
        left -= cell;
        cells += 1;
    }
    segments
}

/// Compares what is computed of a coded blob with the cells in their places.
fn check(len: u64, profile: Profile) {
    let expected = placed(len, profile);
    let lens: Vec<u64> = segments(len).collect();
    let what = format!("{len} bytes on {profile:?}");
    assert_eq!(lens.len(), expected.len(), "{what}");
    assert_eq!(lens.iter().sum::<u64>(), len, "{what}");
    for (number, (len, shards)) in lens.into_iter().zip(expected).enumerate() {
        let what = format!("segment {number} of {what}");
        let layout = SegmentLayout::new(Shape::Coded, profile, BlobId(4), len);
        let data = &shards[..profile.data()];
        let sum = |shard: &Vec<u64>| shard.iter().sum::<u64>();
        assert_eq!(data.iter().map(sum).sum::<u64>(), len, "{what}");
        let cells: usize = data.iter().map(Vec::len).sum();
        assert_eq!(layout.cells(), cells as u64, "{what}");
        assert_eq!(layout.stripes(), data[0].len() as u64, "{what}");
        let filled = data.iter().filter(|shard| !shard.is_empty()).count();
        assert_eq!(layout.filled_columns(), filled, "{what}");
        for (slot, shard) in shards.iter().enumerate() {
            assert_eq!(layout.shard_cells(slot), shard.len() as u64, "{what}");
            assert_eq!(layout.shard_len(slot), sum(shard), "{what}, slot {slot}");
            for (cell, len) in (0..).zip(shard) {
                let found = layout.shard_cell_len(slot, cell);
                assert_eq!(found, *len, "{what}, slot {slot}, cell {cell}");
            }
        }
        let holders: Vec<usize> = (0..profile.shards())
            .filter(|slot| !shards[*slot].is_empty())
            .collect();
        assert_eq!(layout.slots().collect::<Vec<_>>(), holders, "{what}");
    }
}

#[test]
fn sizes_follow_from_the_plaintext_of_a_cell() {
    assert_eq!((CELL_LEN, SEGMENT_LEN_MAX), (65_568, 67_141_632));
    assert_eq!((INLINE_LEN_MAX, COPIES_LEN_MAX), (4_128, 131_136));
    for (plain, shape, cells, lens) in [
        (0, Shape::Inline, 1, vec![32]),
        (4_096, Shape::Inline, 1, vec![4_128]),
        (4_097, Shape::Copies, 1, vec![4_129]),
        (65_536, Shape::Copies, 1, vec![65_568]),
        (65_537, Shape::Copies, 2, vec![65_601]),
        (128 * KIB, Shape::Copies, 2, vec![131_136]),
        (128 * KIB + 1, Shape::Coded, 3, vec![131_169]),
        (MIB, Shape::Coded, 16, vec![1_049_088]),
        (64 * MIB - 1, Shape::Coded, 1024, vec![67_141_631]),
        (64 * MIB, Shape::Coded, 1024, vec![67_141_632]),
        (64 * MIB + 1, Shape::Coded, 1025, vec![67_141_632, 33]),
        (128 * MIB, Shape::Coded, 2048, vec![67_141_632, 67_141_632]),
    ] {
        let len = sealed(plain);
        assert_eq!(Shape::for_len(len), shape, "{plain}");
        assert_eq!(len.div_ceil(CELL_LEN), cells, "{plain}");
        assert_eq!(segments(len).collect::<Vec<_>>(), lens, "{plain}");
    }
    assert_eq!(segments(0).count(), 0);
}

#[test]
fn cells_lie_where_a_plain_count_puts_them_for_every_k() {
    let edges = [
        65_536,
        128 * KIB,
        MIB,
        1023 * CELL_PLAIN_LEN,
        64 * MIB,
        128 * MIB,
    ];
    for k in 1..=16 {
        for plain in edges.into_iter().chain([u64::from(k) * CELL_PLAIN_LEN]) {
            for plain in plain - 1..=plain + 1 {
                check(sealed(plain), profile(k, 2));
            }
        }
        for m in [0, 1, 4] {
            check(sealed(64 * MIB + 1), profile(k, m));
        }
    }
}

#[test]
fn every_k_has_segments_of_1024_cells_and_the_last_stripe_may_be_short() {
    for k in 1..=16 {
        let full = layout(Shape::Coded, k, 2, SEGMENT_LEN_MAX);
        assert_eq!(full.cells(), 1024);
        let in_last = 1024 - (full.stripes() - 1) * u64::from(k);
        let last = full.stripes() - 1;
        let holders = (0..usize::from(k)).filter(|slot| full.shard_cells(*slot) > last);
        assert_eq!(holders.count() as u64, in_last, "{k}");
        // Parity has a whole cell there, too.
        assert_eq!(full.shard_len(usize::from(k)), full.stripes() * CELL_LEN);
    }
}

#[test]
fn short_segment_has_no_shard_in_empty_columns() {
    let l = layout(Shape::Coded, 4, 2, 2 * CELL_LEN + 5);
    assert_eq!(l.slots().collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    assert_eq!(l.shard_len(2), 5);
    assert_eq!(l.shard_len(3), 0);
    assert_eq!(l.shard_len(4), CELL_LEN);
    assert_eq!(l.write_quorum(), 4);
}

#[test]
fn copies_rotate_with_the_blob_id() {
    let l = layout(Shape::Copies, 4, 2, 70_000);
    assert_eq!(l.slots().collect::<Vec<_>>(), [0, 4, 5]);
    assert_eq!(l.shard_len(4), 70_000);
    assert_eq!(l.shard_cells(4), 2);
    assert_eq!(l.write_quorum(), 2);
    assert_eq!(l.shards_needed(), 1);
}

proptest! {
    #[test]
    fn cells_lie_where_a_plain_count_puts_them(
        cells in prop_oneof![0_u64..40, 1_000_u64..1_050, 2_040_u64..2_060],
        tail in prop_oneof![Just(CELL_LEN), 1..=CELL_LEN],
        k in 1_u8..=16,
        m in 0_u8..=4,
    ) {
        check(cells * CELL_LEN + tail, profile(k, m));
    }
}
