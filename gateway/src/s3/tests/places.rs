//! Buckets, access lists, copies and completions, as AWS answers them.

use super::client::{Answer, call};
use super::objects::{get, put};
use super::with_bucket;
use super::world::World;
use crate::ops::checksum::{Algorithm, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[tokio::test]
async fn a_bucket_is_made_again_without_harm() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    let again = call("PUT", "/box").send(&world).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.header("location"), Some("/box"));
    assert_eq!(again.header("x-amz-bucket-arn"), Some("arn:aws:s3:::box"));
    assert_eq!(get(&world, "k").await.text(), "data");
    let bob = call("PUT", "/box").send_as(&world, &world.bob).await;
    assert_eq!(bob.error(), (409, "BucketAlreadyExists".into()));
}

#[tokio::test]
async fn access_lists_that_let_others_in_are_no_failure_to_retry() {
    let world = with_bucket().await;
    let put = |name: &str, value: &str| {
        let put = call("PUT", "/box/k").header(name, value);
        put.body("data")
    };
    for (name, value, code) in [
        ("x-amz-acl", "public-read", "AccessControlListNotSupported"),
        ("x-amz-acl", "everybody", "InvalidArgument"),
        ("x-amz-grant-read", "id=1", "AccessControlListNotSupported"),
    ] {
        let refused = put(name, value).send(&world).await;
        assert_eq!(refused.error(), (400, code.to_owned()), "{name}");
    }
    let none = get(&world, "k").await;
    assert_eq!(none.error(), (404, "NoSuchKey".into()));
    for (value, code) in [
        ("public-read-write", "InvalidBucketAclWithObjectOwnership"),
        ("everybody", "InvalidArgument"),
    ] {
        let create = call("PUT", "/other").header("x-amz-acl", value);
        let refused = create.send(&world).await;
        assert_eq!(refused.error(), (400, code.to_owned()), "{value}");
    }
    let none = call("HEAD", "/other").send(&world).await;
    assert_eq!(none.status, 404);
}

async fn begin(world: &World, key: &str) -> String {
    let begun = call("POST", &format!("/box/{key}?uploads"))
        .send(world)
        .await;
    begun.element("UploadId").expect("an upload")
}

#[tokio::test]
async fn a_bucket_with_uploads_and_no_objects_can_be_deleted() {
    let world = with_bucket().await;
    let mut upload = String::new();
    for key in ["a", "b", "a%01c"] {
        upload = begin(&world, key).await;
        let part = format!("/box/{key}?partNumber=1&uploadId={upload}");
        let part = call("PUT", &part).body("data").send(&world).await;
        assert_eq!(part.status, 200, "{}", part.text());
    }
    put(&world, "k", "data").await;
    let full = call("DELETE", "/box").send(&world).await;
    assert_eq!(full.error(), (409, "BucketNotEmpty".into()));
    // A bucket that stays keeps its uploads.
    let parts = format!("/box/a%01c?uploadId={upload}");
    assert_eq!(call("GET", &parts).send(&world).await.status, 200);
    let listed = call("GET", "/box?uploads").send(&world).await;
    assert_eq!(listed.elements("UploadId").len(), 3);
    assert_eq!(call("DELETE", "/box/k").send(&world).await.status, 204);
    let denied = call("DELETE", "/box").send_as(&world, &world.bob).await;
    assert_eq!(denied.status, 403);
    assert_eq!(call("GET", &parts).send(&world).await.status, 200);
    let gone = call("DELETE", "/box").send(&world).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    assert_eq!(call("HEAD", "/box").send(&world).await.status, 404);
}

/// Uploads an object of one part; returns the answer to its completion.
async fn in_parts(world: &World, host: &str, target: &str, body: &str) -> Answer {
    let on_host = |method: &str, target: String| {
        let mut call = call(method, &target);
        call.host = host.to_owned();
        call
    };
    let begun = on_host("POST", format!("{target}?uploads"))
        .send(world)
        .await;
    let upload = begun.element("UploadId").expect("an upload");
    let part = format!("{target}?partNumber=1&uploadId={upload}");
    let part = on_host("PUT", part).body(body.to_owned()).send(world).await;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.etag()
    );
    let completed = on_host("POST", format!("{target}?uploadId={upload}"));
    let completed = completed.body(document).send(world).await;
    assert_eq!(completed.status, 200, "{}", completed.text());
    completed
}

#[tokio::test]
async fn a_completion_tells_the_objects_url() {
    let world = with_bucket().await;
    for (host, target) in [
        ("127.0.0.1:9000", "/box/a/b%20c"),
        ("box.s3.test:9000", "/a/b%20c"),
    ] {
        let completed = in_parts(&world, host, target, "data").await;
        let url = format!("http://{host}{target}");
        assert_eq!(completed.element("Location"), Some(url));
    }
}

#[tokio::test]
async fn a_copy_has_the_checksum_that_it_was_to_have() {
    let world = with_bucket().await;
    let body = "0123456789".repeat(20_000);
    put(&world, "plain", &body).await;
    in_parts(&world, "127.0.0.1:9000", "/box/parts", &body).await;
    let sum = |algorithm| STANDARD.encode(digest(algorithm, body.as_bytes()));
    for source in ["plain", "parts", "copy"] {
        for algorithm in Algorithm::ALL {
            let copy = call("PUT", "/box/copy")
                .header("x-amz-copy-source", &format!("/box/{source}"))
                .header("x-amz-checksum-algorithm", algorithm.name());
            let copy = copy.send(&world).await;
            assert_eq!(copy.status, 200, "{source}: {}", copy.text());
            let element = format!("Checksum{}", algorithm.name());
            assert_eq!(copy.element(&element), Some(sum(algorithm)), "{source}");
            let read = call("GET", "/box/copy").header("x-amz-checksum-mode", "ENABLED");
            let read = read.send(&world).await;
            let shown = read.header(algorithm.header());
            assert_eq!(shown, Some(sum(algorithm).as_str()), "{source}");
            assert_eq!(read.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
            assert_eq!(read.text(), body);
        }
    }
    let unknown = call("PUT", "/box/copy")
        .header("x-amz-copy-source", "/box/plain")
        .header("x-amz-checksum-algorithm", "MD5");
    let unknown = unknown.send(&world).await;
    assert_eq!(unknown.error(), (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    let copy = || call("PUT", "/box/k").header("x-amz-copy-source", "/box/k");
    let nothing = copy().send(&world).await;
    assert_eq!(nothing.error(), (400, "InvalidRequest".into()));
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-checksum-algorithm", "SHA256"),
    ] {
        let changed = copy().header(name, value).send(&world).await;
        assert_eq!(changed.status, 200, "{name}: {}", changed.text());
        assert_eq!(get(&world, "k").await.text(), "data");
    }
}
