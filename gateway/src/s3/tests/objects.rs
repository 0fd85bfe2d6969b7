//! Objects: writing, reading, conditions, copies, and what is refused.

use super::client::{Answer, answer, call};
use super::with_bucket;
use super::world::{Key, Lost, World};

pub(super) async fn put(world: &World, key: &str, body: &str) -> Answer {
    let put = call("PUT", &format!("/box/{key}"))
        .body(body.to_owned())
        .send(world)
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    put
}

pub(super) async fn get(world: &World, key: &str) -> Answer {
    call("GET", &format!("/box/{key}")).send(world).await
}

#[tokio::test]
async fn an_object_comes_back_with_all_that_was_told_about_it() {
    let world = with_bucket().await;
    let written = call("PUT", "/box/a/../b//c")
        .header("content-type", "text/x-poem")
        .header("content-encoding", "aws-chunked,gzip")
        .header("cache-control", "no-cache")
        .header("content-disposition", "inline")
        .header("content-language", "en")
        .header("expires", "Wed, 21 Oct 2015 07:28:00 GMT")
        .header("x-amz-meta-colour", "blue")
        .header("x-amz-server-side-encryption", "AES256")
        .body("hello")
        .send(&world)
        .await;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(written.etag(), "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(
        written.header("x-amz-server-side-encryption"),
        Some("AES256")
    );
    assert!(written.header("x-amz-request-id").is_some());
    for method in ["GET", "HEAD"] {
        let read = call(method, "/box/a/../b//c").send(&world).await;
        assert_eq!(read.status, 200);
        if method == "GET" {
            assert_eq!(read.text(), "hello");
        }
        for (name, value) in [
            ("content-length", "5"),
            ("content-type", "text/x-poem"),
            ("content-encoding", "gzip"),
            ("cache-control", "no-cache"),
            ("content-disposition", "inline"),
            ("content-language", "en"),
            ("expires", "Wed, 21 Oct 2015 07:28:00 GMT"),
            ("x-amz-meta-colour", "blue"),
            ("accept-ranges", "bytes"),
            ("x-amz-server-side-encryption", "AES256"),
            ("etag", "\"5d41402abc4b2a76b9719d911017c592\""),
        ] {
            assert_eq!(read.header(name), Some(value), "{method} {name}");
        }
        assert!(read.header("last-modified").is_some());
    }
}

#[tokio::test]
async fn nothing_told_about_an_object_is_readable_in_the_metadata() {
    let world = with_bucket().await;
    let canary = "canary-of-plaintext";
    call("PUT", "/box/key")
        .header("content-type", "application/x-canary")
        .header("x-amz-meta-secret", "canary-of-metadata")
        .body(canary)
        .send(&world)
        .await;
    let written = put(&world, "other", canary).await;
    let rows = world.meta.rows.lock().unwrap();
    let all: Vec<u8> = rows
        .iter()
        .flat_map(|(key, row)| [key, row].concat())
        .collect();
    let etag = hex::decode(written.etag()).unwrap();
    let needles: [&[u8]; 5] = [
        canary.as_bytes(),
        b"x-canary",
        b"canary-of-metadata",
        written.etag().as_bytes().to_vec().leak(),
        etag.leak(),
    ];
    for needle in needles {
        assert!(
            !all.windows(needle.len()).any(|bytes| bytes == needle),
            "{needle:?}"
        );
    }
}

#[tokio::test]
async fn sizes_of_every_shape_come_back() {
    let world = with_bucket().await;
    for size in [0, 1, 4096, 5000, 65_536, 65_537, 200_000] {
        let body: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        let put = call("PUT", "/box/sized")
            .body(body.clone())
            .send(&world)
            .await;
        assert_eq!(put.status, 200, "{size}: {}", put.text());
        let read = get(&world, "sized").await;
        assert_eq!(
            (read.status, read.body.len()),
            (200, size),
            "{}",
            read.text()
        );
        assert_eq!(read.body, body);
    }
}

#[tokio::test]
async fn ranges() {
    let world = with_bucket().await;
    put(&world, "digits", "0123456789").await;
    let ranged = |range: &'static str| call("GET", "/box/digits").header("range", range);
    for (range, bytes, shown) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let read = ranged(range).send(&world).await;
        assert_eq!((read.status, read.text().as_str()), (206, bytes), "{range}");
        assert_eq!(read.header("content-range"), Some(shown));
        let length = bytes.len().to_string();
        assert_eq!(read.header("content-length"), Some(length.as_str()));
    }
    let beyond = ranged("bytes=10-").send(&world).await;
    assert_eq!(beyond.error(), (416, "InvalidRange".into()));
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = call("HEAD", "/box/digits")
        .header("range", "bytes=2-3")
        .send(&world)
        .await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (206, Some("2"))
    );
    let part = call("GET", "/box/digits?partNumber=1").send(&world).await;
    assert_eq!((part.status, part.text().as_str()), (206, "0123456789"));
    let none = call("GET", "/box/digits?partNumber=2").send(&world).await;
    assert_eq!(none.error(), (416, "InvalidPartNumber".into()));
}

#[tokio::test]
async fn a_range_without_sense_gets_everything_and_only_the_owner() {
    let world = with_bucket().await;
    put(&world, "digits", "0123456789").await;
    for range in ["bytes=5-2", "bytes=0-1,4-5", "nonsense", "bytes=-"] {
        for method in ["GET", "HEAD"] {
            let read = call(method, "/box/digits")
                .header("range", range)
                .send(&world)
                .await;
            assert_eq!(
                (read.status, read.header("content-length")),
                (200, Some("10")),
                "{range}"
            );
            assert_eq!(read.header("content-range"), None);
        }
        let get = || call("GET", "/box/digits").header("range", range);
        let bob = get().send_as(&world, &world.bob).await;
        assert_eq!(bob.error(), (403, "AccessDenied".into()));
        let mut unsigned = get().sign(&world.ann).request(|builder| builder);
        unsigned.headers_mut().remove("authorization");
        assert_eq!(
            answer(&world, unsigned).await.error(),
            (403, "AccessDenied".into())
        );
        let thief = Key {
            id: world.ann.id.clone(),
            secret: "guess".into(),
        };
        let stolen = get().send_as(&world, &thief).await;
        assert_eq!(stolen.error(), (403, "SignatureDoesNotMatch".into()));
    }
}

#[tokio::test]
async fn unknown_calls_are_not_taken_for_plain_writes() {
    let world = with_bucket().await;
    put(&world, "k", "x").await;
    for (method, target) in [
        ("PUT", "/box/new?renameObject"),
        ("PUT", "/box/new?uploadId=1"),
        ("PUT", "/box/new?partNumber=1"),
        ("DELETE", "/box/k?someday"),
        ("DELETE", "/box?someday"),
        ("PUT", "/other?someday"),
    ] {
        let refused = call(method, target).send(&world).await;
        assert_eq!(
            refused.error(),
            (501, "NotImplemented".into()),
            "{method} {target}"
        );
    }
    assert_eq!(get(&world, "new").await.error(), (404, "NoSuchKey".into()));
    assert_eq!(get(&world, "k").await.text(), "x");
    let known = call("PUT", "/box/k?x-id=PutObject")
        .body("y")
        .send(&world)
        .await;
    assert_eq!(known.status, 200);
}

#[tokio::test]
async fn reads_heed_conditions() {
    let world = with_bucket().await;
    let etag = format!("\"{}\"", put(&world, "k", "x").await.etag());
    let with = |name: &'static str, value: &str| call("GET", "/box/k").header(name, value);
    assert_eq!(with("if-match", &etag).send(&world).await.status, 200);
    assert_eq!(with("if-match", "\"no\"").send(&world).await.error().0, 412);
    let same = with("if-none-match", &etag).send(&world).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(same.header("etag"), Some(etag.as_str()));
    assert_eq!(
        with("if-none-match", "\"no\"").send(&world).await.status,
        200
    );
    let future = "Wed, 21 Oct 2099 07:28:00 GMT";
    assert_eq!(
        with("if-modified-since", future).send(&world).await.status,
        304
    );
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    assert_eq!(
        with("if-unmodified-since", past).send(&world).await.status,
        412
    );
}

#[tokio::test]
async fn writes_heed_conditions() {
    let world = with_bucket().await;
    let write =
        |name: &'static str, value: &str| call("PUT", "/box/k").header(name, value).body("new");
    assert_eq!(
        write("if-match", "\"x\"").send(&world).await.error(),
        (404, "NoSuchKey".into())
    );
    assert_eq!(write("if-none-match", "*").send(&world).await.status, 200);
    let again = write("if-none-match", "*").send(&world).await;
    assert_eq!(again.error(), (412, "PreconditionFailed".into()));
    let etag = format!("\"{}\"", put(&world, "k", "old").await.etag());
    let wrong = write("if-match", "\"wrong\"").send(&world).await;
    assert_eq!(wrong.error(), (412, "PreconditionFailed".into()));
    assert_eq!(get(&world, "k").await.text(), "old");
    assert_eq!(write("if-match", &etag).send(&world).await.status, 200);
    assert_eq!(get(&world, "k").await.text(), "new");
    let stale = call("DELETE", "/box/k")
        .header("if-match", &etag)
        .send(&world)
        .await;
    assert_eq!(stale.error(), (412, "PreconditionFailed".into()));
    assert_eq!(
        write("if-none-match", "\"x\"").send(&world).await.status,
        501
    );
}

#[tokio::test]
async fn a_lost_answer_is_no_success_and_no_false_failure() {
    let world = with_bucket().await;
    for lost in [Lost::Command, Lost::Answer] {
        *world.meta.lose_next.lock().unwrap() = Some(lost);
        let unclear = call("PUT", "/box/k").body("x").send(&world).await;
        assert_eq!(
            unclear.error(),
            (503, "ServiceUnavailable".into()),
            "{lost:?}"
        );
    }
    assert_eq!(get(&world, "k").await.text(), "x");
}

#[tokio::test]
async fn a_full_budget_slows_down() {
    let world = World::with_memory(64 << 10).await;
    assert_eq!(call("PUT", "/box").send(&world).await.status, 200);
    let put = call("PUT", "/box/k").body(vec![0; 5000]).send(&world).await;
    assert_eq!(put.error(), (503, "SlowDown".into()));
}

#[tokio::test]
async fn copies_move_no_byte_and_outlive_their_source() {
    let world = with_bucket().await;
    call("PUT", "/box/a")
        .header("x-amz-meta-m", "1")
        .body(vec![5; 200_000])
        .send(&world)
        .await;
    let blobs = world.shelf.blobs.lock().unwrap().len();
    let copy = |target: &str| call("PUT", target).header("x-amz-copy-source", "/box/a");
    let copied = copy("/box/b").send(&world).await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(world.shelf.blobs.lock().unwrap().len(), blobs);
    let replaced = copy("/box/c")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-m", "2")
        .send(&world)
        .await;
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    let itself = copy("/box/a").send(&world).await;
    assert_eq!(itself.error(), (400, "InvalidRequest".into()));
    let replaced_again = copy("/box/a")
        .header("x-amz-metadata-directive", "REPLACE")
        .send(&world)
        .await;
    assert_eq!(replaced_again.status, 200, "{}", replaced_again.text());
    let failed = copy("/box/d")
        .header("x-amz-copy-source-if-match", "\"no\"")
        .send(&world)
        .await;
    assert_eq!(failed.error(), (412, "PreconditionFailed".into()));
    assert_eq!(call("DELETE", "/box/a").send(&world).await.status, 204);
    for (key, m) in [("b", "1"), ("c", "2")] {
        let read = get(&world, key).await;
        assert_eq!((read.status, read.body.len()), (200, 200_000));
        assert_eq!(read.header("x-amz-meta-m"), Some(m));
    }
    let gone = copy("/box/e").send(&world).await;
    assert_eq!(gone.error(), (404, "NoSuchKey".into()));
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let world = with_bucket().await;
    put(&world, "k", "x").await;
    for (method, target) in [
        ("GET", "/box?policy"),
        ("GET", "/box?lifecycle"),
        ("GET", "/box?tagging"),
        ("PUT", "/box?versioning"),
        ("GET", "/box/k?tagging"),
        ("GET", "/box?versions"),
    ] {
        let body = if method == "PUT" {
            "<VersioningConfiguration/>"
        } else {
            ""
        };
        let answer = call(method, target).body(body).send(&world).await;
        assert_eq!(answer.error(), (501, "NotImplemented".into()), "{target}");
    }
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-website-redirect-location", "/x"),
    ] {
        let put = call("PUT", "/box/new")
            .header(name, value)
            .body("x")
            .send(&world)
            .await;
        assert_eq!(put.error(), (501, "NotImplemented".into()), "{name}");
    }
    let class = call("PUT", "/box/new")
        .header("x-amz-storage-class", "GLACIER")
        .body("x");
    assert_eq!(
        class.send(&world).await.error(),
        (400, "InvalidStorageClass".into())
    );
    assert_eq!(get(&world, "new").await.error(), (404, "NoSuchKey".into()));
    let private = call("PUT", "/box/new")
        .header("x-amz-acl", "private")
        .body("x");
    assert_eq!(private.send(&world).await.status, 200);
}

#[tokio::test]
async fn errors_carry_resource_and_request() {
    let world = with_bucket().await;
    let missing = get(&world, "no%3Cpe").await;
    assert_eq!(missing.error(), (404, "NoSuchKey".into()));
    let id = missing.header("x-amz-request-id").map(str::to_owned);
    assert_eq!(missing.element("RequestId"), id);
    assert_eq!(missing.element("Resource").as_deref(), Some("/box/no%3Cpe"));
    let head = call("HEAD", "/box/nope").send(&world).await;
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[tokio::test]
async fn exchanged_records_never_give_wrong_bytes() {
    use megalith_model::table::Rows as _;
    let world = with_bucket().await;
    put(&world, "a", "bytes of a").await;
    put(&world, "b", "bytes of b").await;
    let bucket = world.bucket("box").unwrap().id;
    // Someone who can write the metadata exchanges the rows of the two versions.
    let row = |key: &'static str| {
        let key = key.as_bytes().into();
        megalith_model::keys::RowKey::Name { bucket, key }.encode()
    };
    let (key_a, key_b) = (row("a"), row("b"));
    {
        let mut rows = world.meta.rows.lock().unwrap();
        let (row_a, row_b) = (rows.get(&key_a).unwrap(), rows.get(&key_b).unwrap());
        let mut overlay = megalith_model::table::Overlay::new(&*rows);
        overlay.put(key_a, row_b.unwrap());
        overlay.put(key_b, row_a.unwrap());
        let batch = overlay.into_batch();
        rows.write(batch);
    }
    for key in ["a", "b"] {
        assert_eq!(
            get(&world, key).await.error(),
            (500, "InternalError".into())
        );
    }
}
