//! A power cut at every single step, one after the other.

use super::{Bench, content, settings, shard};
use crate::error::StoreError;
use crate::op::{Done, Op};
use crate::record::CELL_LEN;
use crate::settings::StoreSettings;
use megalith_model::ids::{Epoch, VolumeId};

/// What a short life of a disk acknowledged, by name.
#[derive(Default)]
struct Acked {
    stored: Vec<u64>,
    deleted: Vec<u64>,
    fence: u32,
}

/// The shards' lengths.
type Lens = [usize; 6];

const LENS: Lens = [10, 5000, CELL_LEN * 3 + 7, 4000, CELL_LEN, 100_000];
/// In records of eight cells, most are longer than 256 KiB: one of little padding, one of nearly a
/// block of it, one behind another of the same shard.
const LONG_LENS: Lens = [
    CELL_LEN * 4 - 150,
    4000,
    CELL_LEN * 12 + 7,
    CELL_LEN * 4,
    10,
    CELL_LEN * 8,
];

/// Writes, deletes, fences and finishes until the disk stops.
fn live(bench: &mut Bench, lens: &Lens, acked: &mut Acked) -> Result<(), StoreError> {
    for (blob, len) in (0..).zip(*lens) {
        let shard = shard(1, blob);
        bench.put(shard, &content(shard, 0, len))?;
        acked.stored.push(blob);
        bench.core().housekeep();
        cut_off(bench, lens);
    }
    // From here on until the answer, either may be the case.
    acked.stored.retain(|blob| ![0, 2].contains(blob));
    bench.delete(&[shard(1, 2), shard(1, 0)])?;
    acked.deleted.extend([0, 2]);
    bench.housekeep_all();
    let (volume, epoch) = (VolumeId(1), Epoch(3));
    let answers = bench.core().commit(vec![Op::Fence { volume, epoch }]);
    assert!(matches!(answers[..], [Ok(Done::Fenced(Epoch(3))) | Err(_)]));
    if answers.into_iter().all(|answer| answer.is_ok()) {
        acked.fence = 3;
    }
    super::scrub::save_ledger(bench);
    bench.core().tidy_all();
    bench.housekeep_all();
    bench.leave_alone(6);
    super::scrub::save_ledger(bench);
    bench.core().close();
    Ok(())
}

/// A writer that goes away amid its shard, with a good one after what it left.
fn cut_off(bench: &mut Bench, lens: &Lens) {
    let lost = shard(1, 99);
    let longest = *lens.iter().max().expect("some");
    let (stream, _) = bench.begin(lost, &content(lost, 0, longest));
    bench.abandon(stream);
}

fn check(bench: &mut Bench, lens: &Lens, acked: &Acked, place: &str) {
    for blob in 0..lens.len() as u64 {
        let shard = shard(1, blob);
        let expected = content(shard, 0, lens[blob as usize]);
        match bench.get(shard) {
            Ok(bytes) => {
                assert_eq!(bytes, expected, "{place}: {shard} is torn");
                assert!(!acked.deleted.contains(&blob), "{place}: {shard} came back");
            }
            Err(StoreError::NotFound { .. }) => {
                assert!(!acked.stored.contains(&blob), "{place}: {shard} is lost");
            }
            Err(error) => panic!("{place}: {shard}: {error}"),
        }
    }
    let scrubbed = super::scrub::scrub_whole(bench);
    assert_eq!(scrubbed.found_shards, 0, "{place}");
    let fence = bench.core().catalog.fence(VolumeId(1));
    assert!(
        fence >= Epoch(acked.fence),
        "{place}: the fence fell to {fence}"
    );
    let health = bench.core().catalog.health.read();
    assert_eq!(
        (health.damaged_regions, health.damaged_shards),
        (0, 0),
        "{place}"
    );
}

/// Cuts the power at every step of a life, with so many different outcomes each.
fn cut_everywhere(settings: &StoreSettings, lens: &Lens, seeds: u64) {
    let mut whole = Bench::new(64 << 20, settings.clone());
    let before = whole.fs.changes();
    live(&mut whole, lens, &mut Acked::default()).expect("nothing fails");
    let steps = whole.fs.changes() - before;
    assert!(steps > 40, "only {steps} steps");
    for step in 1..=steps + 1 {
        for seed in 0..seeds {
            let mut bench = Bench::new(64 << 20, settings.clone());
            let mut acked = Acked::default();
            bench.fs.stop_at(step);
            let _ = live(&mut bench, lens, &mut acked);
            bench.crash(seed * 1000 + step);
            bench.reopen();
            let place = format!("step {step} seed {seed}");
            check(&mut bench, lens, &acked, &place);
            // And again, at once: what the recovery did must hold, and what was given back after
            // it must have been dead.
            if seed % 2 == 1 {
                bench.housekeep_all();
            }
            bench.crash(seed);
            bench.reopen();
            check(&mut bench, lens, &acked, &format!("{place}, second cut"));
        }
    }
}

#[test]
fn power_cut_at_every_step_loses_nothing_acknowledged() {
    let small = StoreSettings {
        file_len_max: 300 << 10,
        ..settings()
    };
    cut_everywhere(&small, &LENS, 6);
}

#[test]
fn power_cut_at_every_step_loses_nothing_acknowledged_of_long_records() {
    let long = StoreSettings {
        file_len_max: 1 << 20,
        record_cells: 8,
        ..settings()
    };
    cut_everywhere(&long, &LONG_LENS, 6);
}

/// Many small files, made by a volume that is left alone after every write, become one.
fn live_alone(bench: &mut Bench, acked: &mut Acked) -> Result<(), StoreError> {
    for (blob, len) in (0..).zip([100; 6]) {
        let shard = shard(1, blob);
        bench.put(shard, &content(shard, 0, len))?;
        acked.stored.push(blob);
        bench.leave_alone(2);
    }
    for gone in [1, 4] {
        acked.stored.retain(|blob| *blob != gone);
        bench.delete(&[shard(1, gone)])?;
        acked.deleted.push(gone);
        bench.leave_alone(2);
    }
    bench.leave_alone(4);
    Ok(())
}

#[test]
fn power_cut_while_small_files_become_one_loses_nothing_acknowledged() {
    let mut whole = Bench::new(64 << 20, settings());
    let before = whole.fs.changes();
    live_alone(&mut whole, &mut Acked::default()).expect("nothing fails");
    let steps = whole.fs.changes() - before;
    let names = whole.names(1);
    assert!(!names.contains(&"00000001.chunk".to_owned()), "{names:?}");
    for step in 1..=steps + 1 {
        for seed in 0..4 {
            let mut bench = Bench::new(64 << 20, settings());
            let mut acked = Acked::default();
            bench.fs.stop_at(step);
            let _ = live_alone(&mut bench, &mut acked);
            bench.crash(seed * 1000 + step);
            bench.reopen();
            let place = format!("step {step} seed {seed}");
            check(&mut bench, &[100; 6], &acked, &place);
            bench.leave_alone(4);
            bench.crash(seed);
            bench.reopen();
            check(
                &mut bench,
                &[100; 6],
                &acked,
                &format!("{place}, second cut"),
            );
        }
    }
}

#[test]
fn power_cut_during_recovery_is_harmless() {
    for step in 1..30 {
        let mut bench = Bench::new(64 << 20, settings());
        let mut acked = Acked::default();
        bench.fs.stop_at(14);
        let _ = live(&mut bench, &LENS, &mut acked);
        bench.crash(step);
        bench.fs.stop_at(step);
        let opened = bench.open();
        drop(opened);
        bench.crash(step + 7);
        bench.reopen();
        let place = format!("recovery step {step}");
        check(&mut bench, &LENS, &acked, &place);
    }
}

#[test]
fn power_cut_while_space_is_given_back_after_an_opening_is_harmless() {
    let small = StoreSettings {
        file_len_max: 300 << 10,
        ..settings()
    };
    let mut cuts = 0;
    for stop in (10..).step_by(7) {
        let mut steps = 1;
        for step in 1.. {
            let mut bench = Bench::new(64 << 20, small.clone());
            let mut acked = Acked::default();
            bench.fs.stop_at(stop);
            if live(&mut bench, &LENS, &mut acked).is_ok() && stop > 200 {
                assert!(cuts > 400, "only {cuts} cuts");
                return;
            }
            bench.crash(stop + step);
            let before = bench.fs.changes();
            bench.fs.stop_at(step);
            if bench.open().is_ok() {
                bench.housekeep_all();
                bench.leave_alone(6);
            }
            let place = format!("life {stop} step {step}");
            steps = steps.max(bench.fs.changes() - before);
            bench.crash(step + 7);
            bench.reopen();
            check(&mut bench, &LENS, &acked, &place);
            cuts += 1;
            if step > steps {
                break;
            }
        }
    }
}

#[test]
fn torn_tail_is_cut_and_the_rest_is_kept() {
    let mut torn = 0;
    for seed in 0..200 {
        let mut bench = Bench::new(64 << 20, settings());
        let kept = shard(1, 1);
        bench.put(kept, &content(kept, 0, 9000)).expect("stored");
        // The write is made, the sync never comes.
        bench.fs.stop_at(2);
        let lost = shard(1, 2);
        bench
            .put(lost, &content(lost, 0, 60_000))
            .expect_err("stopped");
        bench.crash(seed);
        bench.reopen();
        assert_eq!(bench.get(kept).expect("kept"), content(kept, 0, 9000));
        match bench.get(lost) {
            // All of its sectors happened to arrive.
            Ok(bytes) => assert_eq!(bytes, content(lost, 0, 60_000)),
            Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error}"),
        }
        let health = bench.core().catalog.health.read();
        torn += health.torn_pieces;
        assert_eq!((health.damaged_regions, health.damaged_shards), (0, 0));
        let later = shard(1, 3);
        bench.put(later, &content(later, 0, 100)).expect("stored");
        bench.crash(seed + 1);
        bench.reopen();
        assert_eq!(bench.get(later).expect("kept"), content(later, 0, 100));
    }
    assert!(torn > 20, "only {torn} tails were torn");
}

#[test]
fn torn_piece_between_good_records_is_never_taken_for_damage_later() {
    let mut between = 0;
    for seed in 0..300 {
        let mut bench = Bench::new(64 << 20, settings());
        let first = shard(1, 1);
        bench.put(first, &content(first, 0, 100)).expect("stored");
        // One write with several small records; its sync never comes.
        let batch: Vec<_> = (10..16).map(|blob| shard(1, blob)).collect();
        let batch: Vec<_> = batch
            .into_iter()
            .map(|shard| (shard, content(shard, 0, 50)))
            .collect();
        bench.fs.stop_at(2);
        let answers = bench.put_batch(&batch, Epoch(1));
        assert!(answers.iter().all(Result::is_err));
        bench.crash(seed);
        bench.reopen();
        let survived: Vec<bool> = batch
            .iter()
            .map(|(shard, _)| bench.get(*shard).is_ok())
            .collect();
        between += u32::from(survived.windows(2).any(|pair| pair == [false, true]));
        let later = shard(1, 99);
        bench.put(later, &content(later, 0, 100)).expect("stored");
        bench.crash(seed);
        bench.reopen();
        let health = bench.core().catalog.health.read();
        assert_eq!(
            (health.damaged_regions, health.damaged_shards),
            (0, 0),
            "seed {seed}"
        );
        for kept in [first, later] {
            assert_eq!(bench.get(kept).expect("kept"), content(kept, 0, 100));
        }
        for ((shard, bytes), survived) in batch.iter().zip(survived) {
            assert_eq!(
                bench.get(*shard).is_ok_and(|got| got == *bytes),
                survived,
                "{shard}"
            );
        }
    }
    assert!(
        between > 20,
        "only {between} cuts tore a record before a good one"
    );
}
