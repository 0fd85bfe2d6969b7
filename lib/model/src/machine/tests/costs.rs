//! What an object costs in rows: reads and writes of the engine for a PUT, and bytes that stay.

use super::{World, put, put_command};
use crate::command::{Command, ObjectBlobs};
use crate::entry::Entry;
use crate::keys::Table;
use crate::machine::apply;
use crate::table::{Kept, MemRows, Overlay, Rows, RowsError};
use expect_test::expect;
use std::cell::Cell;

/// Lengths as a gateway makes them, for a name of 40 bytes.
const WRAPPED_KEY_LEN: usize = 118;
const MANIFEST_LEN: usize = 144;
const LISTING_LEN: usize = 108;
const OBJECTS: u64 = 200;

/// Counts reads.
struct Counting<'a>(&'a MemRows, Cell<u64>);

impl Rows for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.scan(from, to, visit)
    }
}

fn command(world: &World, number: u64) -> Command {
    let name = format!("account-0000001/files/{number:013}.bin");
    let mut object = put(
        &name,
        number,
        ObjectBlobs::New(world.blob(number, 1 << 20, 1)),
    );
    object.wrapped_key = vec![1; WRAPPED_KEY_LEN];
    object.sealed_manifest = vec![2; MANIFEST_LEN];
    object.sealed_listing = vec![3; LISTING_LEN];
    put_command(object)
}

/// What a PUT reads, on average, in the first batch of so many and in the second.
fn reads_in_batches(batch: u64) -> [u64; 2] {
    let mut world = World::ready();
    let mut kept = Kept::default();
    [1, 1 + batch].map(|first| {
        world.time_ms += 1;
        let envelopes: Vec<_> = (first..first + batch)
            .map(|number| {
                let command = command(&world, number);
                world.envelope(command)
            })
            .collect();
        let counting = Counting(&world.rows, Cell::new(0));
        let mut overlay = Overlay::resume(&counting, std::mem::take(&mut kept));
        for envelope in envelopes {
            let answer = apply(&mut overlay, &Entry::new(world.time_ms, envelope));
            answer.expect("rows in memory").expect("put");
        }
        let (changes, after) = overlay.into_parts();
        let reads = counting.1.get().div_ceil(batch);
        kept = after;
        world.rows.write(changes);
        reads
    })
}

#[test]
fn an_object_costs_few_rows_and_bytes() {
    let ([first, alone], [_, together]) = (reads_in_batches(1), reads_in_batches(16));
    let mut world = World::ready();
    let bytes = |world: &World| -> usize {
        let of_all = [Table::Names, Table::Blobs, Table::VolumeBlobs].map(|table| table as u8);
        let rows = world
            .rows
            .iter()
            .filter(|(key, _)| of_all.contains(&key[0]));
        rows.map(|(key, value)| key.len() + value.len()).sum()
    };
    let mut writes = 0;
    for number in 1..=OBJECTS {
        world.time_ms += 1;
        let command = command(&world, number);
        let (answer, batch) = world.attempt(command);
        answer.expect("put");
        writes = batch.iter().count();
    }
    let each = bytes(&world) / OBJECTS as usize;
    let sealed = WRAPPED_KEY_LEN + MANIFEST_LEN + LISTING_LEN;
    expect!["reads: 6 alone, 12 of the first, 4 each of 16 together; writes: 8; bytes that stay: 576, 370 of them sealed by the gateway"]
    .assert_eq(&format!(
        "reads: {alone} alone, {first} of the first, {together} each of 16 together; writes: \
         {writes}; bytes that stay: {each}, {sealed} of them sealed by the gateway"
    ));
}
