//! A line in the log for each request that is denied: who, from where, on what, and why.
//!
//! Everything in it comes from a stranger: names are shown only if they have the form of one. Never
//! logs an object's name, a query or a signature. A stranger can't fill the log: of more lines than
//! [`LINES_PER_SECOND_MAX`] in a second only the number is said.

use super::error::S3Error;
use super::target::DecodedUrl;
use crate::lock::lock;
use http::StatusCode;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const LINES_PER_SECOND_MAX: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);
const NAME_BYTES_MAX: usize = 128;

/// The address that a request came from, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// What is known of a request while it is judged.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) address: Option<SocketAddr>,
    /// The access key that it claims.
    pub(super) key: Option<String>,
    pub(super) bucket: Option<String>,
    /// The operation; empty if there is none of that form.
    pub(super) action: &'static str,
}

impl Asked {
    pub(super) fn note_bucket(&mut self, url: &DecodedUrl) {
        self.bucket = name(url.target.bucket());
    }

    pub(super) fn note_key(&mut self, access_key: &str) {
        self.key = name(access_key);
    }
}

/// Returns the text if it could be the name of a key or a bucket.
fn name(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain);
    fits.then(|| text.to_owned())
}

/// Writes the lines.
#[derive(Default)]
pub(super) struct Audit(Mutex<Second>);

#[derive(Default)]
struct Second {
    began: Option<Instant>,
    lines: u32,
}

impl Audit {
    /// Notes a refusal, if it is one of a caller: the request was understood and not allowed.
    pub(super) fn note(&self, asked: &Asked, error: &S3Error, id: &str) {
        if error.code().status() != StatusCode::FORBIDDEN {
            return;
        }
        let (may, left_out) = lock(&self.0).take(Instant::now());
        if left_out > 0 {
            tracing::warn!(left_out, "more requests were denied than are logged");
        }
        if may {
            let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            tracing::warn!(
                request = id,
                key = of(&asked.key),
                address = asked.address.map_or("-".to_owned(), |at| at.to_string()),
                bucket = of(&asked.bucket),
                action = Some(asked.action)
                    .filter(|it| !it.is_empty())
                    .unwrap_or("-"),
                reason = error.code().name(),
                "denied"
            );
        }
    }
}

impl Second {
    /// Takes one line of this second. Returns whether there was one, and how many lines of an
    /// earlier second, that ends with this call, were left out.
    fn take(&mut self, now: Instant) -> (bool, u32) {
        let over = self
            .began
            .is_none_or(|began| now.duration_since(began) >= SECOND);
        let mut left_out = 0;
        if over {
            left_out = self.lines.saturating_sub(LINES_PER_SECOND_MAX);
            (self.began, self.lines) = (Some(now), 0);
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= LINES_PER_SECOND_MAX, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_says_how_many_were_left_out() {
        let (mut second, start) = (Second::default(), Instant::now());
        let written = (0..LINES_PER_SECOND_MAX + 7).filter(|_| second.take(start).0);
        assert_eq!(written.count(), LINES_PER_SECOND_MAX as usize);
        assert_eq!(second.take(start + SECOND), (true, 7));
        assert_eq!(second.take(start + SECOND), (true, 0));
    }

    #[test]
    fn what_is_no_name_is_not_shown() {
        assert_eq!(name("AKIAX"), Some("AKIAX".to_owned()));
        for no in ["", "a b", "a\nb", "\u{1b}[2J", &"k".repeat(129)] {
            assert_eq!(name(no), None, "{no:?}");
        }
    }
}
