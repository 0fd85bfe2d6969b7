//! The head of an S3 request before its signature is checked.
//!
//! Input: a line `METHOD target`, then one header per line. The verdict doesn't depend on the order
//! of headers with different names. If a head passes and claims to be signed, it names our region
//! and service and has its `x-amz-*` headers signed.

use crate::http_text::parts;
use http::HeaderMap;
use http::request::Parts;
use megalith_gateway::s3::fuzz;

const REGION: &str = "us-east-1";

pub fn target(data: &[u8]) {
    let Some(mut head) = parts(data) else { return };
    let verdict = judge(&head);
    head.headers = turned(&head.headers);
    assert_eq!(judge(&head), verdict, "the order of the headers");
    if verdict.is_ok() {
        passed(&head);
    }
}

fn judge(head: &Parts) -> Result<(), &'static str> {
    fuzz::judge(head, REGION)
}

/// Returns the same headers with names in reverse order; values of one name keep their order.
fn turned(headers: &HeaderMap) -> HeaderMap {
    let names: Vec<_> = headers.keys().collect();
    let values = |name| headers.get_all(name).iter().map(move |value| (name, value));
    let all = names.into_iter().rev().flat_map(values);
    all.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn passed(head: &Parts) {
    let Some(authorization) = head.headers.get("authorization") else {
        return;
    };
    let text = std::str::from_utf8(authorization.as_bytes()).expect("it was read");
    assert!(text.starts_with("AWS4-HMAC-SHA256 "), "{text}");
    assert!(
        text.contains(&format!("/{REGION}/s3/aws4_request")),
        "{text}"
    );
    let text = text.to_ascii_lowercase();
    for name in head.headers.keys().map(|name| name.as_str()) {
        let must = name.starts_with("x-amz-") && name != "x-amz-content-sha256";
        assert!(!must || text.contains(name), "{name} is not signed");
    }
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let scope = "AKID/20260101/us-east-1/s3/aws4_request";
    let signature = "0".repeat(64);
    let signed = |scope: &str, headers: &str, more: &str| {
        format!(
            "GET /box/key\nhost: here\nauthorization: AWS4-HMAC-SHA256 Credential={scope}, \
             SignedHeaders={headers}, Signature={signature}\n{more}"
        )
        .into_bytes()
    };
    let presigned = format!(
        "GET /box/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20260101%2F\
         us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&\
         X-Amz-SignedHeaders=host&X-Amz-Signature={signature}\nhost: here\n"
    );
    let both = format!("{presigned}authorization: AWS4-HMAC-SHA256 x\n");
    let long = presigned.replace("Expires=60", "Expires=604801");
    let date = "x-amz-date: 20260101T000000Z\n";
    let hash = "x-amz-content-sha256: UNSIGNED-PAYLOAD\n";
    let streaming = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\n";
    crate::named(vec![
        ("signed", signed(scope, "host;x-amz-date", date)),
        (
            "signed-with-hash",
            signed(scope, "host;x-amz-date", &format!("{date}{hash}")),
        ),
        ("signed-chunks", signed(scope, "host", streaming)),
        ("header-not-signed", signed(scope, "host", date)),
        ("host-not-signed", signed(scope, "x-amz-date", date)),
        (
            "other-region",
            signed("AKID/20260101/mars/s3/aws4_request", "host", ""),
        ),
        (
            "other-service",
            signed("AKID/20260101/us-east-1/iam/aws4_request", "host", ""),
        ),
        (
            "key-with-slashes",
            signed(&format!("A/B/{scope}"), "host", ""),
        ),
        ("presigned", presigned.into_bytes()),
        ("presigned-and-header", both.into_bytes()),
        ("presigned-too-long", long.into_bytes()),
        (
            "version-2",
            b"GET /box\nauthorization: AWS AKID:sig\n".to_vec(),
        ),
        (
            "version-2-in-query",
            b"GET /box?AWSAccessKeyId=A&Signature=b\n".to_vec(),
        ),
        ("token", b"GET /box\nx-amz-security-token: x\n".to_vec()),
        (
            "form",
            b"POST /box\ncontent-type: multipart/form-data; boundary=x\n".to_vec(),
        ),
        ("unsigned", b"GET /box\nhost: here\n".to_vec()),
    ])
}
