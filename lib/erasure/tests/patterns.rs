//! Every erasure pattern of every default profile, checked against a second field and encoder
//! written here, and golden stripes: the matrix is part of the stored format.

use megalith_erasure::{CodeError, Encoder};
use megalith_model::profile::Profile;
use proptest::prelude::*;

/// Multiplies in GF(2^8) modulo 0x11D, bit by bit.
fn gf_mul(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1D };
        b >>= 1;
    }
    product
}

fn gf_inverse(a: u8) -> u8 {
    (1..=255)
        .find(|b| gf_mul(a, *b) == 1)
        .expect("a is not zero")
}

/// Computes parity by Lagrange: the polynomial of degree < k through (i, data[i]), evaluated at k,
/// k+1, … That is what the matrix means.
fn reference_parity(data: &[u8], parity: usize) -> Vec<u8> {
    let k = data.len();
    let at = |x: u8| {
        (0..k).fold(0, |sum, i| {
            let basis = (0..k).filter(|j| *j != i).fold(1, |product, j| {
                let (i, j) = (i as u8, j as u8);
                gf_mul(product, gf_mul(x ^ j, gf_inverse(i ^ j)))
            });
            sum ^ gf_mul(data[i], basis)
        })
    };
    (0..parity).map(|p| at((k + p) as u8)).collect()
}

fn profile(k: u8, m: u8) -> Profile {
    Profile::new(k, m).expect("valid")
}

/// Returns a stripe of `k` cells whose lengths decrease, as in a blob's last stripe.
fn stripe(encoder: &Encoder, lens: &[usize]) -> Vec<Vec<u8>> {
    let profile = encoder.profile();
    let mut state = 0x9E37_79B9_u32;
    let mut byte = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut cells: Vec<Vec<u8>> = lens
        .iter()
        .map(|len| (0..*len).map(|_| byte()).collect())
        .collect();
    let data: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
    let mut parity = vec![Vec::new(); profile.parity()];
    encoder.encode_stripe(&data, &mut parity).expect("encodes");
    cells.extend(parity);
    cells
}

fn check_pattern(encoder: &Encoder, whole: &[Vec<u8>], lost: u32) {
    let profile = encoder.profile();
    let lens: Vec<usize> = whole.iter().map(Vec::len).collect();
    let is_lost = |i: usize| lost >> i & 1 == 1;
    let keep = |i: usize| (!is_lost(i)).then(|| whole[i].clone());
    let cells: Vec<Option<Vec<u8>>> = (0..whole.len()).map(keep).collect();

    let mut all = cells;
    encoder
        .reconstruct_all(&mut all, &lens)
        .expect("k cells are there");
    let all: Vec<Vec<u8>> = all.into_iter().map(|cell| cell.expect("rebuilt")).collect();
    assert_eq!(all, whole, "{profile} lost {lost:b}");
}

#[test]
fn every_pattern_of_every_default_profile() {
    for (k, m) in [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 2),
        (3, 2),
        (4, 2),
        (8, 3),
        (8, 4),
    ] {
        let encoder = Encoder::new(profile(k, m));
        let (k, m) = (usize::from(k), usize::from(m));
        let even = stripe(&encoder, &vec![100; k]);
        let uneven = stripe(
            &encoder,
            &(0..k).map(|i| [97, 97, 40, 1][i % 4]).collect::<Vec<_>>(),
        );
        let short: Vec<usize> = (0..k).map(|i| if i == 0 { 33 } else { 0 }).collect();
        let short = stripe(&encoder, &short);
        for lost in 0..1_u32 << (k + m) {
            if lost.count_ones() as usize <= m {
                check_pattern(&encoder, &even, lost);
                check_pattern(&encoder, &uneven, lost);
                check_pattern(&encoder, &short, lost);
            } else if lost.count_ones() as usize == m + 1 {
                refuses(&encoder, &even, lost);
            }
        }
    }
}

fn refuses(encoder: &Encoder, whole: &[Vec<u8>], lost: u32) {
    let lens: Vec<usize> = whole.iter().map(Vec::len).collect();
    let keep = |i: usize| (lost >> i & 1 == 0).then(|| whole[i].clone());
    let mut cells: Vec<Option<Vec<u8>>> = (0..whole.len()).map(keep).collect();
    let before = cells.clone();
    let refused = encoder.reconstruct_all(&mut cells, &lens);
    assert!(
        matches!(refused, Err(CodeError::TooFewCells { .. })),
        "{lost:b}: {refused:?}"
    );
    assert_eq!(cells, before);
}

#[test]
fn known_zero_cells_count_as_there() {
    // Two stored cells of a 4+2 stripe: if both are lost, the parity alone restores them.
    let encoder = Encoder::new(profile(4, 2));
    let whole = stripe(&encoder, &[64, 10, 0, 0]);
    check_pattern(&encoder, &whole, 0b00_0011);
}

#[test]
fn golden_stripes() {
    let golden = |k: u8, m: u8| {
        let encoder = Encoder::new(profile(k, m));
        let cells: Vec<Vec<u8>> = (0..k).map(|i| vec![i + 1, 0x80 | i, 0xFF - i]).collect();
        let data: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
        let mut parity = vec![Vec::new(); usize::from(m)];
        encoder.encode_stripe(&data, &mut parity).expect("encodes");
        let hex = |cell: &Vec<u8>| cell.iter().map(|b| format!("{b:02x}")).collect::<String>();
        parity.iter().map(hex).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(golden(1, 2), "0180ff 0180ff");
    assert_eq!(golden(2, 2), "0782fd 0483fc");
    assert_eq!(golden(4, 2), "4584fb 5e85fa");
    assert_eq!(golden(8, 3), "6188f7 8489f6 fc8af5");
}

#[test]
fn parity_is_that_of_the_reed_solomon_erasure_crate() {
    for (k, m) in [
        (1, 1),
        (1, 2),
        (2, 2),
        (3, 2),
        (4, 2),
        (8, 3),
        (8, 4),
        (17, 15),
    ] {
        let encoder = Encoder::new(profile(k, m));
        let whole = stripe(&encoder, &vec![200; usize::from(k)]);
        let theirs = reed_solomon_erasure::galois_8::ReedSolomon::new(k.into(), m.into());
        assert!(
            theirs.expect("valid").verify(&whole).expect("shaped"),
            "{k}+{m}"
        );
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let encoder = Encoder::new(profile(2, 1));
    let mut parity = vec![Vec::new(); 2];
    assert!(encoder.encode_stripe(&[b"a", b"b"], &mut parity).is_err());
    parity.truncate(1);
    assert!(
        encoder
            .encode_stripe(&[b"a", b"b", b"c"], &mut parity)
            .is_err()
    );
    assert!(encoder.encode_stripe(&[], &mut parity).is_ok());
    assert!(parity[0].is_empty());
    let mut cells = vec![Some(vec![1, 2]), None, Some(vec![1])];
    assert_eq!(
        encoder.reconstruct_all(&mut cells, &[2, 2, 2]),
        Err(CodeError::CellLength {
            cell: 2,
            found: 1,
            expected: 2
        })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parity_is_the_polynomial_beyond_the_data(
        k in 1_u8..12,
        m in 0_u8..5,
        seed in proptest::collection::vec(any::<u8>(), 12 * 40),
        lens in proptest::collection::vec(0_usize..40, 12),
    ) {
        let encoder = Encoder::new(profile(k, m));
        let k = usize::from(k);
        let cells: Vec<&[u8]> = (0..k).map(|i| &seed[i * 40..i * 40 + lens[i]]).collect();
        let mut parity = vec![vec![0xAA; 7]; usize::from(m)];
        encoder.encode_stripe(&cells, &mut parity).expect("encodes");
        let longest = cells.iter().map(|cell| cell.len()).max().unwrap_or(0);
        for at in 0..longest {
            let column: Vec<u8> =
                cells.iter().map(|cell| cell.get(at).copied().unwrap_or(0)).collect();
            let expected = reference_parity(&column, usize::from(m));
            let found: Vec<u8> = parity.iter().map(|cell| cell[at]).collect();
            prop_assert_eq!(found, expected);
        }
        prop_assert!(parity.iter().all(|cell| cell.len() == longest));
    }
}
