//! Nobody is given what is not there, and nobody who could be served is left waiting.

use super::*;
use futures::FutureExt as _;
use proptest::prelude::*;
use std::pin::Pin;

const A: Payer = Payer::Known(1);
const B: Payer = Payer::Known(2);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn gives_out_no_more_than_the_limit() {
    let budget = Budget::new(10);
    let mut first = budget.try_reserve(A, 6).expect("room");
    assert!(budget.try_reserve(A, 5).is_err());
    assert!(budget.try_spare(A, 1).is_none());
    first.add(budget.try_reserve(A, 1).expect("room"));
    assert_eq!(budget.used(), 7);
    first.shrink_to(2);
    assert_eq!(budget.used(), 2);
    assert!(budget.try_spare(A, 3).is_some());
    drop(first);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_wish_beyond_the_limit_waits_for_all_of_it() {
    let budget = Budget::new(4096);
    let held = budget.reserve(A, 1 << 40, LONG).await.expect("room");
    assert_eq!(budget.used(), 4096);
    assert!(budget.try_reserve(A, 1).is_err());
    drop(held);
    assert!(budget.try_reserve(A, 4096).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_or_told_in_time() {
    let budget = Budget::new(10);
    let held = budget.try_reserve(A, 8).expect("room");
    let begun = Instant::now();
    let busy = budget.reserve(A, 5, Duration::from_secs(3)).await;
    assert_eq!((busy.err(), begun.elapsed().as_secs()), (Some(Busy), 3));
    let mut waits = Box::pin(budget.reserve(A, 5, LONG));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(budget.try_reserve(A, 1).is_err(), "one of its own waits");
    drop(held);
    let got = waits.await.expect("served");
    assert_eq!(budget.used(), 5);
    drop(got);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn who_leaves_the_queue_holds_up_nobody() {
    let budget = Budget::new(100);
    let _held = budget.try_reserve(A, 70).expect("room");
    let mut large = Box::pin(budget.reserve(B, 35, LONG));
    assert!(large.as_mut().now_or_never().is_none());
    let mut small = Box::pin(budget.reserve(A, 1, LONG));
    assert!(
        small.as_mut().now_or_never().is_none(),
        "waits for its turn"
    );
    drop(large);
    assert!(small.now_or_never().expect("its turn").is_ok());
}

#[tokio::test]
async fn one_who_may_not_have_more_holds_up_nobody() {
    let budget = Budget::new(1000);
    drop(budget.try_reserve(B, 1));
    let mut all = Vec::new();
    while let Ok(one) = budget.try_reserve(A, 10) {
        all.push(one);
    }
    assert_eq!(budget.used(), 750);
    let mut more = Box::pin(budget.reserve(A, 10, LONG));
    assert!(more.as_mut().now_or_never().is_none());
    let _others = budget.try_reserve(B, 100).expect("its share");
    // The one who waits is served when it holds so little that it may.
    all.truncate(60);
    assert!(more.now_or_never().expect("its turn").is_ok());
}

#[tokio::test]
async fn who_holds_least_comes_first() {
    let budget = Budget::new(10);
    let held = budget.try_reserve(A, 5).expect("room");
    let other = budget.try_reserve(A, 5).expect("room");
    let mut rich = Box::pin(budget.reserve(A, 5, LONG));
    assert!(rich.as_mut().now_or_never().is_none());
    let mut poor = Box::pin(budget.reserve(B, 5, LONG));
    assert!(poor.as_mut().now_or_never().is_none());
    drop(held);
    let _poor = poor.now_or_never().expect("first").expect("served");
    assert!(rich.as_mut().now_or_never().is_none());
    drop(other);
    assert!(rich.now_or_never().expect("then").is_ok());
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Reservation, Busy>> + 'a>>;

proptest! {
    /// Whatever happens in whatever order: the limit holds, and when all that was given out has
    /// come back, nobody waits any more.
    #[test]
    fn nobody_waits_for_ever(steps in prop::collection::vec((0..4_u8, 0..3_u64, 1..40_u64), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let budget = Budget::new(100);
            let mut held: Vec<Reservation> = Vec::new();
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            let settle = |waiting: &mut Vec<Waiting<'_>>, held: &mut Vec<Reservation>| {
                waiting.retain_mut(|one| match one.as_mut().now_or_never() {
                    None => true,
                    Some(got) => { held.extend(got); false }
                });
            };
            for (what, payer, amount) in steps {
                let payer = Payer::Known(payer);
                match what {
                    0 => held.extend(budget.try_reserve(payer, amount)),
                    1 => waiting.push(Box::pin(budget.reserve(payer, amount, LONG))),
                    2 if !held.is_empty() => drop(held.swap_remove(amount as usize % held.len())),
                    3 if !waiting.is_empty() => {
                        drop(waiting.swap_remove(amount as usize % waiting.len()));
                    }
                    _nothing => {}
                }
                settle(&mut waiting, &mut held);
                let sum: u64 = held.iter().map(|one| one.amount).sum();
                assert!(budget.used() >= sum && budget.used() <= 100);
            }
            for _ in 0..1_000 {
                if held.is_empty() && waiting.is_empty() { break }
                held.clear();
                settle(&mut waiting, &mut held);
            }
            assert_eq!((held.len(), waiting.len(), budget.used()), (0, 0, 0));
        });
    }
}
