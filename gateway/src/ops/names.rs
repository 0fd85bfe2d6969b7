//! Which names buckets, keys and metadata may have.

use super::error::OpError;
use std::net::IpAddr;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most bytes of user metadata, names and values together.
pub const USER_METADATA_BYTES_MAX: usize = 2 * 1024;

/// Prefixes and suffixes that S3 reserves.
const RESERVED_PREFIXES: [&str; 4] = ["xn--", "sthree-", "amzn-s3-demo-", "-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Checks a new bucket's name against S3's rules.
///
/// # Errors
/// [`OpError::InvalidBucketName`].
pub fn check_bucket_name(name: &str) -> Result<(), OpError> {
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let valid = (3..=63).contains(&bytes.len())
        && bytes.iter().all(allowed)
        && ends(bytes.first())
        && ends(bytes.last())
        && !name.contains("..")
        && name.parse::<IpAddr>().is_err()
        && !RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
        && !RESERVED_SUFFIXES
            .iter()
            .any(|suffix| name.ends_with(suffix));
    if valid {
        Ok(())
    } else {
        Err(OpError::InvalidBucketName)
    }
}

/// Checks an object's key: 1 to 1,024 bytes without NUL. It may hold `..` and `//`: a key is
/// never a path.
///
/// # Errors
/// [`OpError::KeyTooLong`], [`OpError::InvalidArgument`].
pub fn check_key(key: &str) -> Result<(), OpError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(OpError::KeyTooLong);
    }
    if key.is_empty() || key.contains('\0') {
        // XML can't carry NUL, so such a key could never be listed.
        return Err(OpError::InvalidArgument(
            "Object keys must have at least one byte and must not contain NUL.".to_owned(),
        ));
    }
    Ok(())
}

/// Checks the size of user metadata.
///
/// # Errors
/// [`OpError::MetadataTooLarge`].
pub fn check_user_metadata(metadata: &[(String, String)]) -> Result<(), OpError> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > USER_METADATA_BYTES_MAX {
        Err(OpError::MetadataTooLarge)
    } else {
        Ok(())
    }
}

/// Removes `aws-chunked` from a `Content-Encoding`: it says how the body travelled, not what the
/// object is. All else stays as it was sent.
#[must_use]
pub fn stored_content_encoding(header: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = header?
        .split(',')
        .filter(|coding| !coding.trim().eq_ignore_ascii_case("aws-chunked"))
        .collect();
    let kept = kept.join(",");
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names() {
        for good in ["abc", "my.bucket-1", "0ab", &"a".repeat(63)] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "ab",
            &too_long,
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "a..b",
            "192.168.5.4",
            "xn--a",
            "sthree-x",
            "x-s3alias",
            "x--ol-s3",
            "a/b",
            "über",
        ] {
            assert!(check_bucket_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys() {
        for good in ["a", "../..", "a//b", "/", ".", "ключ", &"k".repeat(1024)] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        assert!(matches!(
            check_key(&"k".repeat(1025)),
            Err(OpError::KeyTooLong)
        ));
        assert!(check_key("").is_err());
        assert!(check_key("a\0b").is_err());
    }

    #[test]
    fn metadata_has_two_kibibytes() {
        let of = |len: usize| vec![("name".to_owned(), "v".repeat(len - 4))];
        assert!(check_user_metadata(&of(2048)).is_ok());
        assert!(check_user_metadata(&of(2049)).is_err());
    }

    #[test]
    fn aws_chunked_is_not_stored() {
        let stored = stored_content_encoding;
        assert_eq!(stored(Some("aws-chunked")), None);
        assert_eq!(stored(Some("aws-chunked,gzip")).as_deref(), Some("gzip"));
        assert_eq!(
            stored(Some("gzip, AWS-Chunked , br")).as_deref(),
            Some("gzip, br")
        );
        assert_eq!(
            stored(Some("aws-chunked, deflate, gzip")).as_deref(),
            Some("deflate, gzip")
        );
        assert_eq!(stored(None), None);
    }
}
