//! A line in the log for each request that is denied: who, from where, on what, and why.
//!
//! Everything in it comes from a stranger: names are shown only if they have the form of one. Never
//! logs an object's name, a query or a signature. A stranger can't fill the log: of more lines than
//! [`LINES_PER_SECOND_MAX`] in a second only the number is said, a second later.

use super::error::S3Error;
use super::target::DecodedUrl;
use crate::lock::lock;
use http::StatusCode;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

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

/// Writes the lines. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Audit(Arc<Mutex<Lines>>);

/// The lines of one second, and what was left out and not yet said.
#[derive(Default)]
struct Lines {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

/// What becomes of a denial.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It has a line.
    Written,
    /// It is counted only. The first one of a count sees to it that the count is said.
    LeftOut { first: bool },
}

impl Audit {
    /// Notes a refusal, if it is one of a caller: the request was understood and not allowed.
    pub(super) fn note(&self, asked: &Asked, error: &S3Error, id: &str) {
        if error.code().status() != StatusCode::FORBIDDEN {
            return;
        }
        let taken = lock(&self.0).take(Instant::now());
        match taken {
            Taken::Written => write(asked, error, id),
            Taken::LeftOut { first: true } => drop(tokio::spawn(self.clone().say_left_out())),
            Taken::LeftOut { first: false } => {}
        }
    }

    async fn say_left_out(self) {
        let left_out = self.left_out().await;
        tracing::warn!(left_out, "more requests were denied than are logged");
    }

    /// Counts for a second, and returns how many were left out.
    async fn left_out(&self) -> u64 {
        sleep(SECOND).await;
        std::mem::take(&mut lock(&self.0).left_out)
    }
}

fn write(asked: &Asked, error: &S3Error, id: &str) {
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

impl Lines {
    fn take(&mut self, now: Instant) -> Taken {
        let over = self
            .began
            .is_none_or(|began| now.duration_since(began) >= SECOND);
        if over {
            (self.began, self.written) = (Some(now), 0);
        }
        if self.written < LINES_PER_SECOND_MAX {
            self.written += 1;
            Taken::Written
        } else {
            self.left_out += 1;
            Taken::LeftOut {
                first: self.left_out == 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_second_has_so_many_lines_and_all_others_are_counted_once() {
        let audit = Audit::default();
        let take = || lock(&audit.0).take(Instant::now());
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(take(), Taken::Written);
        }
        assert_eq!(take(), Taken::LeftOut { first: true });
        assert_eq!(take(), Taken::LeftOut { first: false });
        // Nobody is denied after that, and yet the number is said.
        assert_eq!(audit.left_out().await, 2);
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(take(), Taken::Written);
        }
        // A count that runs on into the next second.
        assert_eq!(take(), Taken::LeftOut { first: true });
        advance(SECOND).await;
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(take(), Taken::Written);
        }
        assert_eq!(take(), Taken::LeftOut { first: false });
        assert_eq!(audit.left_out().await, 2);
    }

    #[test]
    fn what_is_no_name_is_not_shown() {
        assert_eq!(name("AKIAX"), Some("AKIAX".to_owned()));
        for no in ["", "a b", "a\nb", "\u{1b}[2J", &"k".repeat(129)] {
            assert_eq!(name(no), None, "{no:?}");
        }
    }
}
