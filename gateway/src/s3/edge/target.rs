//! Reads what a request's URL names: a bucket, an object, parameters.

use super::error::{Code, S3Error};
use super::host::BaseDomains;
use crate::ops::names::KEY_BYTES_MAX;
use http::Uri;
use megalith_sigv4::uri::{decode, parse_query};
use std::net::IpAddr;

/// What a request's path and host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::s3) enum Target {
    /// All buckets.
    Service,
    Bucket(String),
    Object {
        bucket: String,
        key: String,
    },
}

/// A request's URL, decoded once.
#[derive(Debug)]
pub(super) struct DecodedUrl {
    pub(super) target: Target,
    /// The path, decoded.
    pub(super) path: String,
    /// Names and values, decoded, in the order of the URL.
    pub(super) query: Vec<(String, String)>,
}

impl Target {
    pub(super) fn bucket(&self) -> &str {
        match self {
            Self::Service => "",
            Self::Bucket(bucket) | Self::Object { bucket, .. } => bucket,
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Service | Self::Bucket(_) => "",
            Self::Object { key, .. } => key,
        }
    }
}

impl DecodedUrl {
    /// Reads a URL. Exactly what is read here is what is verified later.
    ///
    /// # Errors
    /// `InvalidURI`, `InvalidBucketName`, `KeyTooLongError`.
    pub(super) fn read(
        uri: &Uri,
        host: Option<&str>,
        domains: &BaseDomains,
    ) -> Result<Self, S3Error> {
        let invalid = |_| S3Error::from(Code::InvalidUri);
        let path = decode(uri.path()).map_err(invalid)?;
        let query = parse_query(uri.query().unwrap_or_default()).map_err(invalid)?;
        let target = target(&path, host.and_then(|host| domains.bucket(host)))?;
        Ok(Self {
            target,
            path,
            query,
        })
    }
}

fn target(path: &str, bucket_of_host: Option<String>) -> Result<Target, S3Error> {
    let rest = path.strip_prefix('/').ok_or(Code::InvalidUri)?;
    let (bucket, key) = match &bucket_of_host {
        Some(bucket) => (bucket.as_str(), rest),
        None if rest.is_empty() => return Ok(Target::Service),
        None => rest.split_once('/').unwrap_or((rest, "")),
    };
    if !is_bucket_name(bucket) {
        return Err(Code::InvalidBucketName.into());
    }
    if key.is_empty() {
        return Ok(Target::Bucket(bucket.to_owned()));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Code::KeyTooLong.into());
    }
    Ok(Target::Object {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
    })
}

/// Returns whether a bucket of that name could exist. The rules for new buckets are stricter.
pub(in crate::s3) fn is_bucket_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| letter(byte) || matches!(byte, b'.' | b'-'))
        && bytes.first().is_some_and(letter)
        && bytes.last().is_some_and(letter)
        && !name.contains("..")
        && !name.starts_with("xn--")
        && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, host: &str) -> Result<Target, Code> {
        let domains = BaseDomains::new(&["s3.test".to_owned()]);
        let uri: Uri = uri.parse().expect("a URI");
        let url = DecodedUrl::read(&uri, Some(host), &domains);
        url.map(|url| url.target).map_err(|error| error.code())
    }

    fn object(bucket: &str, key: &str) -> Result<Target, Code> {
        Ok(Target::Object {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }

    #[test]
    fn path_style() {
        assert_eq!(read("/", "s3.test"), Ok(Target::Service));
        assert_eq!(read("/box", "s3.test"), Ok(Target::Bucket("box".into())));
        assert_eq!(
            read("/box/", "127.0.0.1:9000"),
            Ok(Target::Bucket("box".into()))
        );
        assert_eq!(read("/box/k", "s3.test"), object("box", "k"));
        assert_eq!(read("/box//k", "s3.test"), object("box", "/k"));
        assert_eq!(read("/box/../k/./x", "s3.test"), object("box", "../k/./x"));
        assert_eq!(
            read("/box/a+b%20c%2Fd%2520", "s3.test"),
            object("box", "a+b c/d%20")
        );
        assert_eq!(read("/box%2Fk", "s3.test"), object("box", "k"));
    }

    #[test]
    fn host_style() {
        assert_eq!(read("/", "box.s3.test"), Ok(Target::Bucket("box".into())));
        assert_eq!(read("/k/l", "box.s3.test:9000"), object("box", "k/l"));
        assert_eq!(read("//k", "box.s3.test"), object("box", "/k"));
    }

    #[test]
    fn what_names_nothing() {
        assert_eq!(read("/box/%ff", "s3.test"), Err(Code::InvalidUri));
        assert_eq!(read("/box?a=%ff", "s3.test"), Err(Code::InvalidUri));
        assert_eq!(read("/Box", "s3.test"), Err(Code::InvalidBucketName));
        assert_eq!(read("//k", "s3.test"), Err(Code::InvalidBucketName));
        assert_eq!(read("/10.0.0.1/k", "s3.test"), Err(Code::InvalidBucketName));
        let long = format!("/box/{}", "k".repeat(1025));
        assert_eq!(read(&long, "s3.test"), Err(Code::KeyTooLong));
    }
}
