//! Somebody edits the row of an object: nothing wrong is shown, and the answer does not tell what
//! the edit has broken.

use super::client::{Answer, call};
use super::objects::{get, put};
use super::with_bucket;
use super::world::World;
use megalith_model::codec;
use megalith_model::ids::BucketId;
use megalith_model::keys::RowKey;
use megalith_model::rows::VersionRow;
use megalith_model::table::Rows as _;

type Edit = fn(&mut VersionRow);

/// What is edited: every field that a reader believes, and every part of what is sealed.
const EDITS: &[(&str, Edit)] = &[
    ("time", |row| row.version.0[6] ^= 1),
    ("rest of the version's id", |row| row.version.0[12] ^= 1),
    ("size", |row| row.size += 1),
    ("a size of nothing", |row| row.size = 0),
    ("a blob twice", |row| row.blobs.push(row.blobs[0])),
    ("no blobs", |row| row.blobs.clear()),
    ("no wrapped key", |row| row.wrapped_key.clear()),
    ("cut key", |row| row.wrapped_key.truncate(90)),
    ("longer key", |row| row.wrapped_key.push(0)),
    ("suite of the key", |row| row.wrapped_key[0] = 2),
    ("version of its KEK", |row| row.wrapped_key[4] = 7),
    ("salt of the key", |row| row.wrapped_key[5] ^= 1),
    ("commitment of the key", |row| row.wrapped_key[40] ^= 1),
    ("text of the key", |row| row.wrapped_key[70] ^= 1),
    ("tag of the key", |row| *last(&mut row.wrapped_key) ^= 1),
    ("no manifest", |row| row.sealed_manifest.clear()),
    ("cut manifest", |row| row.sealed_manifest.truncate(86)),
    ("suite of the manifest", |row| row.sealed_manifest[0] = 2),
    ("text of the manifest", |row| row.sealed_manifest[70] ^= 1),
    ("tag of the manifest", |row| {
        *last(&mut row.sealed_manifest) ^= 1
    }),
    ("no listing", |row| row.sealed_listing.clear()),
    ("version of its KEK", |row| row.sealed_listing[4] = 7),
    ("text of the listing", |row| row.sealed_listing[70] ^= 1),
    ("exchanged records", |row| {
        std::mem::swap(&mut row.sealed_manifest, &mut row.sealed_listing);
    }),
];

fn last(bytes: &mut [u8]) -> &mut u8 {
    bytes.last_mut().expect("a record")
}

/// Edits the row of `a` as somebody does who writes the metadata; returns what it was.
fn edit(world: &World, bucket: BucketId, edit: Edit) -> Vec<u8> {
    let key = b"a".as_slice().into();
    let key = RowKey::Name { bucket, key }.encode();
    let before = world.meta.rows.lock().unwrap().get(&key).unwrap();
    let before = before.expect("the object's row");
    let mut row: VersionRow = codec::decode(&before).expect("a row");
    edit(&mut row);
    world.meta.write(key, codec::encode(&row));
    before
}

/// Returns all of an answer that the one who asked sees, but the request's id and the hour.
fn shown(answer: &Answer) -> String {
    let id = answer.header("x-amz-request-id").unwrap_or("").to_owned();
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-amz-request-id", "x-amz-id-2"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    let body = answer.text().replace(&id, "ID");
    format!("{} {headers:?} {body}", answer.status)
}

#[tokio::test]
async fn attack_13_20_every_edit_of_an_objects_row_gives_the_same_error() {
    let world = with_bucket().await;
    put(&world, "a", "bytes of a").await;
    let bucket = world.bucket("box").expect("there").id;
    let key = RowKey::Name {
        bucket,
        key: b"a".as_slice().into(),
    }
    .encode();
    let mut first = None;
    for (what, change) in EDITS {
        let before = edit(&world, bucket, *change);
        let read = get(&world, "a").await;
        assert_eq!(read.error(), (500, "InternalError".into()), "{what}");
        let head = call("HEAD", "/box/a").send(&world).await;
        assert_eq!((head.status, head.body.len()), (500, 0), "{what}");
        let told = (shown(&read), shown(&head));
        let first = first.get_or_insert_with(|| told.clone());
        assert_eq!(*first, told, "{what} is told from others");
        world.meta.write(key.clone(), before);
        assert_eq!(get(&world, "a").await.text(), "bytes of a", "{what}");
    }
}
