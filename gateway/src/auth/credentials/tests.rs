//! How often the metadata group is asked, and what callers are told.

use super::super::kept::QUESTIONS_PER_S;
use super::*;
use crate::s3::tests::world::{Key, World};
use futures::future::join_all;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The access keys, as requests ask for them.
struct Requests {
    credentials: Credentials,
    keys: KeyUse,
}

impl Requests {
    async fn find(&self, id: &str) -> Result<Arc<ActiveKey>, CredentialError> {
        self.credentials.find(&self.keys, id).await
    }
}

async fn world() -> (World, Requests) {
    let world = World::new().await;
    let meta: Arc<dyn Metadata> = world.meta.clone();
    let requests = Requests {
        credentials: Credentials::new(meta),
        keys: world.keys.begin(),
    };
    (world, requests)
}

fn asked(world: &World) -> u32 {
    world.meta.keys_asked.load(Ordering::Relaxed)
}

async fn error(credentials: &Requests, id: &str) -> Option<CredentialError> {
    credentials.find(id).await.err()
}

/// An id in the form of before ids had a check.
fn unchecked(number: u32) -> String {
    let letter = |place: u32| char::from(b'A' + (number >> (4 * place) & 15) as u8);
    format!(
        "MGL{}",
        (0..17).map(|place| letter(place % 8)).collect::<String>()
    )
}

#[tokio::test]
async fn what_is_no_id_of_this_cluster_is_not_asked_for() {
    let (world, credentials) = world().await;
    let mut changed = world.ann.id.clone();
    let last = if changed.ends_with('A') { "B" } else { "A" };
    changed.replace_range(changed.len() - 1.., last);
    for id in ["", "AKIAIOSFODNN7EXAMPLE", &changed, &"a".repeat(500)] {
        assert_eq!(
            error(&credentials, id).await,
            Some(CredentialError::Unknown)
        );
    }
    assert_eq!(asked(&world), 0);
    assert!(credentials.find(&world.ann.id).await.is_ok());
    assert_eq!(asked(&world), 1);
}

#[tokio::test]
async fn a_key_of_before_ids_had_a_check_works() {
    let (world, credentials) = world().await;
    let old = Key {
        id: unchecked(1),
        secret: "s".into(),
    };
    world.give(&old, AccountId(1), true);
    let found = credentials.find(&old.id).await.expect("it works");
    assert_eq!(found.caller.account, AccountId(1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_ask_once() {
    let (world, credentials) = world().await;
    for round in 1..=3 {
        let held = world.meta.answers.write().await;
        let requests = join_all((0..100).map(|_| credentials.find(&world.ann.id)));
        let (found, ()) = tokio::join!(requests, async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert!(found.iter().all(Result::is_ok));
        assert_eq!(asked(&world), round);
        // So old that it may not be used any more.
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert!(
        lock(&credentials.credentials.shared.state)
            .asking
            .is_empty()
    );
}

/// The client that asked first may go away.
#[tokio::test]
async fn a_question_goes_on_for_those_who_joined_it() {
    let (world, credentials) = world().await;
    let held = world.meta.answers.write().await;
    let mut first = credentials.find(&world.ann.id).boxed();
    let mut second = credentials.find(&world.ann.id).boxed();
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    drop(held);
    assert!(second.await.is_ok());
    assert_eq!(asked(&world), 1);
    // Nobody waits for this one, so the next request asks itself.
    let held = world.meta.answers.write().await;
    assert!(credentials.find(&world.bob.id).now_or_never().is_none());
    assert!(
        lock(&credentials.credentials.shared.state)
            .asking
            .is_empty()
    );
    drop(held);
    assert!(credentials.find(&world.bob.id).await.is_ok());
}

/// An answer that comes late may say what was so long ago.
#[tokio::test(start_paused = true)]
async fn no_request_joins_a_question_that_is_old() {
    let (world, credentials) = world().await;
    let held = world.meta.answers.write().await;
    let mut first = credentials.find(&world.ann.id).boxed();
    assert!(first.as_mut().now_or_never().is_none());
    tokio::time::advance(KEPT_FOR).await;
    let mut second = credentials.find(&world.ann.id).boxed();
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!(asked(&world), 2);
    drop(held);
    assert!(first.await.is_ok() && second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_ids_leaves_keys_as_they_are() {
    let (world, credentials) = world().await;
    let old = Key {
        id: unchecked(u32::MAX),
        secret: "s".into(),
    };
    world.give(&old, AccountId(1), true);
    assert!(credentials.find(&old.id).await.is_ok());
    let (mut unknown, mut busy, before) = (0, 0, asked(&world));
    for number in 0..QUESTIONS_PER_S * 10 {
        match error(&credentials, &unchecked(number)).await {
            Some(CredentialError::Unknown) => unknown += 1,
            Some(CredentialError::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    // One question of the limit was for the key, before it was known.
    assert_eq!(unknown, QUESTIONS_PER_S - 1);
    assert_eq!(busy, QUESTIONS_PER_S * 9 + 1);
    assert_eq!(asked(&world) - before, QUESTIONS_PER_S - 1);
    // One that nobody can make up, and one that worked before.
    assert!(credentials.find(&world.ann.id).await.is_ok());
    assert!(credentials.find(&old.id).await.is_ok());
}
