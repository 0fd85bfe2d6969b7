//! Measures sealing and opening of cells, and bare AES-256-GCM of the same size, in one run.
//!
//! `cargo run --release -p megalith-crypto --example seal_speed`

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use megalith_crypto::cell::{PLAIN_CELL_LEN, SEALED_CELL_LEN};
use megalith_crypto::{
    CellOpener, CellSealer, DataKey, KeyRing, ListingContext, ListingEntry, ObjectContext, RootKey,
    StreamContext,
};
use std::hint::black_box;
use std::time::Instant;

/// Cells per measured round, and rounds; the best round counts.
const CELLS: u64 = 256;
const ROUNDS: usize = 200;
const CONTEXT: StreamContext = StreamContext {
    cluster: [1; 16],
    blob: 1,
    part: 0,
};

fn main() {
    let plain = vec![0x5A_u8; PLAIN_CELL_LEN];
    let mut sealed = vec![0_u8; SEALED_CELL_LEN];
    let mut opened = vec![0_u8; PLAIN_CELL_LEN];
    let key = DataKey::generate().expect("random source");

    let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("key length"));
    let nonce = || Nonce::assume_unique_for_key([9; 12]);
    let (mut sealer, iv) = CellSealer::new(&key, CONTEXT).expect("random source");
    let mut bare = vec![0_u8; SEALED_CELL_LEN];
    let (seal, bare_seal) = best_of_two(
        || sealer.seal_into(&plain, false, &mut sealed).expect("seals"),
        || {
            let body = &mut bare[16..];
            gcm.seal_in_place_scatter(nonce(), Aad::empty(), &mut [], &plain, body)
                .expect("seals");
        },
    );
    let last = sealer.cells() - 1;
    let opener = CellOpener::new(&key, CONTEXT, &iv).expect("own iv");
    let mut bare_opened = vec![0_u8; PLAIN_CELL_LEN];
    let (open, bare_open) = best_of_two(
        || {
            opener
                .open_into(last, false, &sealed, &mut opened)
                .expect("opens")
        },
        || {
            let (text, tag) = bare[16..].split_at(PLAIN_CELL_LEN);
            gcm.open_separate_gather(nonce(), Aad::empty(), text, tag, &mut bare_opened)
                .expect("opens");
        },
    );

    report("seal a cell", seal, bare_seal);
    report("open a cell", open, bare_open);
    small_operations(&key);
}

fn small_operations(key: &DataKey) {
    let root = RootKey::generate().expect("random source");
    let kek = KeyRing::new_kek(&root, [1; 16], 1).expect("random source");
    let ring = KeyRing::open(&root, [1; 16], &[(1, &kek)]).expect("own KEK");
    let object = ObjectContext {
        cluster: [1; 16],
        bucket: 1,
        key: b"a/key",
        version: [2; 16],
    };
    let wrapped = ring.wrap(key, &object).expect("random source");
    let listing = ring.listing(1);
    let entry = ListingEntry {
        etag: "9b2cf535f27731c974343645a3985328".into(),
        checksum_algorithms: vec!["CRC64NVME".into()],
        checksum_type: None,
        storage_class: "STANDARD".into(),
    };
    let listed = ListingContext {
        key: b"a/key",
        version: [2; 16],
        plain_len: 1 << 20,
    };
    let row = listing.seal(listed, &entry).expect("random source");
    let print = |what: &str, seconds: f64| println!("{what:<22} {:>7.2} µs", seconds * 1e6);
    print(
        "open a list row",
        best_of(500, || {
            black_box(listing.open(listed, &row).expect("own row"));
        }),
    );
    print(
        "seal a list row",
        best_of(500, || {
            black_box(listing.seal(listed, &entry).expect("random source"));
        }),
    );
    print(
        "unwrap a data key",
        best_of(500, || {
            black_box(ring.unwrap(&wrapped, &object).expect("own wrap"));
        }),
    );
    print(
        "start a stream",
        best_of(500, || {
            black_box(CellSealer::new(key, CONTEXT).expect("random source"));
        }),
    );
}

/// Returns seconds per call in the best of several rounds.
fn best_of(calls: u64, mut work: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| round(calls, &mut work))
        .fold(f64::INFINITY, f64::min)
}

/// As [`best_of`], for two kinds of work. Their rounds alternate, so that both see the same
/// machine.
fn best_of_two(mut first: impl FnMut(), mut second: impl FnMut()) -> (f64, f64) {
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(round(CELLS, &mut first));
        best.1 = best.1.min(round(CELLS, &mut second));
    }
    best
}

fn round(calls: u64, work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    start.elapsed().as_secs_f64() / calls as f64
}

fn report(what: &str, ours: f64, bare: f64) {
    let rate = |seconds: f64| PLAIN_CELL_LEN as f64 / seconds / f64::from(1 << 30);
    println!(
        "{what:<22} {:>7.2} µs {:>6.2} GiB/s; AES-256-GCM alone {:>6.2} GiB/s; ratio {:.3}",
        ours * 1e6,
        rate(ours),
        rate(bare),
        bare / ours,
    );
}
