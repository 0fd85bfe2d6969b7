//! The head of a request to a node's data port.
//!
//! Input: a line `METHOD target`, then one header per line. What is read is within its limits,
//! gives the same when it is written and read again, and doesn't depend on the order of the
//! headers.

use crate::http_text::parts;
use http::HeaderMap;
use megalith_client::framing::{self, READ_CELLS_MAX};
use megalith_client::wire::{DIGEST_HEADER, digest_text, parse_digest};
use megalith_model::shape::{SEGMENT_CELLS_MAX, SEGMENT_LEN_MAX};
use megalith_server::edge::fuzz::{DataHead, read_head};

pub fn target(data: &[u8]) {
    let Some(mut head) = parts(data) else { return };
    let read = read_head(&head);
    head.headers = turned(&head.headers);
    assert_eq!(read_head(&head), read, "the order of the headers");
    let Some(read) = read else { return };
    match &read {
        DataHead::Put { length, .. } => {
            assert!((1..=SEGMENT_LEN_MAX).contains(length));
        }
        DataHead::Get { first, count, .. } => {
            assert!((1..=READ_CELLS_MAX).contains(count) && *first < SEGMENT_CELLS_MAX);
        }
    }
    let text = text(&read);
    let again = parts(text.as_bytes()).expect("our own text is HTTP");
    assert_eq!(read_head(&again), Some(read), "{text}");
}

/// Returns the same headers, the last one first.
fn turned(headers: &HeaderMap) -> HeaderMap {
    let all: Vec<_> = headers.iter().collect();
    let all = all.into_iter().rev();
    all.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn text(head: &DataHead) -> String {
    match head {
        DataHead::Put {
            path,
            epoch,
            length,
            digest,
        } => {
            let mut text = format!("PUT {path}?epoch={}&length={length}\n", epoch.0);
            if let Some(digest) = digest {
                let body = framing::body_len(*length, 0, framing::cells(*length));
                let digest = digest_text(digest);
                assert!(parse_digest(&digest).is_some());
                text += &format!("content-length: {body}\n{DIGEST_HEADER}: {digest}\n");
            }
            text
        }
        DataHead::Get { path, first, count } => format!("GET {path}?first={first}&count={count}\n"),
    }
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let path = "/v1/shards/07070707070707070707070707070707/1/2/0/3";
    let digest = "ab".repeat(32);
    let put = format!("PUT {path}?epoch=5&length=10\n");
    let large = format!("PUT {path}?length={SEGMENT_LEN_MAX}&epoch=4294967295\n");
    let input = |text: String| text.into_bytes();
    crate::named(vec![
        (
            "put-with-length",
            input(format!(
                "{put}content-length: 14\nx-megalith-digest: {digest}\n"
            )),
        ),
        (
            "put-of-another-length",
            input(format!(
                "{put}x-megalith-digest: {digest}\ncontent-length: 15\n"
            )),
        ),
        (
            "put-with-two-digests",
            input(format!(
                "{put}content-length: 14\nx-megalith-digest: {digest}\nx-megalith-digest: 00\n"
            )),
        ),
        ("put-in-chunks", input(put)),
        (
            "put-of-nothing",
            input(format!("PUT {path}?epoch=5&length=0\n")),
        ),
        (
            "put-of-too-much",
            input(format!("PUT {path}?epoch=5&length=67108865\n")),
        ),
        ("put-of-the-largest", input(large)),
        ("get", input(format!("GET {path}?first=1&count=2\n"))),
        (
            "get-of-the-most",
            input(format!("GET {path}?count=64&first=1023\n")),
        ),
        (
            "get-of-too-many",
            input(format!("GET {path}?first=0&count=65\n")),
        ),
        (
            "get-of-no-cells",
            input(format!("GET {path}?first=0&count=0\n")),
        ),
        (
            "get-behind-a-segment",
            input(format!("GET {path}?first=1024&count=1\n")),
        ),
        (
            "get-twice-first",
            input(format!("GET {path}?first=0&first=0\n")),
        ),
        (
            "another-spelling",
            input(format!("GET {path}?first=+0&count=01\n")),
        ),
        ("delete", input(format!("DELETE {path}?first=0&count=1\n"))),
    ])
}
