//! Bodies: lengths, checksums, chunks, trailers, and clients that break off or fall silent.

use super::client::{answer, answer_streamed, call};
use super::with_bucket;
use super::world::World;
use crate::ops::checksum::{Algorithm, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Frame;

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

fn value(algorithm: Algorithm, data: &[u8]) -> String {
    STANDARD.encode(digest(algorithm, data))
}

async fn is_absent(world: &World, key: &str) {
    let read = call("GET", &format!("/box/{key}")).send(world).await;
    assert_eq!(read.error(), (404, "NoSuchKey".into()), "{key} was written");
}

#[tokio::test]
async fn checksums_are_verified_and_given_back() {
    let world = with_bucket().await;
    for algorithm in Algorithm::ALL {
        let (name, right) = (algorithm.header(), value(algorithm, b"data"));
        let put = call("PUT", "/box/k")
            .header(name, &right)
            .body("data")
            .send(&world)
            .await;
        assert_eq!(
            (put.status, put.header(name)),
            (200, Some(right.as_str())),
            "{}",
            put.text()
        );
        let read = call("GET", "/box/k").header("x-amz-checksum-mode", "ENABLED");
        let read = read.send(&world).await;
        assert_eq!(read.header(name), Some(right.as_str()));
        assert_eq!(read.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        assert_eq!(call("GET", "/box/k").send(&world).await.header(name), None);
        let part = call("GET", "/box/k").header("x-amz-checksum-mode", "ENABLED");
        let part = part.header("range", "bytes=0-1").send(&world).await;
        assert_eq!(part.header(name), None, "not that of these bytes");
        let listed = call("GET", "/box?list-type=2").send(&world).await;
        assert_eq!(
            listed.element("ChecksumAlgorithm").as_deref(),
            Some(algorithm.name())
        );
        let wrong = value(algorithm, b"other");
        let put = call("PUT", "/box/wrong")
            .header(name, &wrong)
            .body("data")
            .send(&world)
            .await;
        assert_eq!(put.error(), (400, "BadDigest".into()));
        let put = call("PUT", "/box/wrong")
            .header(name, "AA==")
            .body("data")
            .send(&world)
            .await;
        assert_eq!(put.error(), (400, "InvalidRequest".into()));
    }
    is_absent(&world, "wrong").await;
}

#[tokio::test]
async fn content_md5_is_verified() {
    let world = with_bucket().await;
    let md5 = |text: &str| {
        call("PUT", "/box/k")
            .header("content-md5", text)
            .body("hello")
    };
    let wrong = md5("1B2M2Y8AsgTpgAmY7PhCfg==").send(&world).await;
    assert_eq!(wrong.error(), (400, "BadDigest".into()));
    assert_eq!(
        md5("nonsense").send(&world).await.error(),
        (400, "InvalidDigest".into())
    );
    is_absent(&world, "k").await;
    assert_eq!(
        md5("XUFAKrxLKna5cZ2REBfFkg==").send(&world).await.status,
        200
    );
}

#[tokio::test]
async fn the_signed_hash_binds_the_body() {
    let world = with_bucket().await;
    let signed = call("PUT", "/box/k").body("hello").sign(&world.ann);
    let changed = signed.send_body(&world, b"jello".to_vec()).await;
    assert_eq!(changed.error(), (400, "XAmzContentSHA256Mismatch".into()));
    is_absent(&world, "k").await;
    let xml = "<Delete><Object><Key>a</Key></Object></Delete>";
    let signed = call("POST", "/box?delete")
        .header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
        .body(xml)
        .sign(&world.ann);
    let changed = signed
        .send_body(&world, xml.replace(">a<", ">b<").into_bytes())
        .await;
    assert_eq!(changed.error(), (400, "XAmzContentSHA256Mismatch".into()));
}

#[tokio::test]
async fn lengths_are_needed_and_kept() {
    let world = with_bucket().await;
    let endless = || {
        let pieces = stream::iter((0..3).map(|_| Ok(Frame::data(Bytes::from("12345")))));
        pieces.boxed()
    };
    let request = |length: Option<u64>| {
        let signed = call("PUT", "/box/k")
            .payload("UNSIGNED-PAYLOAD")
            .sign(&world.ann);
        let mut request = signed.request(|builder| builder);
        request.headers_mut().remove("content-length");
        if let Some(length) = length {
            request
                .headers_mut()
                .insert("content-length", length.into());
        }
        request.map(|_| endless())
    };
    let missing = answer_streamed(&world, request(None)).await;
    assert_eq!(missing.error(), (411, "MissingContentLength".into()));
    for wrong in [14, 16, 200_000] {
        let answer = answer_streamed(&world, request(Some(wrong))).await;
        assert_eq!(answer.error(), (400, "IncompleteBody".into()), "{wrong}");
    }
    let giant = answer_streamed(&world, request(Some(5 * 1024 * 1024 * 1024 + 1))).await;
    assert_eq!(giant.error(), (400, "EntityTooLarge".into()));
    is_absent(&world, "k").await;
    assert_eq!(answer_streamed(&world, request(Some(15))).await.status, 200);
}

#[tokio::test]
async fn bodies_that_break_off_or_fall_silent_write_nothing() {
    let world = with_bucket().await;
    let signed = || {
        let signed = call("PUT", "/box/k")
            .payload("UNSIGNED-PAYLOAD")
            .sign(&world.ann);
        signed.request(|builder| builder.header("x-ignored", "1"))
    };
    let with = |pieces: stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>| {
        let mut request = signed();
        request.headers_mut().insert("content-length", 10.into());
        request.map(|_| pieces)
    };
    let first = || stream::iter([Ok(Frame::data(Bytes::from("12345")))]);
    let broken = stream::iter([Err(std::io::ErrorKind::ConnectionReset.into())]);
    let answer = answer_streamed(&world, with(first().chain(broken).boxed())).await;
    assert_eq!(answer.error(), (400, "IncompleteBody".into()));
    let silent = first().chain(stream::pending()).boxed();
    let answer = answer_streamed(&world, with(silent)).await;
    assert_eq!(answer.error(), (400, "RequestTimeout".into()));
    is_absent(&world, "k").await;
}

fn chunked_call(payload: &str, len: usize) -> super::client::Call {
    call("PUT", "/box/k")
        .payload(payload)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", &len.to_string())
}

#[tokio::test]
async fn signed_chunks() {
    let world = with_bucket().await;
    let data: Vec<u8> = (0..150_000_u32).map(|i| (i % 253) as u8).collect();
    let chunks: Vec<&[u8]> = data.chunks(65_536).collect();
    let signed = chunked_call(SIGNED, data.len()).sign(&world.ann);
    let body = signed.chunked(&chunks, &[]);
    let put = signed.send_body(&world, body).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let read = call("GET", "/box/k").send(&world).await;
    assert_eq!(read.body, data);
    assert_eq!(read.header("content-encoding"), None);
    call("DELETE", "/box/k").send(&world).await;

    let signed = chunked_call(SIGNED, data.len()).sign(&world.ann);
    let mut changed = signed.chunked(&chunks, &[]);
    changed[100_000] ^= 1;
    let put = signed.send_body(&world, changed).await;
    assert_eq!(put.error(), (403, "SignatureDoesNotMatch".into()));
    let signed = chunked_call(SIGNED, data.len()).sign(&world.ann);
    let mut short = signed.chunked(&chunks, &[]);
    short.truncate(100_000);
    assert_eq!(
        signed.send_body(&world, short).await.error(),
        (400, "IncompleteBody".into())
    );
    is_absent(&world, "k").await;
}

#[tokio::test]
async fn trailing_checksums_are_verified() {
    let world = with_bucket().await;
    let right = value(Algorithm::Crc32, b"hello");
    let wrong = value(Algorithm::Crc32, b"jello");
    let header = Algorithm::Crc32.header();
    for (sum, status) in [(&right, 200), (&wrong, 400)] {
        let call = || chunked_call(SIGNED_TRAILER, 5).header("x-amz-trailer", header);
        let signed = call().sign(&world.ann);
        let body = signed.chunked(&[b"hello"], &[(header, sum)]);
        let put = signed.send_body(&world, body).await;
        assert_eq!(put.status, status, "signed: {}", put.text());

        let framed = format!("5\r\nhello\r\n0\r\n{header}:{sum}\r\n\r\n");
        let call = chunked_call(UNSIGNED_TRAILER, 5).header("x-amz-trailer", header);
        let put = call
            .sign(&world.ann)
            .send_body(&world, framed.into_bytes())
            .await;
        assert_eq!(put.status, status, "unsigned: {}", put.text());
        if status == 200 {
            assert_eq!(put.header(header), Some(right.as_str()));
            call_delete(&world).await;
        } else {
            assert_eq!(put.error().1, "BadDigest");
        }
    }
    is_absent(&world, "k").await;
    let missing = chunked_call(UNSIGNED_TRAILER, 5).header("x-amz-trailer", header);
    let body = b"5\r\nhello\r\n0\r\n\r\n".to_vec();
    let put = missing.sign(&world.ann).send_body(&world, body).await;
    assert_eq!(put.error(), (400, "MalformedTrailerError".into()));
    let malformed = chunked_call(UNSIGNED_TRAILER, 5).header("x-amz-trailer", header);
    let body = b"5\r\nhelloXX0\r\n\r\n".to_vec();
    let put = malformed.sign(&world.ann).send_body(&world, body).await;
    assert_eq!(put.status, 400, "{}", put.text());
    is_absent(&world, "k").await;
}

async fn call_delete(world: &World) {
    assert_eq!(call("DELETE", "/box/k").send(world).await.status, 204);
}

#[tokio::test]
async fn one_huge_unsigned_chunk_is_taken() {
    let world = with_bucket().await;
    let data = vec![7_u8; 1_000_000];
    let header = Algorithm::Crc64Nvme.header();
    let mut body = format!("{:x}\r\n", data.len()).into_bytes();
    body.extend_from_slice(&data);
    let sum = value(Algorithm::Crc64Nvme, &data);
    body.extend_from_slice(format!("\r\n0\r\n{header}:{sum}\r\n\r\n").as_bytes());
    let call_it = chunked_call(UNSIGNED_TRAILER, data.len()).header("x-amz-trailer", header);
    let put = call_it.sign(&world.ann).send_body(&world, body).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(
        call("GET", "/box/k").send(&world).await.body.len(),
        data.len()
    );
}

#[tokio::test]
async fn keys_and_metadata_have_their_limits() {
    let world = with_bucket().await;
    let long = "k".repeat(1025);
    let put = call("PUT", &format!("/box/{long}"))
        .body("x")
        .send(&world)
        .await;
    assert_eq!(put.error(), (400, "KeyTooLongError".into()));
    let put = call("PUT", &format!("/box/{}", &long[1..]))
        .body("x")
        .send(&world)
        .await;
    assert_eq!(put.status, 200);
    let put = call("PUT", "/box/a%00b").body("x").send(&world).await;
    assert_eq!(put.error(), (400, "InvalidArgument".into()));
    let fat = "v".repeat(2048);
    let put = call("PUT", "/box/m")
        .header("x-amz-meta-a", &fat)
        .body("x")
        .send(&world)
        .await;
    assert_eq!(put.error(), (400, "MetadataTooLarge".into()));
    let put = call("PUT", "/box/m")
        .header("x-amz-meta-a", "=?UTF-8?B?w7xiZXI=?=")
        .body("x");
    assert_eq!(put.send(&world).await.status, 200);
    let read = call("GET", "/box/m").send(&world).await;
    assert_eq!(read.header("x-amz-meta-a"), Some("=?UTF-8?B?w7xiZXI=?="));
}

#[tokio::test]
async fn two_checksums_are_refused() {
    let world = with_bucket().await;
    let both = call("PUT", "/box/k")
        .header("x-amz-checksum-crc32", &value(Algorithm::Crc32, b"x"))
        .header("x-amz-checksum-sha1", &value(Algorithm::Sha1, b"x"));
    assert_eq!(
        both.body("x").send(&world).await.error(),
        (400, "InvalidRequest".into())
    );
    is_absent(&world, "k").await;
}

#[tokio::test]
async fn an_unsigned_body_needs_no_hash() {
    let world = with_bucket().await;
    let put = call("PUT", "/box/k")
        .payload("UNSIGNED-PAYLOAD")
        .sign(&world.ann);
    let put = put.send_body(&world, b"free".to_vec()).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let read = call("GET", "/box/k")
        .sign(&world.ann)
        .request(|builder| builder);
    assert_eq!(answer(&world, read).await.text(), "free");
}

#[tokio::test]
async fn chunks_and_trailers_bind_each_other() {
    let world = with_bucket().await;
    let header = Algorithm::Crc32.header();
    let sum = value(Algorithm::Crc32, b"helloworld");
    let signed = || {
        let call = chunked_call(SIGNED_TRAILER, 10).header("x-amz-trailer", header);
        call.sign(&world.ann)
    };
    let framed = |signed: &super::client::Signed| {
        let body = signed.chunked(&[b"hello", b"world"], &[(header, &sum)]);
        String::from_utf8(body).expect("ASCII")
    };
    let mismatch = (403, "SignatureDoesNotMatch".to_owned());
    let chunk = |body: &str, index: usize| {
        let lines: Vec<&str> = body.split("\r\n").collect();
        format!("{}\r\n{}\r\n", lines[2 * index], lines[2 * index + 1])
    };
    // Each takes a correctly signed body and alters it.
    type Bend<'a> = &'a dyn Fn(String) -> String;
    let bends: [(&str, Bend<'_>); 5] = [
        ("data", &|body| body.replace("world", "wOrld")),
        ("order", &|body| {
            let (one, two) = (chunk(&body, 0), chunk(&body, 1));
            body.replace(&format!("{one}{two}"), &format!("{two}{one}"))
        }),
        ("a chunk again", &|body| {
            let one = chunk(&body, 0);
            body.replacen(&one, &format!("{one}{one}"), 1)
        }),
        ("a trailer's value", &|body| body.replace(&sum, "AAAAAA==")),
        ("one more trailer", &|body| {
            body.replace(header, &format!("a:b\r\n{header}"))
        }),
    ];
    for (what, bend) in bends {
        let signed = signed();
        let body = bend(framed(&signed));
        let put = signed.send_body(&world, body.into_bytes()).await;
        assert_eq!(put.error(), mismatch, "{what}");
    }
    let unsigned_trailer = signed();
    let body = framed(&unsigned_trailer);
    let at = body.find("x-amz-trailer-signature").expect("a signature");
    let put = unsigned_trailer
        .send_body(&world, body.as_bytes()[..at].to_vec())
        .await;
    assert_eq!(put.error(), (400, "MalformedTrailerError".into()));
    is_absent(&world, "k").await;
    let right = signed();
    let body = framed(&right).into_bytes();
    let put = right.send_body(&world, body).await;
    assert_eq!(put.status, 200, "{}", put.text());
}

#[tokio::test]
async fn a_large_signed_chunk_is_not_held() {
    let world = with_bucket().await;
    // More than any chunk that could be held.
    let data = vec![9_u8; 17 * 1024 * 1024];
    let signed = chunked_call(SIGNED, data.len()).sign(&world.ann);
    let body = signed.chunked(&[&data], &[]);
    let put = signed.send_body(&world, body).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let signed = chunked_call(SIGNED, data.len()).sign(&world.ann);
    let mut changed = signed.chunked(&[&data], &[]);
    let last = changed.len() - 1000;
    changed[last] ^= 1;
    let put = signed.send_body(&world, changed).await;
    assert_eq!(put.error(), (403, "SignatureDoesNotMatch".into()));
}

#[tokio::test]
async fn presigned_bodies_may_be_bound_and_not_chunked() {
    let world = with_bucket().await;
    let put = |hash: &str, body: &'static str| {
        let url = call("PUT", "/box/k").presign(&world.ann, 60);
        let request = http::Request::put(url)
            .header("host", "127.0.0.1:9000")
            .header("content-length", body.len())
            .header("x-amz-content-sha256", hash);
        let body = http_body_util::Full::new(Bytes::from(body));
        request.body(body).expect("a request")
    };
    let hash = super::client::sha256(b"bound");
    let other = answer(&world, put(&hash, "other")).await;
    assert_eq!(other.error(), (400, "XAmzContentSHA256Mismatch".into()));
    let chunked = answer(&world, put(UNSIGNED_TRAILER, "0\r\n\r\n")).await;
    assert_eq!(chunked.error(), (501, "NotImplemented".into()));
    is_absent(&world, "k").await;
    assert_eq!(answer(&world, put(&hash, "bound")).await.status, 200);
}

#[tokio::test]
async fn a_document_is_what_its_trailers_say() {
    let world = with_bucket().await;
    assert_eq!(
        call("PUT", "/box/a").body("x").send(&world).await.status,
        200
    );
    let xml = "<Delete><Object><Key>a</Key></Object></Delete>";
    let header = Algorithm::Sha256.header();
    for (sum, status) in [
        (value(Algorithm::Sha256, b"other"), 400),
        (value(Algorithm::Sha256, xml.as_bytes()), 200),
    ] {
        let framed = format!("{:x}\r\n{xml}\r\n0\r\n{header}:{sum}\r\n\r\n", xml.len());
        let post = call("POST", "/box?delete")
            .payload(UNSIGNED_TRAILER)
            .header("content-encoding", "aws-chunked")
            .header("x-amz-decoded-content-length", &xml.len().to_string())
            .header("x-amz-trailer", header);
        let signed = post.sign(&world.ann);
        let answer = signed.send_body(&world, framed.into_bytes()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    is_absent(&world, "a").await;
}
