//! What signatures are made with: scopes and signing keys.

use aws_lc_rs::{constant_time, hmac};
use std::fmt;
use zeroize::Zeroizing;

/// What a signing key is valid for: one day, one region, one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    pub region: String,
    pub service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            region,
            service,
        } = self;
        write!(f, "{date}/{region}/{service}/aws4_request")
    }
}

/// The key that signs within one scope. Prints nothing; wiped on drop.
pub struct SigningKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Derives the key of a scope from an access key's secret.
    #[must_use]
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret.as_bytes());
        let date = Zeroizing::new(mac(&first, scope.date.as_bytes()));
        let region = Zeroizing::new(mac(&*date, scope.region.as_bytes()));
        let service = Zeroizing::new(mac(&*region, scope.service.as_bytes()));
        Self(Zeroizing::new(mac(&*service, b"aws4_request")))
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Signature {
        Signature(mac(&*self.0, text))
    }
}

/// A signature. Compared in constant time, and only by [`Signature::matches`].
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

impl Signature {
    /// Reads 64 lower-case hexadecimal digits; None for any other text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !text.iter().all(lower) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Returns whether two signatures are the same. Takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Writes the signature in the form that requests carry.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_64_lower_case_digits() {
        let text = "0123456789abcdef".repeat(4);
        let signature = Signature::parse(text.as_bytes()).expect("a signature");
        assert_eq!(signature.to_hex(), text);
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace('a', "g"),
        ] {
            assert!(Signature::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_bit_counts() {
        let one = Signature([7; 32]);
        assert!(one.matches(&one.clone()));
        for bit in 0..256 {
            let mut other = one;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!one.matches(&other), "bit {bit}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let scope = Scope {
            date: "20130524".into(),
            region: "r".into(),
            service: "s3".into(),
        };
        let key = SigningKey::derive("secret", &scope);
        let printed = format!("{key:?} {:?}", key.sign(b"text"));
        assert_eq!(printed, "SigningKey(…) Signature(…)");
    }
}
