//! Buckets, listings, batches, and who owns them.

use super::client::{Call, call};
use super::objects::{get, put};
use super::with_bucket;
use crate::ops::checksum::{Algorithm, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use md5::Digest as _;
use megalith_model::codec;
use megalith_model::ids::AccountId;
use megalith_model::keys::RowKey;
use megalith_model::rows::{BucketRow, VersionRow};
use megalith_model::table::{Overlay, Rows as _};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn buckets() {
    let world = with_bucket().await;
    let (ann, bob) = (world.ann.clone(), world.bob.clone());
    let again = call("PUT", "/box").send(&world).await;
    assert_eq!(again.status, 200, "as in us-east-1: {}", again.text());
    let taken = call("PUT", "/box").send_as(&world, &bob).await;
    assert_eq!(taken.error(), (409, "BucketAlreadyExists".into()));
    let bad = call("PUT", "/Bad_Name").send(&world).await;
    assert_eq!(bad.error(), (400, "InvalidBucketName".into()));
    let listed = call("GET", "/").send(&world).await;
    assert_eq!(listed.elements("Name"), ["box"]);
    assert!(
        call("GET", "/")
            .send_as(&world, &bob)
            .await
            .elements("Name")
            .is_empty()
    );
    let location = call("GET", "/box?location").send(&world).await;
    assert_eq!(location.status, 200, "{}", location.text());
    assert_eq!(
        call("GET", "/box?versioning").send(&world).await.status,
        200
    );
    let acl = call("GET", "/box?acl").send(&world).await;
    assert!(acl.text().contains("FULL_CONTROL"), "{}", acl.text());
    put(&world, "k", "x").await;
    let full = call("DELETE", "/box").send(&world).await;
    assert_eq!(full.error(), (409, "BucketNotEmpty".into()));
    for request in [
        call("GET", "/box/k"),
        call("HEAD", "/box/k"),
        call("PUT", "/box/k").body("y"),
        call("DELETE", "/box/k"),
        call("GET", "/box"),
        call("DELETE", "/box"),
        call("POST", "/box/k?uploads"),
    ] {
        let denied = request.clone().send_as(&world, &bob).await;
        assert_eq!(denied.status, 403, "{request:?}: {}", denied.text());
    }
    assert_eq!(
        call("DELETE", "/box/k").send_as(&world, &ann).await.status,
        204
    );
    assert_eq!(call("DELETE", "/box").send(&world).await.status, 204);
    assert_eq!(get(&world, "k").await.error(), (404, "NoSuchBucket".into()));
    let gone = call("PUT", "/box/k").body("x").send(&world).await;
    assert_eq!(gone.error(), (404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn a_bucket_made_again_is_found_behind_a_kept_row() {
    let world = with_bucket().await;
    put(&world, "k", "x").await;
    // Without this gateway's knowledge, as another gateway would.
    use megalith_model::command::{Command, Condition};
    let old = world.bucket("box").unwrap();
    world.meta.done(Command::DeleteObject {
        bucket: old.id,
        key: b"k".to_vec(),
        condition: Condition::None,
    });
    world.meta.done(Command::DeleteBucket(old.id));
    world.create_behind("box", old.account);
    assert_eq!(get(&world, "k").await.error(), (404, "NoSuchKey".into()));
    put(&world, "k", "new").await;
    assert_eq!(get(&world, "k").await.text(), "new");
}

#[tokio::test]
async fn a_bucket_given_away_in_the_metadata_opens_for_nobody() {
    let world = with_bucket().await;
    put(&world, "k", "secret").await;
    world.create_behind("bobs", AccountId(2));
    let edit = |from: &str, change: &dyn Fn(&mut BucketRow)| {
        let mut row = world.bucket(from).unwrap();
        change(&mut row);
        let mut rows = world.meta.rows.lock().unwrap();
        let mut edited = Overlay::new(&*rows);
        edited.put(RowKey::Bucket(row.id).encode(), codec::encode(&row));
        let batch = edited.into_batch();
        rows.write(batch);
    };
    let bobs = || call("GET", "/box/k");
    assert_eq!(bobs().send_as(&world, &world.bob).await.error().0, 403);
    // First only the owner is changed, then the sealed owner comes from a bucket that he really
    // owns.
    edit("box", &|row| row.account = AccountId(2));
    assert_eq!(bobs().send_as(&world, &world.bob).await.error().0, 500);
    let his = world.bucket("bobs").unwrap();
    edit("box", &|row| row.sealed_owner.clone_from(&his.sealed_owner));
    assert_eq!(bobs().send_as(&world, &world.bob).await.error().0, 500);
}

#[tokio::test]
async fn a_list_row_of_another_version_shows_nobody_its_etag() {
    let world = with_bucket().await;
    let bucket = world.bucket("box").unwrap().id;
    let key = b"k"[..].into();
    let key = RowKey::Name { bucket, key }.encode();
    let row = || -> VersionRow {
        let rows = world.meta.rows.lock().unwrap();
        codec::decode(&rows.get(&key).unwrap().unwrap()).unwrap()
    };
    put(&world, "k", "one").await;
    let one = row();
    put(&world, "k", "two").await;
    let etag = get(&world, "k").await.etag();
    assert_eq!(etag, hex::encode(md5::Md5::digest("two")));
    let mixed = VersionRow {
        sealed_listing: one.sealed_listing,
        ..row()
    };
    {
        let mut rows = world.meta.rows.lock().unwrap();
        let mut edited = Overlay::new(&*rows);
        edited.put(key.clone(), codec::encode(&mixed));
        let batch = edited.into_batch();
        rows.write(batch);
    }
    for request in [
        call("GET", "/box/k"),
        call("HEAD", "/box/k"),
        call("GET", "/box"),
        call("PUT", "/box/copy").header("x-amz-copy-source", "/box/k"),
    ] {
        let answer = request.clone().send(&world).await;
        assert_eq!(answer.status, 500, "{request:?}");
    }
}

#[tokio::test]
async fn listings_page_through_everything_once() {
    let world = with_bucket().await;
    let keys = ["a", "b/1", "b/2", "b/3", "c d", "d/x/1", "d/x/2", "e"];
    for key in keys {
        put(&world, &key.replace(' ', "%20"), key).await;
    }
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let next = token
            .map(|token| format!("&continuation-token={token}"))
            .unwrap_or_default();
        let page = call("GET", &format!("/box?list-type=2&max-keys=3{next}"))
            .send(&world)
            .await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(page.elements("Key").len() <= 3);
        found.extend(page.elements("Key"));
        token = page.element("NextContinuationToken");
        assert_eq!(
            page.element("IsTruncated"),
            Some(token.is_some().to_string())
        );
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, keys);
    let folded = call("GET", "/box?delimiter=%2F&encoding-type=url")
        .send(&world)
        .await;
    assert_eq!(folded.elements("Key"), ["a", "c%20d", "e"]);
    let prefixes = folded.elements("CommonPrefixes");
    assert_eq!(prefixes, ["<Prefix>b/</Prefix>", "<Prefix>d/</Prefix>"]);
    let first = call("GET", "/box?delimiter=%2F&max-keys=2")
        .send(&world)
        .await;
    assert_eq!(
        first.element("NextMarker").as_deref(),
        Some("b/"),
        "{}",
        first.text()
    );
    let second = call("GET", "/box?delimiter=%2F&marker=b%2F")
        .send(&world)
        .await;
    assert_eq!(second.elements("Key"), ["c d", "e"]);
    let long = call("GET", "/box?list-type=2&delimiter=x%2F&prefix=d")
        .send(&world)
        .await;
    assert_eq!(long.elements("CommonPrefixes"), ["<Prefix>d/x/</Prefix>"]);
    let after = call("GET", "/box?list-type=2&start-after=c%20d&fetch-owner=true");
    let after = after.send(&world).await;
    assert_eq!(after.elements("Key"), ["d/x/1", "d/x/2", "e"]);
    assert_eq!(after.elements("Owner").len(), 3);
    let none = call("GET", "/box?list-type=2&max-keys=0")
        .send(&world)
        .await;
    assert_eq!(none.element("IsTruncated").as_deref(), Some("false"));
    let bad = call("GET", "/box?list-type=2&continuation-token=zz")
        .send(&world)
        .await;
    assert_eq!(bad.error(), (400, "InvalidArgument".into()));
    assert_eq!(
        call("GET", "/box?max-keys=-1").send(&world).await.error().0,
        400
    );
}

/// A batch delete with the digest that it needs.
fn batch(xml: &str) -> Call {
    let digest = digest(Algorithm::Crc32, xml.as_bytes());
    call("POST", "/box?delete")
        .header("x-amz-checksum-crc32", &STANDARD.encode(digest))
        .body(xml.to_owned())
}

#[tokio::test]
async fn batch_deletes() {
    let world = with_bucket().await;
    for key in ["a", "b", "c"] {
        put(&world, key, key).await;
    }
    let xml = "<Delete><Object><Key>a</Key></Object><Object><Key>nope</Key></Object></Delete>";
    let bare = call("POST", "/box?delete").body(xml).send(&world).await;
    assert_eq!(bare.error(), (400, "InvalidRequest".into()), "no digest");
    let deleted = batch(xml).send(&world).await;
    assert_eq!(deleted.elements("Key"), ["a", "nope"], "{}", deleted.text());
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let deleted = batch(quiet).send(&world).await;
    assert_eq!((deleted.status, deleted.elements("Key").len()), (200, 0));
    let wrong = call("POST", "/box?delete").header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(
        wrong.body(xml).send(&world).await.error(),
        (400, "BadDigest".into())
    );
    let wrong = call("POST", "/box?delete").header("x-amz-checksum-crc32", "AAAAAA==");
    assert_eq!(
        wrong.body(xml).send(&world).await.error(),
        (400, "BadDigest".into())
    );
    let many: String = (0..1001)
        .map(|i| format!("<Object><Key>{i}</Key></Object>"))
        .collect();
    let many = batch(&format!("<Delete>{many}</Delete>"));
    assert_eq!(
        many.send(&world).await.error(),
        (400, "MalformedXML".into())
    );
    let broken = batch("<Delete><Object>").send(&world).await;
    assert_eq!(broken.error(), (400, "MalformedXML".into()));
    assert_eq!(get(&world, "c").await.status, 200);
}

#[tokio::test]
async fn another_accounts_object_can_not_be_copied() {
    let world = with_bucket().await;
    put(&world, "a", "x").await;
    let bob = world.bob.clone();
    assert_eq!(call("PUT", "/bobs").send_as(&world, &bob).await.status, 200);
    let copy = call("PUT", "/bobs/a").header("x-amz-copy-source", "/box/a");
    assert_eq!(
        copy.send_as(&world, &bob).await.error(),
        (403, "AccessDenied".into())
    );
}

/// When a row is too old, all requests of that instant need it.
#[tokio::test]
async fn requests_that_come_together_ask_for_a_bucket_once() {
    let world = with_bucket().await;
    world.create_behind("pit", AccountId(1));
    let asked = || world.meta.buckets_asked.load(Ordering::Relaxed);
    let before = asked();
    let held = world.meta.answers.write().await;
    let delete = || call("DELETE", "/pit/none").send(&world);
    let (answers, ()) = tokio::join!(join_all((0..50).map(|_| delete())), async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(held);
    });
    assert!(answers.iter().all(|answer| answer.status == 204));
    assert_eq!(asked() - before, 1);
    // What they asked for together is no proof that there is no such bucket.
    let absent = || call("DELETE", "/none/k").send(&world);
    for answer in join_all((0..5).map(|_| absent())).await {
        assert_eq!(answer.error(), (404, "NoSuchBucket".into()));
    }
    let strange = call("DELETE", "/pit/none").send_as(&world, &world.bob);
    assert_eq!(strange.await.error(), (403, "AccessDenied".into()));
}
