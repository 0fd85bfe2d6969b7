//! Checksums that we can't compute, or that nobody announced, are refused and never passed over.

use super::client::{Answer, answer, call};
use super::with_bucket;
use super::world::World;
use crate::ops::checksum::{Algorithm, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

async fn is_absent(world: &World) {
    let read = call("GET", "/box/k").send(world).await;
    assert_eq!(read.error(), (404, "NoSuchKey".into()), "it was written");
}

/// Sends unsigned chunks. `announced` is the header, `trailers` is what comes.
async fn chunked(world: &World, announced: Option<&str>, trailers: &str) -> Answer {
    let body = format!("4\r\ndata\r\n0\r\n{trailers}\r\n");
    let mut put = call("PUT", "/box/k")
        .payload(UNSIGNED_TRAILER)
        .header("x-amz-decoded-content-length", "4")
        .body(body);
    if let Some(announced) = announced {
        put = put.header("x-amz-trailer", announced);
    }
    answer(world, put.sign(&world.ann).request(|builder| builder)).await
}

#[tokio::test]
async fn foreign_checksums_are_refused() {
    let world = with_bucket().await;
    for (name, value) in [
        ("x-amz-checksum-md5", "jXd/OF09/siBXSD3SWAm3A=="),
        ("x-amz-checksum-sha512", "AAAA"),
        ("x-amz-checksum-xxhash64", "AAAAAAAAAAA="),
        ("x-amz-checksum-xxhash3", "AAAAAAAAAAA="),
        ("x-amz-checksum-xxhash128", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("x-amz-checksum-of-tomorrow", ""),
    ] {
        let put = call("PUT", "/box/k").header(name, value).body("data");
        let put = put.send(&world).await;
        assert_eq!(put.error(), (400, "InvalidRequest".into()), "{name}");
        assert!(put.text().contains(name), "{}", put.text());
        let trailer = chunked(&world, Some(name), &format!("{name}:{value}\r\n")).await;
        assert_eq!(trailer.error(), (400, "InvalidRequest".into()), "{name}");
        // Nobody announced it, so nobody would look at it.
        let unannounced = chunked(&world, None, &format!("{name}:{value}\r\n")).await;
        assert_eq!(unannounced.error(), (400, "MalformedTrailerError".into()));
        let document = "<CreateBucketConfiguration/>";
        let create = call("PUT", "/other").header(name, value).body(document);
        let create = create.send(&world).await;
        assert_eq!(create.error(), (400, "InvalidRequest".into()), "{name}");
    }
    for wish in ["MD5", "XXHASH64", "of-tomorrow"] {
        for (method, target, name) in [
            ("PUT", "/box/k", "x-amz-sdk-checksum-algorithm"),
            ("POST", "/box/k?uploads", "x-amz-checksum-algorithm"),
        ] {
            let call = call(method, target).header(name, wish).send(&world).await;
            assert_eq!(call.error(), (400, "InvalidRequest".into()), "{name}");
        }
    }
    is_absent(&world).await;
}

#[tokio::test]
async fn a_wish_and_a_value_of_two_algorithms_are_refused() {
    let world = with_bucket().await;
    let sum = STANDARD.encode(digest(Algorithm::Crc32c, b"data"));
    let put = |wish: &str| {
        call("PUT", "/box/k")
            .header("x-amz-sdk-checksum-algorithm", wish)
            .header("x-amz-checksum-crc32c", &sum)
            .body("data")
    };
    let other = put("CRC32").send(&world).await;
    assert_eq!(other.error(), (400, "InvalidRequest".into()));
    is_absent(&world).await;
    assert_eq!(put("crc32c").send(&world).await.status, 200);
}

#[tokio::test]
async fn exactly_the_announced_checksums_follow_a_body() {
    let world = with_bucket().await;
    let (crc, sha) = (Algorithm::Crc32, Algorithm::Sha256);
    let line = |algorithm: Algorithm, data: &[u8]| {
        let value = STANDARD.encode(digest(algorithm, data));
        format!("{}:{value}\r\n", algorithm.header())
    };
    let both = format!("{}{}", line(crc, b"data"), line(sha, b"data"));
    let twice = format!("{}{}", line(crc, b"data"), line(crc, b"other"));
    for (announced, trailers) in [
        (None, line(crc, b"other")),
        (Some("x-amz-meta-note"), line(crc, b"data")),
        (Some(crc.header()), both),
        (Some(crc.header()), twice),
        (Some(crc.header()), String::new()),
    ] {
        let put = chunked(&world, announced, &trailers).await;
        let refused = (400, "MalformedTrailerError".into());
        assert_eq!(put.error(), refused, "{announced:?} {trailers}");
        is_absent(&world).await;
    }
    let put = chunked(&world, Some(crc.header()), &line(crc, b"data")).await;
    assert_eq!(put.status, 200, "{}", put.text());
    // Nothing need follow unsigned chunks.
    let put = chunked(&world, None, "").await;
    assert_eq!(put.status, 200, "{}", put.text());
}

#[tokio::test]
async fn a_batch_delete_needs_a_digest_that_is_compared() {
    let world = with_bucket().await;
    let put = call("PUT", "/box/k").body("data").send(&world).await;
    assert_eq!(put.status, 200);
    let document = "<Delete><Object><Key>k</Key></Object></Delete>";
    for announced in ["x-amz-meta-note", "x-amz-checksum-crc32"] {
        let body = format!("{:x}\r\n{document}\r\n0\r\n\r\n", document.len());
        let delete = call("POST", "/box?delete")
            .payload(UNSIGNED_TRAILER)
            .header("x-amz-trailer", announced)
            .header("x-amz-decoded-content-length", &document.len().to_string())
            .body(body);
        let delete = delete.send(&world).await;
        assert_eq!(delete.status, 400, "{announced}: {}", delete.text());
    }
    let read = call("GET", "/box/k").send(&world).await;
    assert_eq!(read.status, 200);
}

#[tokio::test]
async fn a_part_with_a_foreign_checksum_completes_nothing() {
    let world = with_bucket().await;
    let begun = call("POST", "/box/k?uploads").send(&world).await;
    let upload = begun.element("UploadId").expect("an upload");
    let part = call("PUT", &format!("/box/k?partNumber=1&uploadId={upload}"));
    let part = part.body("data").send(&world).await;
    let complete = async |checksum: &str| {
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag>{checksum}\
             </Part></CompleteMultipartUpload>",
            part.etag()
        );
        let complete = call("POST", &format!("/box/k?uploadId={upload}"));
        complete.body(document).send(&world).await
    };
    let foreign = complete("<ChecksumXXHASH64>AAAAAAAAAAA=</ChecksumXXHASH64>").await;
    assert_eq!(foreign.error(), (400, "InvalidRequest".into()));
    is_absent(&world).await;
    let plain = complete("").await;
    assert_eq!(plain.status, 200, "{}", plain.text());
}
