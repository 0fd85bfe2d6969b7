//! Byte ranges of an object.

use super::error::OpError;
use std::ops::Range;

/// What a `Range` header asks for. S3 serves one range per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeWish {
    /// From one byte to another, both included, or to the end.
    From { first: u64, last: Option<u64> },
    /// This many bytes at the end.
    Suffix(u64),
}

impl RangeWish {
    /// Finds the bytes in an object of `total` bytes.
    ///
    /// # Errors
    /// [`OpError::InvalidRange`] if the object has no byte of the range.
    pub fn resolve(self, total: u64) -> Result<Range<u64>, OpError> {
        let range = match self {
            Self::From { first, last } => {
                let end = last.map_or(total, |last| last.saturating_add(1).min(total));
                first..end
            }
            Self::Suffix(length) => total.saturating_sub(length)..total,
        };
        if range.is_empty() {
            Err(OpError::InvalidRange { total })
        } else {
            Ok(range)
        }
    }

    /// Reads `x-amz-copy-source-range`: both ends must be given and lie within the source.
    ///
    /// # Errors
    /// [`OpError::InvalidArgument`] for any other form, and beyond the end.
    pub fn parse_copy(text: &str, total: u64) -> Result<Range<u64>, OpError> {
        let malformed = || {
            OpError::InvalidArgument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where \
                 first and last are the zero-based offsets of the first and last bytes to copy"
                    .to_owned(),
            )
        };
        let (first, last) = text
            .strip_prefix("bytes=")
            .and_then(|rest| rest.split_once('-'))
            .ok_or_else(malformed)?;
        let digits = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if plain {
                text.parse::<u64>().map_err(|_| malformed())
            } else {
                Err(malformed())
            }
        };
        let (first, last) = (digits(first)?, digits(last)?);
        if first > last {
            return Err(malformed());
        }
        if last >= total {
            return Err(OpError::InvalidArgument(format!(
                "Range specified is not valid for source object of size: {total}"
            )));
        }
        Ok(first..last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(first: u64, last: Option<u64>) -> RangeWish {
        RangeWish::From { first, last }
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        let check = |wish: RangeWish, total, expected: Option<Range<u64>>| {
            assert_eq!(wish.resolve(total).ok(), expected, "{wish:?} of {total}");
        };
        check(from(0, Some(0)), 10, Some(0..1));
        check(from(3, Some(5)), 10, Some(3..6));
        check(from(3, Some(99)), 10, Some(3..10));
        check(from(3, Some(u64::MAX)), 10, Some(3..10));
        check(from(9, None), 10, Some(9..10));
        check(from(10, None), 10, None);
        check(from(0, None), 0, None);
        check(RangeWish::Suffix(3), 10, Some(7..10));
        check(RangeWish::Suffix(30), 10, Some(0..10));
        check(RangeWish::Suffix(0), 10, None);
        check(RangeWish::Suffix(5), 0, None);
    }

    #[test]
    fn copy_ranges_have_both_ends_inside() {
        let parse = |text| RangeWish::parse_copy(text, 10).ok();
        assert_eq!(parse("bytes=0-9"), Some(0..10));
        assert_eq!(parse("bytes=9-9"), Some(9..10));
        for bad in [
            "bytes=0-10",
            "bytes=5-",
            "bytes=-5",
            "0-5",
            "bytes=5-4",
            "bytes=+1-4",
            "",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
