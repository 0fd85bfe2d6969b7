//! Changing the members of the metadata group.
//!
//! A change is asked for again and again until the leader says that it is done. Stopping in between
//! does no harm: the same change, asked for once more, goes on with it.

use megalith_client::{ChangeStanding, ClientError};
use std::time::{Duration, Instant};

/// Between two questions how far a change is.
const PAUSE: Duration = Duration::from_millis(300);

/// The members could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("ask the metadata leader")]
    Client(#[source] ClientError),
    #[error("the metadata leader refuses: {0}")]
    Refused(String),
    /// It takes longer than the caller waits.
    #[error("not done after {} s: {last}; the same command goes on with it", .waited.as_secs())]
    NotDone { waited: Duration, last: String },
}

/// Asks for a change until it is done; returns what the leader says of it then.
///
/// `ask` asks the leader once. `told` hears how far the change is, each time that this is news.
///
/// # Errors
/// [`ChangeError::NotDone`] after `wait`; the change itself goes on. The leader's refusal, and an
/// answer that asking again can't better, end it at once.
pub async fn change(
    ask: impl AsyncFn() -> Result<ChangeStanding, ClientError>,
    wait: Duration,
    mut told: impl FnMut(&str),
) -> Result<String, ChangeError> {
    let started = Instant::now();
    let mut last = String::new();
    loop {
        let now = match ask().await {
            Ok(ChangeStanding::Done(how)) => return Ok(how),
            Ok(ChangeStanding::Refused(why)) => return Err(ChangeError::Refused(why)),
            Ok(ChangeStanding::UnderWay(how)) => how,
            // An election, for example: what is under way goes on.
            Err(ClientError::Unavailable(why)) => format!("no leader answers: {why}"),
            Err(error) => return Err(ChangeError::Client(error)),
        };
        if now != last {
            told(&now);
            last = now;
        }
        if started.elapsed() >= wait {
            return Err(ChangeError::NotDone { waited: wait, last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
