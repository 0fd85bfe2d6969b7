//! Changes the members of the metadata group, and sets its clock right.
//!
//! The same request is repeated until the leader says that the change is done. Stopping in between
//! does no harm: repeating the request later continues the change.

use megalith_client::{ClientError, Metadata};
use megalith_model::command::{Command, Envelope};
use megalith_model::member::ChangeStanding;
use std::time::Duration;
use tokio::time::Instant;

/// The wait between two requests.
const PAUSE: Duration = Duration::from_millis(300);

/// Why the members could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("ask the metadata leader")]
    Client(#[source] ClientError),
    #[error("the metadata leader refuses: {0}")]
    Refused(String),
    /// It takes longer than the caller is willing to wait.
    #[error("not done after {} s: {last}; the same command goes on with it", .waited.as_secs())]
    NotDone { waited: Duration, last: String },
}

/// Requests a change until it is done; returns what the leader then says of it.
///
/// `ask` asks the leader once. `told` is called with the progress of the change whenever it is new.
///
/// # Errors
/// [`ChangeError::NotDone`] after `wait`; the change itself goes on. Returns at once if the leader
/// refuses, or if asking again can't change the answer.
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
            // An election, for example: the change continues after it.
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

/// Sets the group's time to its leader's clock, also back. Returns the group's time after it, in
/// milliseconds since 1970.
///
/// # Errors
/// [`ChangeError::Refused`] if the group does not take the command.
pub async fn reset_clock(meta: &impl Metadata) -> Result<u64, ChangeError> {
    let envelope = Envelope {
        key: None,
        command: Command::ResetClock,
    };
    let answer = meta.propose(envelope).await.map_err(ChangeError::Client)?;
    answer.map_err(|refusal| ChangeError::Refused(refusal.to_string()))?;
    Ok(meta.now_ms())
}

/// Says that the rows of a restored backup stay: from now on disks may delete what they don't name.
///
/// # Errors
/// [`ChangeError::Refused`] if the group does not take the command.
pub async fn release_restore(meta: &impl Metadata) -> Result<(), ChangeError> {
    let envelope = Envelope {
        key: None,
        command: Command::ReleaseRestore,
    };
    let answer = meta.propose(envelope).await.map_err(ChangeError::Client)?;
    answer.map_err(|refusal| ChangeError::Refused(refusal.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What the leader says.
    type Says = fn() -> Result<ChangeStanding, ClientError>;

    const JOINS: Says = || Ok(ChangeStanding::UnderWay("joins".to_owned()));
    const LEARNS: Says = || Ok(ChangeStanding::UnderWay("learns".to_owned()));
    const DONE: Says = || Ok(ChangeStanding::Done("2 votes".to_owned()));
    const REFUSED: Says = || Ok(ChangeStanding::Refused("2 is the last voter".to_owned()));
    const NOBODY: Says = || Err(ClientError::Unavailable("an election".to_owned()));
    const REJECTED: Says = || Err(ClientError::Rejected("not an operator".to_owned()));

    struct Ended {
        end: Result<String, String>,
        /// The progress that was reported.
        told: Vec<String>,
        /// How often the leader was asked.
        asked: usize,
    }

    /// Lets the leader give `answers` in turn; it repeats the last one.
    async fn run(answers: &[Says], wait_s: u64) -> Ended {
        let (asked, told) = (RefCell::new(0), RefCell::new(Vec::new()));
        let ask = async || {
            let turn = *asked.borrow();
            *asked.borrow_mut() += 1;
            answers[turn.min(answers.len() - 1)]()
        };
        let end = change(ask, Duration::from_secs(wait_s), |standing| {
            told.borrow_mut().push(standing.to_owned());
        });
        Ended {
            end: end.await.map_err(|error| error.to_string()),
            told: told.take(),
            asked: asked.take(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_for_until_it_is_done_and_only_news_is_told() {
        let ended = run(&[JOINS, JOINS, LEARNS, DONE], 60).await;
        assert_eq!(ended.end, Ok("2 votes".to_owned()));
        assert_eq!(ended.told, ["joins", "learns"]);
        assert_eq!(ended.asked, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_it_at_once() {
        let ended = run(&[REFUSED], 60).await;
        let said = "the metadata leader refuses: 2 is the last voter";
        assert_eq!((ended.end, ended.asked), (Err(said.to_owned()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_is_waited_out() {
        let ended = run(&[JOINS, NOBODY, DONE], 60).await;
        assert_eq!(ended.end, Ok("2 votes".to_owned()));
        assert_eq!(ended.told, ["joins", "no leader answers: an election"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_asking_again_cannot_better_ends_it() {
        let ended = run(&[REJECTED], 60).await;
        let said = "ask the metadata leader";
        assert_eq!((ended.end, ended.asked), (Err(said.to_owned()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_wait_it_says_how_far_it_is_and_how_to_go_on() {
        let ended = run(&[LEARNS], 3).await;
        let said = "not done after 3 s: learns; the same command goes on with it";
        assert_eq!(ended.end, Err(said.to_owned()));
        assert!((10..=12).contains(&ended.asked), "{}", ended.asked);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_wait_it_asks_once() {
        let ended = run(&[LEARNS], 0).await;
        assert!(ended.end.is_err());
        assert_eq!(ended.asked, 1);
    }
}
