//! The examples that AWS publishes in S3's documentation of signature version 4.

use super::sign::{Signer, Unsigned};
use super::*;

const SIGNER: Signer<'static> = Signer {
    access_key: "AKIAIOSFODNN7EXAMPLE",
    secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    region: "us-east-1",
    service: "s3",
};
const TIME: &str = "20130524T000000Z";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn time() -> AmzTime {
    AmzTime::parse(TIME).expect("a time")
}

/// Signs by header; `headers` are added to host, date and hash.
fn sign(method: &str, target: &str, payload: &str, headers: &[(&str, &str)]) -> sign::Signed {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut all: Vec<(&str, &[u8])> = vec![
        ("x-amz-content-sha256", payload.as_bytes()),
        ("x-amz-date", TIME.as_bytes()),
    ];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes())),
    );
    if !headers.iter().any(|(name, _)| *name == "host") {
        all.push(("host", b"examplebucket.s3.amazonaws.com"));
    }
    let query = uri::parse_query(query).expect("UTF-8");
    let request = Unsigned {
        method,
        path,
        query: &query,
        headers: &all,
    };
    let signed = SIGNER.sign(time(), request, payload);
    // What is signed here is verified in the way of the gateway.
    let claim = Claim::parse_header(&signed.authorization).expect("a claim");
    let canonical = Canonical {
        method,
        path: CanonicalPath::Decoded(path),
        query: &query,
        headers: &all,
        signed_headers: &claim.signed_headers,
        payload,
    };
    let text = canonical.text().expect("all headers are there");
    let key = SigningKey::derive(SIGNER.secret, &claim.scope);
    let computed = key.sign(&string_to_sign(time(), &claim.scope, &text));
    assert!(computed.matches(&claim.signature));
    signed
}

fn check(
    method: &str,
    target: &str,
    payload: &str,
    headers: &[(&str, &str)],
    signed: &str,
    expected: &str,
) {
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed},Signature={expected}"
    );
    assert_eq!(
        sign(method, target, payload, headers).authorization,
        expected
    );
}

#[test]
fn get_object() {
    check(
        "GET",
        "/test.txt",
        EMPTY,
        &[("range", "bytes=0-9")],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
}

#[test]
fn put_object() {
    let payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    assert_eq!(hex::encode(hash(b"Welcome to Amazon S3.")), payload);
    check(
        "PUT",
        "/test$file.text",
        payload,
        &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
}

#[test]
fn queries() {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    check(
        "GET",
        "/?lifecycle",
        EMPTY,
        &[],
        signed,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    check(
        "GET",
        "/?max-keys=2&prefix=J",
        EMPTY,
        &[],
        signed,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
}

#[test]
fn presigned_url() {
    let request = Unsigned {
        method: "GET",
        path: "/test.txt",
        query: &[],
        headers: &[("host", b"examplebucket.s3.amazonaws.com")],
    };
    let query = SIGNER.presign(time(), request, 86_400);
    let expected = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\
                    20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&\
                    X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
                    aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    assert_eq!(query, expected);
    let pairs = uri::parse_query(&query).expect("UTF-8");
    let presigned = Presigned::parse_query(&pairs).expect("a claim");
    assert_eq!(
        (presigned.expires_seconds, presigned.time),
        (86_400, time())
    );
}

/// 65 KiB of `a` in a chunk of 64 KiB and one of 1 KiB.
fn chunk_signatures(signed: &mut sign::Signed) -> [String; 3] {
    [65_536, 1_024, 0].map(|len| {
        let mut hasher = PayloadHasher::default();
        // In pieces, as bytes come from a network.
        for piece in vec![b'a'; len].chunks(1_000) {
            hasher.update(piece);
        }
        signed.chunks.sign_chunk(hasher.finish()).to_hex()
    })
}

fn signature_of(signed: &sign::Signed) -> &str {
    signed
        .authorization
        .rsplit_once('=')
        .map_or("", |(_, signature)| signature)
}

const CHUNKED: [(&str, &str); 4] = [
    ("host", "s3.amazonaws.com"),
    ("content-encoding", "aws-chunked"),
    ("x-amz-decoded-content-length", "66560"),
    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
];

#[test]
fn signed_chunks() {
    let mut headers = CHUNKED.to_vec();
    headers.push(("content-length", "66824"));
    let target = "/examplebucket/chunkObject.txt";
    let mut signed = sign("PUT", target, STREAMING_SIGNED, &headers);
    assert_eq!(
        signature_of(&signed),
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    );
    assert_eq!(
        chunk_signatures(&mut signed),
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
    );
}

#[test]
fn signed_chunks_with_trailers() {
    let mut headers = CHUNKED.to_vec();
    headers.push(("x-amz-trailer", "x-amz-checksum-crc32c"));
    let target = "/examplebucket/chunkObject.txt";
    let mut signed = sign("PUT", target, STREAMING_SIGNED_TRAILER, &headers);
    assert_eq!(
        signature_of(&signed),
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    );
    assert_eq!(
        chunk_signatures(&mut signed),
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ]
    );
    let trailers = b"x-amz-checksum-crc32c:sOO8/Q==\n";
    let signature = signed.chunks.sign_trailers(trailers);
    assert_eq!(
        signature.to_hex(),
        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    );
}
