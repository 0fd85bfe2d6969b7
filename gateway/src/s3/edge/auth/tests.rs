//! The gate: what it refuses before a body is read.

use super::*;
use http::Request;

const GOOD: &str = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, \
                    SignedHeaders=host;x-amz-date, \
                    Signature=0000000000000000000000000000000000000000000000000000000000000000";

fn code(request: http::request::Builder) -> Option<String> {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let query = megalith_sigv4::uri::parse_query(head.uri.query().unwrap_or_default()).unwrap();
    gate(&head, &query, "us-east-1")
        .err()
        .map(|error| error.code().name().to_owned())
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[test]
fn signed_requests_pass() {
    assert_eq!(code(get("/b/k").header("authorization", GOOD)), None);
    assert_eq!(
        code(
            get("/b/k")
                .header("authorization", GOOD)
                .header("x-amz-date", "x")
        ),
        None
    );
    assert_eq!(
        code(get("/b/k")),
        None,
        "nobody signed: refused when that is verified"
    );
    let compact = GOOD.replace(", ", ",");
    assert_eq!(code(get("/b/k").header("authorization", compact)), None);
}

#[test]
fn other_mechanisms_are_refused() {
    let check = |request, expected: &str| assert_eq!(code(request).as_deref(), Some(expected));
    check(
        get("/b").header("authorization", "AWS AK:sig"),
        "InvalidRequest",
    );
    check(
        get("/b?AWSAccessKeyId=a&Expires=1&Signature=b"),
        "InvalidRequest",
    );
    check(
        get("/b").header("authorization", "Bearer x"),
        "InvalidArgument",
    );
    check(
        get("/b").header("authorization", "nonsense"),
        "AuthorizationHeaderMalformed",
    );
    check(
        get("/b?X-Amz-Signature=1").header("authorization", GOOD),
        "InvalidArgument",
    );
    let twice = get("/b")
        .header("authorization", GOOD)
        .header("authorization", GOOD);
    check(twice, "InvalidArgument");
    let form = Request::post("/b").header("content-type", "Multipart/Form-Data; boundary=x");
    check(form, "NotImplemented");
}

#[test]
fn scope_must_be_ours() {
    let check = |from: &str, to: &str| {
        let code = code(get("/b").header("authorization", GOOD.replace(from, to)));
        assert_eq!(
            code.as_deref(),
            Some("AuthorizationHeaderMalformed"),
            "{to}"
        );
    };
    check("us-east-1", "eu-west-1");
    check("/s3/", "/sts/");
    check("aws4_request", "aws5_request");
    check("AK/20260101/", "");
}

#[test]
fn amz_headers_must_be_signed() {
    let with = |name: &str| code(get("/b").header("authorization", GOOD).header(name, "x"));
    assert_eq!(with("x-amz-acl").as_deref(), Some("AccessDenied"));
    assert_eq!(with("X-Amz-Meta-Colour").as_deref(), Some("AccessDenied"));
    let hashed = get("/b").header("authorization", GOOD);
    assert_eq!(
        code(hashed.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")),
        None
    );
    assert_eq!(with("content-type"), None);
    let hostless = GOOD.replace("host;", "");
    let code = code(get("/b").header("authorization", hostless));
    assert_eq!(code.as_deref(), Some("AccessDenied"));
}

#[test]
fn presigned_urls_live_a_week_at_most() {
    let url = |expires: &str, region: &str| {
        let uri = format!(
            "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260101%2F{region}\
             %2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            "0".repeat(64)
        );
        code(get(&uri))
    };
    assert_eq!(url("604800", "us-east-1"), None);
    for bad in ["604801", "0", "-1", "x", "99999999999999999999"] {
        let code = url(bad, "us-east-1");
        assert_eq!(
            code.as_deref(),
            Some("AuthorizationQueryParametersError"),
            "{bad}"
        );
    }
    let other = url("60", "eu-west-1");
    assert_eq!(other.as_deref(), Some("AuthorizationQueryParametersError"));
}

#[test]
fn a_payload_is_one_word() {
    let word = |hash: &str| {
        let request = get("/b").header("x-amz-content-sha256", hash);
        let head = request.body(()).unwrap().into_parts().0;
        let word = payload_word(&head.headers).unwrap().unwrap();
        assert_eq!(word.text(), hash);
        word.is_chunked()
    };
    assert!(!word("UNSIGNED-PAYLOAD"));
    assert!(!word(&"0".repeat(64)));
    assert!(word("STREAMING-UNSIGNED-PAYLOAD-TRAILER"));
    assert!(word("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
    assert!(word("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"));
    let hash = "0".repeat(64);
    let twice = get("/b")
        .header("x-amz-content-sha256", &hash)
        .header("x-amz-content-sha256", &hash);
    assert_eq!(code(twice).as_deref(), Some("InvalidArgument"));
}

#[test]
fn empty_and_malformed_headers_are_refused() {
    let with = |name: &str, value: &str| code(get("/b").header(name, value));
    for hash in ["", "abc", "UNSIGNED", "STREAMING-NONSENSE", &"0".repeat(63)] {
        assert_eq!(
            with("x-amz-content-sha256", hash).as_deref(),
            Some("InvalidArgument")
        );
    }
    assert_eq!(with("x-amz-content-sha256", &"0".repeat(64)), None);
    assert_eq!(
        with("x-amz-checksum-crc32", "").as_deref(),
        Some("InvalidRequest")
    );
    assert_eq!(with("content-md5", "").as_deref(), Some("InvalidDigest"));
    assert_eq!(
        with("x-amz-security-token", "x").as_deref(),
        Some("InvalidToken")
    );
}

#[test]
fn a_header_list_must_be_one() {
    let with =
        |from: &str, to: &str| code(get("/b").header("authorization", GOOD.replace(from, to)));
    let malformed = Some("AuthorizationHeaderMalformed".to_owned());
    assert_eq!(with("host;x-amz-date", "host;;x-amz-date"), malformed);
    assert_eq!(with("host;x-amz-date", "host;host"), malformed);
    assert_eq!(with("Signature=0", "Signature=g"), malformed);
    assert_eq!(with("Signature=0", "Signature="), malformed);
    assert_eq!(
        with(", Signature=", ", SignedHeaders=host, Signature="),
        malformed
    );
}

#[test]
fn parameters_of_a_url_stand_there_once() {
    let url = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260101%2Fus-east-1\
               %2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60\
               &X-Amz-SignedHeaders=host&X-Amz-Signature=";
    let url = format!("{url}{}", "0".repeat(64));
    assert_eq!(code(get(&url)), None);
    for more in [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=AK%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
        "X-Amz-Date=20260101T000000Z",
        "X-Amz-Expires=60",
        "X-Amz-SignedHeaders=host",
        &format!("X-Amz-Signature={}", "0".repeat(64)),
        "%58-Amz-Expires=60",
    ] {
        let code = code(get(&format!("{url}&{more}")));
        assert_eq!(
            code.as_deref(),
            Some("AuthorizationQueryParametersError"),
            "{more}"
        );
    }
}
