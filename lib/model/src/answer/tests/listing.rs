//! Compares every page of every listing with one computed the slow way.

use crate::answer::folded;
use crate::answer::tests::ask;
use crate::command::{Command, ObjectBlobs};
use crate::machine::tests::{BOX, World, put, put_command, upload};
use crate::question;
use crate::rows::UploadPlace;
use crate::table::{MemRows, Rows, RowsError};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;

/// Keys over few letters, so that prefixes, delimiters and neighbours are common.
fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!['a', 'b', '/', '0', '\u{ff}', '\0']),
        len,
    )
    .prop_map(|letters| letters.into_iter().collect())
}

fn world(keys: &BTreeSet<String>) -> World {
    let mut world = World::ready();
    for (number, key) in (1..).zip(keys) {
        let blob = world.blob(number, 8, 1);
        world.done(put_command(put(key, number, ObjectBlobs::New(blob))));
        world.done(Command::CreateUpload {
            bucket: BOX,
            key: key.clone().into(),
            upload: upload(number),
            wrapped_key: vec![],
            sealed_manifest: vec![],
        });
    }
    world
}

/// A listed item: (text, whether it is a common prefix).
type Item = (Vec<u8>, bool);

fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str) -> Vec<Item> {
    let items: BTreeSet<Item> = keys
        .iter()
        .filter(|key| key.starts_with(prefix))
        .map(
            |key| match folded(prefix.as_bytes(), delimiter.as_bytes(), key.as_bytes()) {
                Some(common) => (common.to_vec(), true),
                None => (key.clone().into_bytes(), false),
            },
        )
        .collect();
    items
        .into_iter()
        .filter(|(text, _)| text.as_slice() > after.as_bytes())
        .collect()
}

/// All items from page to page; each page's items are in order and within its size.
fn paged(rows: &MemRows, prefix: &str, delimiter: &str, after: &str, max: u32) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut after = after.as_bytes().to_vec();
    loop {
        let asked = question::List {
            bucket: BOX,
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            after,
            max,
        };
        let listing = ask(rows, asked);
        let mut page: Vec<Item> = Vec::new();
        page.extend(listing.entries.into_iter().map(|(key, _)| (key, false)));
        page.extend(listing.common_prefixes.into_iter().map(|text| (text, true)));
        page.sort();
        assert!(page.len() <= max as usize);
        items.extend(page);
        match listing.next {
            Some(next) => {
                assert_eq!(items.last().map(|(text, _)| text), Some(&next));
                after = next;
            }
            None => return items,
        }
    }
}

fn paged_uploads(rows: &MemRows, prefix: &str, delimiter: &str, max: u32) -> Vec<Item> {
    let mut items = Vec::new();
    let mut after: Option<UploadPlace> = None;
    loop {
        let asked = question::Uploads {
            bucket: BOX,
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            after,
            max,
        };
        let listing = ask(rows, asked);
        let mut page: Vec<Item> = Vec::new();
        page.extend(listing.uploads.into_iter().map(|place| (place.key, false)));
        page.extend(listing.common_prefixes.into_iter().map(|text| (text, true)));
        page.sort();
        items.extend(page);
        after = listing.next;
        if after.is_none() {
            return items;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pages_to_the_end_give_everything_once_in_order(
        keys in prop::collection::btree_set(text(1..6), 0..25),
        prefix in text(0..3),
        delimiter in prop::sample::select(vec!["", "/", "a", "/a"]),
        after in text(0..4),
        max in 1_u32..6,
    ) {
        let world = world(&keys);
        let all = paged(&world.rows, &prefix, delimiter, &after, max);
        prop_assert_eq!(all, naive(&keys, &prefix, delimiter, &after));
        let uploads = paged_uploads(&world.rows, &prefix, delimiter, max);
        prop_assert_eq!(uploads, naive(&keys, &prefix, delimiter, ""));
    }
}

/// Rows that count what is read.
struct Counting<'a> {
    rows: &'a MemRows,
    visited: Cell<usize>,
}

impl Rows for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.visited.set(self.visited.get() + 1);
        self.rows.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.rows.scan(from, to, &mut |key, value| {
            self.visited.set(self.visited.get() + 1);
            visit(key, value)
        })
    }
}

#[test]
fn a_page_costs_its_rows_not_the_keys_it_folds() {
    let keys: BTreeSet<String> = (0..900).map(|n| format!("{}/{n}", n / 300)).collect();
    let world = world(&keys);
    let rows = Counting {
        rows: &world.rows,
        visited: Cell::new(0),
    };
    let asked = question::List {
        bucket: BOX,
        prefix: vec![],
        delimiter: b"/".to_vec(),
        after: vec![],
        max: 1_000,
    };
    let listing = ask(&rows, asked);
    assert_eq!(listing.common_prefixes.len(), 3);
    assert_eq!(rows.visited.get(), 3);
}

#[test]
fn a_page_is_never_larger_than_the_bound() {
    let keys: BTreeSet<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    let mut world = world(&keys);
    world.lease();
    let blob = world.blob(1_001, 8, 1);
    world.done(put_command(put("last", 1_001, ObjectBlobs::New(blob))));
    let asked = question::List {
        bucket: BOX,
        prefix: vec![],
        delimiter: vec![],
        after: vec![],
        max: u32::MAX,
    };
    let listing = ask(&world.rows, asked);
    assert_eq!(listing.entries.len(), 1_000);
    assert_eq!(listing.next.as_deref(), Some(&b"0999"[..]));
}
