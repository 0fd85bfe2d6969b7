//! Measures how fast stripes are coded, compared with a plain copy of the same bytes. `cargo run
//! --release -p megalith-erasure --example codec_speed`

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]

use megalith_erasure::{Encoder, cpu_supported};
use megalith_model::profile::Profile;
use std::hint::black_box;
use std::time::Instant;

const CELL: usize = megalith_model::shape::CELL_LEN as usize;

fn main() {
    println!("SIMD kernel: {}", cpu_supported());
    println!("profile  copy GiB/s  encode GiB/s  share  decode (m lost) GiB/s");
    for (k, m) in [(1, 2), (2, 2), (4, 2), (8, 3), (8, 4)] {
        let profile = Profile::new(k, m).expect("valid");
        let (k, m) = (usize::from(k), usize::from(m));
        let encoder = Encoder::new(profile);
        let cells: Vec<Vec<u8>> = (0..k).map(|i| vec![i as u8 + 1; CELL]).collect();
        let data: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
        let mut target = vec![0; k * CELL];
        let copy = rate(k, || {
            for (to, from) in target.chunks_exact_mut(CELL).zip(&data) {
                to.copy_from_slice(black_box(from));
            }
            black_box(&mut target);
        });
        let mut parity = vec![Vec::new(); m];
        let encode = rate(k, || {
            encoder
                .encode_stripe(black_box(&data), &mut parity)
                .expect("encodes");
        });
        let lost = m.min(k);
        let (all, gone) = ((1_u32 << (k + m)) - 1, (1_u32 << lost) - 1);
        let decoder = encoder.decoder(all & !gone, gone).expect("k are left");
        let whole: Vec<&[u8]> = data
            .iter()
            .copied()
            .chain(parity.iter().map(Vec::as_slice))
            .collect();
        let sources: Vec<&[u8]> = decoder.sources().iter().map(|i| whole[*i]).collect();
        let lens = vec![CELL; lost];
        let decode = rate(k, || {
            black_box(decoder.decode(black_box(&sources), &lens).expect("decodes"));
        });
        println!(
            "{:>7}  {copy:>10.1}  {encode:>12.1}  {:>4.0}%  {decode:>20.1}",
            profile.to_string(),
            100.0 * encode / copy,
        );
    }
}

/// Returns GiB of data per second.
fn rate(cells: usize, mut once: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut rounds = 0_u32;
    while start.elapsed().as_millis() < 300 {
        for _ in 0..16 {
            once();
        }
        rounds += 16;
    }
    let bytes = f64::from(rounds) * (cells * CELL) as f64;
    bytes / start.elapsed().as_secs_f64() / f64::from(1 << 30)
}
