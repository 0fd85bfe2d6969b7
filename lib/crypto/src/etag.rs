//! How an ETag is kept inside sealed records: by its kind, so that one that is an MD5 takes 17
//! bytes instead of 33, and so that a reader can tell what it says of the content.
//!
//! A field of text is written with `#[serde(with = "etag")]`. Every text comes back as it was.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an ETag is made of. The order of the variants is stored.
#[derive(Serialize, Deserialize)]
enum Etag {
    /// MD5 of the content.
    Md5([u8; 16]),
    /// MD5 of the parts' MD5s, and how many parts there are.
    Parts([u8; 16], u32),
    /// Anything else: says nothing of the content.
    Opaque(String),
}

impl Etag {
    fn of(text: &str) -> Self {
        let parsed = match text.split_once('-') {
            None => md5(text).map(Self::Md5),
            Some((digest, count)) => md5(digest)
                .zip(number(count))
                .map(|(md5, count)| Self::Parts(md5, count)),
        };
        parsed.unwrap_or_else(|| Self::Opaque(text.to_owned()))
    }

    fn text(self) -> String {
        match self {
            Self::Md5(md5) => hex(md5),
            Self::Parts(md5, count) => format!("{}-{count}", hex(md5)),
            Self::Opaque(text) => text,
        }
    }
}

/// Reads 32 lower-case hexadecimal digits.
fn md5(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, pair) in md5.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(md5)
}

/// Reads a number that is written in the only way that it can be.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn hex(md5: [u8; 16]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    Etag::of(text).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Etag::deserialize(from).map(Etag::text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{32}",
            "[0-9a-f]{32}-[0-9]{1,11}",
            "[0-9a-fA-F]{30,34}",
            ".*"
        ]
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in texts()) {
            prop_assert_eq!(Etag::of(&text).text(), text);
        }
    }

    #[test]
    fn each_kind_is_known() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        assert!(matches!(Etag::of(md5), Etag::Md5(_)));
        assert!(matches!(
            Etag::of(&format!("{md5}-10000")),
            Etag::Parts(_, 10_000)
        ));
        for opaque in [
            "",
            "x",
            &format!("{md5}-01"),
            &format!("{md5}-"),
            &md5.to_uppercase(),
        ] {
            assert!(matches!(Etag::of(opaque), Etag::Opaque(_)), "{opaque}");
        }
        let len = |text: &str| {
            postcard::to_allocvec(&Etag::of(text))
                .expect("encodes")
                .len()
        };
        assert_eq!((len(md5), len(&format!("{md5}-7"))), (17, 18));
    }
}
