//! Preconditions: whether a read is answered, and when a write is allowed.
//!
//! Owns S3's precedence between the four headers. Reads nothing and writes nothing.

use super::error::OpError;

/// What an ETag header requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtagMatch {
    /// `*`: any object.
    Any,
    /// This ETag, without quotes.
    Etag(String),
}

impl EtagMatch {
    /// Returns whether an object with this ETag matches.
    #[must_use]
    pub fn matches(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Etag(wanted) => wanted == etag,
        }
    }
}

/// Which object a range was meant for: a reader that goes on with an earlier read names it, so that
/// it doesn't join the bytes of two objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// The one with this ETag, without quotes.
    Etag(String),
    /// The one that was changed at this time, in seconds since 1970.
    Date(i64),
    /// Something that names no object for certain, such as a weak ETag.
    Unclear,
}

impl IfRange {
    /// Returns whether an object is the one that was meant.
    #[must_use]
    pub fn names(&self, etag: &str, modified_ms: u64) -> bool {
        match self {
            Self::Etag(wanted) => wanted == etag,
            Self::Date(date) => i64::try_from(modified_ms / 1000) == Ok(*date),
            Self::Unclear => false,
        }
    }
}

/// Preconditions of a read, or of the source of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// `If-Match`
    pub if_match: Option<EtagMatch>,
    /// `If-None-Match`
    pub if_none_match: Option<EtagMatch>,
    /// `If-Modified-Since`, in seconds since 1970.
    pub if_modified_since: Option<i64>,
    /// `If-Unmodified-Since`, in seconds since 1970.
    pub if_unmodified_since: Option<i64>,
    /// `If-Range`
    pub if_range: Option<IfRange>,
}

/// The result of a read's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    Proceed,
    /// 304 for a read.
    NotModified,
    /// 412, naming the header.
    Failed(&'static str),
}

impl ReadConditions {
    /// Returns whether a range is heeded; if not, the whole object is returned.
    #[must_use]
    pub fn heeds_range(&self, etag: &str, modified_ms: u64) -> bool {
        let names = |wish: &IfRange| wish.names(etag, modified_ms);
        self.if_range.as_ref().is_none_or(names)
    }

    /// Judges an object by its ETag and time of change (milliseconds since 1970).
    ///
    /// `If-Match` overrides `If-Unmodified-Since`, and `If-None-Match` overrides
    /// `If-Modified-Since`, as RFC 9110 and S3 define it. Dates are compared in whole seconds.
    #[must_use]
    pub fn judge(&self, etag: &str, modified_ms: u64) -> ReadVerdict {
        let modified = i64::try_from(modified_ms / 1000).unwrap_or(i64::MAX);
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !wanted.matches(etag) => {
                return ReadVerdict::Failed("If-Match");
            }
            (None, Some(date)) if modified > date => {
                return ReadVerdict::Failed("If-Unmodified-Since");
            }
            (Some(_) | None, _) => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(known), _) if known.matches(etag) => ReadVerdict::NotModified,
            (None, Some(date)) if modified <= date => ReadVerdict::NotModified,
            (Some(_) | None, _) => ReadVerdict::Proceed,
        }
    }
}

/// Preconditions of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteConditions {
    /// `If-Match`
    pub if_match: Option<EtagMatch>,
    /// `If-None-Match`
    pub if_none_match: Option<EtagMatch>,
}

/// A write's preconditions, checked to be consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteWish {
    /// Write, whatever exists.
    Always,
    /// Write only if no object exists.
    Absent,
    /// Write only over an object with that ETag.
    Matching(EtagMatch),
}

impl WriteConditions {
    /// Reads the two headers together.
    ///
    /// # Errors
    /// [`OpError::NotImplemented`] for both at once and for `If-None-Match` with an ETag, which S3
    /// doesn't support for writes either.
    pub fn wish(self) -> Result<WriteWish, OpError> {
        match (self.if_match, self.if_none_match) {
            (None, None) => Ok(WriteWish::Always),
            (None, Some(EtagMatch::Any)) => Ok(WriteWish::Absent),
            (Some(wanted), None) => Ok(WriteWish::Matching(wanted)),
            (None | Some(_), Some(_)) => Err(OpError::NotImplemented("If-None-Match")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_000_000;

    fn check(conditions: ReadConditions, expected: ReadVerdict) {
        assert_eq!(
            conditions.judge("aa", AT as u64 * 1000 + 999),
            expected,
            "{conditions:?}"
        );
    }

    fn tag(text: &str) -> Option<EtagMatch> {
        Some(EtagMatch::Etag(text.to_owned()))
    }

    #[test]
    fn each_alone() {
        use ReadVerdict::{Failed, NotModified, Proceed};
        let none = ReadConditions::default;
        check(none(), Proceed);
        check(
            ReadConditions {
                if_match: tag("aa"),
                ..none()
            },
            Proceed,
        );
        check(
            ReadConditions {
                if_match: Some(EtagMatch::Any),
                ..none()
            },
            Proceed,
        );
        check(
            ReadConditions {
                if_match: tag("bb"),
                ..none()
            },
            Failed("If-Match"),
        );
        check(
            ReadConditions {
                if_none_match: tag("aa"),
                ..none()
            },
            NotModified,
        );
        check(
            ReadConditions {
                if_none_match: tag("bb"),
                ..none()
            },
            Proceed,
        );
        check(
            ReadConditions {
                if_modified_since: Some(AT),
                ..none()
            },
            NotModified,
        );
        check(
            ReadConditions {
                if_modified_since: Some(AT - 1),
                ..none()
            },
            Proceed,
        );
        check(
            ReadConditions {
                if_unmodified_since: Some(AT),
                ..none()
            },
            Proceed,
        );
        let early = ReadConditions {
            if_unmodified_since: Some(AT - 1),
            ..none()
        };
        check(early, Failed("If-Unmodified-Since"));
    }

    #[test]
    fn etags_override_dates() {
        let none = ReadConditions::default;
        let matching_but_changed = ReadConditions {
            if_match: tag("aa"),
            if_unmodified_since: Some(AT - 1),
            ..none()
        };
        check(matching_but_changed, ReadVerdict::Proceed);
        let same_but_changed = ReadConditions {
            if_none_match: tag("aa"),
            if_modified_since: Some(AT - 1),
            ..none()
        };
        check(same_but_changed, ReadVerdict::NotModified);
        let other_but_unchanged = ReadConditions {
            if_none_match: tag("bb"),
            if_modified_since: Some(AT),
            ..none()
        };
        check(other_but_unchanged, ReadVerdict::Proceed);
    }

    #[test]
    fn a_range_is_for_one_object() {
        let heeds = |wish| {
            let if_range = Some(wish);
            let conditions = ReadConditions {
                if_range,
                ..ReadConditions::default()
            };
            conditions.heeds_range("aa", AT as u64 * 1000 + 999)
        };
        assert!(ReadConditions::default().heeds_range("aa", 0));
        assert!(heeds(IfRange::Etag("aa".into())));
        assert!(!heeds(IfRange::Etag("bb".into())));
        assert!(heeds(IfRange::Date(AT)));
        assert!(!heeds(IfRange::Date(AT + 1)));
        assert!(!heeds(IfRange::Date(AT - 1)));
        assert!(!heeds(IfRange::Unclear));
    }

    #[test]
    fn writes_take_one_header_and_only_the_star_for_absence() {
        let wish = |if_match, if_none_match| {
            WriteConditions {
                if_match,
                if_none_match,
            }
            .wish()
        };
        assert_eq!(wish(None, None).unwrap(), WriteWish::Always);
        assert_eq!(wish(None, Some(EtagMatch::Any)).unwrap(), WriteWish::Absent);
        let matching = wish(tag("aa"), None).unwrap();
        assert_eq!(matching, WriteWish::Matching(EtagMatch::Etag("aa".into())));
        assert!(wish(None, tag("aa")).is_err());
        assert!(wish(tag("aa"), Some(EtagMatch::Any)).is_err());
    }
}
