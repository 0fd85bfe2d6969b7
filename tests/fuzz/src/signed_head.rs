//! A head that was signed rightly, and then changed.
//!
//! Input: a byte of choices, a key and a value (each with its length before it, 1 byte), then
//! changes of the head's text: a place (2 bytes), what to do there and a byte. Whatever passes
//! after that says what was signed: method, path, query, signed headers, and the word for the body.

use crate::edit::Script;
use crate::http_text::parts;
use http::request::Parts;
use megalith_gateway::s3::fuzz::verified;
use megalith_sigv4::sign::{Signer, Unsigned};
use megalith_sigv4::uri::{decode, encode, parse_query};
use megalith_sigv4::{AmzTime, UNSIGNED_PAYLOAD};

const ACCESS: (&str, &str) = ("AKID", "secret");
const REGION: &str = "us-east-1";
/// 2026-01-01, in seconds since 1970.
const NOW: i64 = 1_767_225_600;
const CHANGES_MAX: usize = 8;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let Some(choices) = script.byte() else { return };
    let key = text(&mut script);
    let value = text(&mut script);
    let good = signed(choices, &key, &value);
    let head = parts(&good).expect("a head");
    assert_eq!(judge(&head), Ok(()), "{}", good.escape_ascii());
    let changed = changed(good, script);
    let Some(other) = parts(&changed) else { return };
    if judge(&other).is_ok() {
        let (said, signed) = (covered(&other), covered(&head));
        assert_eq!(said, signed, "{} passes", changed.escape_ascii());
    }
}

fn judge(head: &Parts) -> Result<(), &'static str> {
    verified(head, REGION, ACCESS, NOW)
}

fn text(script: &mut Script<'_>) -> String {
    let len = script.byte().map_or(0, usize::from).min(script.0.len());
    String::from_utf8_lossy(script.take(len).unwrap_or_default()).into_owned()
}

/// The text of a head that is signed as a client does it.
fn signed(choices: u8, key: &str, value: &str) -> Vec<u8> {
    let by_url = choices & 1 == 1;
    let method = ["GET", "PUT", "POST", "DELETE"][usize::from(choices >> 1 & 3)];
    let key = key.chars().take(100).collect::<String>();
    let path = format!("/box/{key}");
    let printable = |c: &char| matches!(c, ' '..='~');
    let meta: String = value.chars().filter(printable).collect();
    let time = AmzTime::at(NOW);
    let stamp = time.to_string();
    let hash = "ab".repeat(32);
    let word = [UNSIGNED_PAYLOAD, &hash][usize::from(choices >> 3 & 1)];
    let mut headers = vec![("host", "here"), ("x-amz-meta-a", meta.trim())];
    if !by_url {
        headers.extend([("x-amz-content-sha256", word), ("x-amz-date", &stamp)]);
    }
    let pair = |(name, text): &(&'static str, &str)| (*name, text.as_bytes().to_vec());
    let owned: Vec<_> = headers.iter().map(pair).collect();
    let bytes: Vec<_> = owned
        .iter()
        .map(|(name, text)| (*name, text.as_slice()))
        .collect();
    let mut query = vec![("x".to_owned(), value.to_owned())];
    if choices & 16 != 0 {
        query.insert(0, ("acl".to_owned(), String::new()));
    }
    let request = Unsigned {
        method,
        path: &path,
        query: &query,
        headers: &bytes,
    };
    let signer = Signer {
        access_key: ACCESS.0,
        secret: ACCESS.1,
        region: REGION,
        service: "s3",
    };
    let (query, authorization) = if by_url {
        (signer.presign(time, request, 60), None)
    } else {
        let signed = signer.sign(time, request, word);
        let query = megalith_sigv4::sign::encode_query(&query);
        (query, Some(signed.authorization))
    };
    let mut out = format!("{method} ").into_bytes();
    encode(&path, true, &mut out);
    out.extend_from_slice(format!("?{query}\n").as_bytes());
    for (name, text) in &headers {
        out.extend_from_slice(format!("{name}: {text}\n").as_bytes());
    }
    if let Some(text) = authorization {
        out.extend_from_slice(format!("authorization: {text}\n").as_bytes());
    }
    out
}

fn changed(mut text: Vec<u8>, mut script: Script<'_>) -> Vec<u8> {
    for _ in 0..CHANGES_MAX {
        let (Some(at), Some(what), Some(byte)) = (script.short(), script.byte(), script.byte())
        else {
            break;
        };
        let at = at % text.len().max(1);
        match what % 5 {
            0 => text[at] ^= byte,
            1 => text[at] = byte,
            2 => text.insert(at, byte),
            3 => drop(text.remove(at)),
            _ => {
                // A line goes to the end.
                let end = text[at..].iter().position(|&byte| byte == b'\n');
                let end = end.map_or(text.len(), |end| at + end + 1);
                let begun = text[..at].iter().rposition(|&byte| byte == b'\n');
                let line: Vec<_> = text.drain(begun.map_or(0, |at| at + 1)..end).collect();
                text.extend(line);
            }
        }
        if text.is_empty() {
            break;
        }
    }
    text
}

/// What a signature covers of a head, and the signature itself. Written apart from `lib/sigv4`, so
/// that a mistake there shows.
fn covered(head: &Parts) -> Vec<String> {
    let query = parse_query(head.uri.query().unwrap_or_default()).expect("it was read");
    let mut pairs: Vec<_> = query
        .into_iter()
        .map(|(name, value)| format!("{name:?}={value:?}"))
        .collect();
    pairs.sort();
    let value = |name: &str| {
        let values = head.headers.get_all(name).iter();
        let values = values.map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split([' ', '\t'])
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        });
        values.collect::<Vec<_>>().join(",")
    };
    let by_url = !head.headers.contains_key("authorization");
    let mut covered = vec![
        head.method.to_string(),
        decode(head.uri.path()).expect("it was read"),
        value("host"),
        value("x-amz-meta-a"),
    ];
    covered.extend(pairs);
    if !by_url {
        covered.push(value("x-amz-content-sha256"));
        covered.push(value("x-amz-date"));
        let text = value("authorization");
        // Blanks and commas between fields are the client's to choose, as is the case of names.
        let (names, others): (Vec<_>, Vec<_>) = text
            .split([' ', ','])
            .filter(|field| !field.is_empty())
            .partition(|field| field.starts_with("SignedHeaders="));
        let names = names.concat().to_ascii_lowercase();
        let mut names: Vec<_> = names.split(['=', ';']).collect();
        names.sort_unstable();
        let mut others = others.clone();
        others.sort_unstable();
        covered.extend(names.into_iter().map(str::to_owned));
        covered.extend(others.into_iter().map(str::to_owned));
    }
    covered
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let input = |choices: u8, key: &str, value: &str, changes: &[(u16, u8, u8)]| {
        let mut input = vec![choices];
        for text in [key, value] {
            input.push(u8::try_from(text.len()).unwrap_or(0));
            input.extend_from_slice(text.as_bytes());
        }
        for (at, what, byte) in changes {
            input.extend_from_slice(&at.to_le_bytes());
            input.extend_from_slice(&[*what, *byte]);
        }
        input
    };
    crate::named(vec![
        ("header", input(0, "key", "v", &[])),
        ("url", input(1, "key", "v", &[])),
        ("put-with-hash", input(0x1a, "a/b c+d", "a b", &[])),
        (
            "reserved-characters",
            input(0, "a*b'(c)!;:@&=+$,", "a=b&c", &[]),
        ),
        ("dots-and-slashes", input(0, "..//./%2e", "%41", &[])),
        ("not-ascii", input(1, "\u{fc}", "\u{20ac}", &[])),
        ("other-method", input(0, "key", "v", &[(0, 1, b'P')])),
        ("other-key", input(0, "key", "v", &[(9, 0, 1)])),
        ("other-key-of-url", input(1, "key", "v", &[(9, 0, 1)])),
        ("longer-path", input(0, "key", "v", &[(9, 2, b'/')])),
        (
            "encoded-twice",
            input(0, "a%41", "v", &[(10, 3, 0), (10, 3, 0)]),
        ),
        ("line-to-the-end", input(0, "key", "v", &[(30, 4, 0)])),
        ("blank-in-value", input(0, "key", "a b", &[(45, 2, b' ')])),
    ])
}
