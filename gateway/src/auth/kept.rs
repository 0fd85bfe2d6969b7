//! What a gateway remembers of access keys, and when it may ask for one that it doesn't know.
//!
//! Owns the decision; knows no clock and asks nobody. Must never let ids that were made up push out
//! a key that works, nor let them be asked for without limit.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a credential is kept: a disabled key works no longer than this.
pub const KEPT_FOR: Duration = Duration::from_secs(2);
/// How long it is remembered that a key doesn't exist.
const MISSING_KEPT_FOR: Duration = Duration::from_secs(1);
/// The most keys that work, and apart from them the most ids without one, that are remembered.
const KEPT_MAX: usize = 16_384;
/// The most questions a second for ids that anybody may have made up, and how many may come at
/// once.
pub(super) const QUESTIONS_PER_S: u32 = 200;

/// What is remembered, of keys that are a `V` if they work.
pub(super) struct Kept<V> {
    /// Keys that worked when they were last asked for. One that is too old to be used still says
    /// that its id was not made up.
    working: Generations<(Instant, V)>,
    /// When an id was asked for that has no key that works.
    missing: Generations<Instant>,
    questions: Questions,
}

/// What to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recalled<V> {
    Works(V),
    Missing,
    /// The metadata group must be asked.
    Ask,
    /// It would have to be asked, but too much was asked already.
    Busy,
}

impl<V: Clone> Kept<V> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            working: Generations::new(KEPT_MAX),
            missing: Generations::new(KEPT_MAX),
            questions: Questions::new(now),
        }
    }

    /// Says what is known of an id. `made` says that it was not made up by anybody.
    pub(super) fn recall(&mut self, id: &str, made: bool, now: Instant) -> Recalled<V> {
        let works = self.working.get(id);
        if let Some((since, key)) = works
            && now.duration_since(*since) < KEPT_FOR
        {
            return Recalled::Works(key.clone());
        }
        let missing = self.missing.get(id);
        if missing.is_some_and(|since| now.duration_since(*since) < MISSING_KEPT_FOR) {
            return Recalled::Missing;
        }
        if made || works.is_some() || self.questions.take(now) {
            Recalled::Ask
        } else {
            Recalled::Busy
        }
    }

    /// Remembers what came of a question asked at `asked`: the limits are about the age of what is
    /// known, and that is counted from the question. A later question's answer stays.
    pub(super) fn keep(&mut self, id: &str, asked: Instant, found: Option<V>) {
        let newer = |since: Instant| since > asked;
        if self.working.get(id).is_some_and(|(since, _)| newer(*since))
            || self.missing.get(id).copied().is_some_and(newer)
        {
            return;
        }
        match found {
            Some(key) => {
                self.missing.remove(id);
                self.working.insert(id, (asked, key));
            }
            None => {
                self.working.remove(id);
                self.missing.insert(id, asked);
            }
        }
    }
}

/// The last entries of a map: between half of `max` and `max` of them, once there were as many.
struct Generations<V> {
    young: HashMap<String, V>,
    old: HashMap<String, V>,
    max: usize,
}

impl<V> Generations<V> {
    fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            max,
        }
    }

    fn get(&self, id: &str) -> Option<&V> {
        self.young.get(id).or_else(|| self.old.get(id))
    }

    fn insert(&mut self, id: &str, value: V) {
        self.remove(id);
        if self.young.len() >= self.max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id.to_owned(), value);
    }

    fn remove(&mut self, id: &str) {
        self.young.remove(id);
        self.old.remove(id);
    }
}

/// Questions that may be asked: `QUESTIONS_PER_S` come back each second, up to as many.
struct Questions {
    left: f64,
    counted: Instant,
}

impl Questions {
    fn new(now: Instant) -> Self {
        Self {
            left: f64::from(QUESTIONS_PER_S),
            counted: now,
        }
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let most = f64::from(QUESTIONS_PER_S);
        let came = now.duration_since(self.counted).as_secs_f64() * most;
        self.left = (self.left + came).min(most);
        self.counted = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_key_is_asked_for_again_when_it_is_old() {
        let start = Instant::now();
        let mut kept = Kept::new(start);
        assert_eq!(kept.recall("a", true, start), Recalled::Ask);
        kept.keep("a", start, Some(1));
        assert_eq!(
            kept.recall("a", true, start + KEPT_FOR - MS),
            Recalled::Works(1)
        );
        assert_eq!(kept.recall("a", true, start + KEPT_FOR), Recalled::Ask);
        kept.keep("a", start + KEPT_FOR, None);
        let then = start + KEPT_FOR + MISSING_KEPT_FOR;
        assert_eq!(kept.recall("a", true, then - MS), Recalled::Missing);
        assert_eq!(kept.recall("a", true, then), Recalled::Ask);
    }

    /// Answers may come in another order than their questions.
    #[test]
    fn an_older_answer_changes_nothing() {
        let start = Instant::now();
        let mut kept = Kept::new(start);
        kept.keep("a", start + MS, None);
        kept.keep("a", start, Some(1));
        assert_eq!(kept.recall("a", true, start + MS), Recalled::Missing);
        kept.keep("a", start + 2 * MS, Some(1));
        kept.keep("a", start + MS, None);
        assert_eq!(kept.recall("a", true, start + 2 * MS), Recalled::Works(1));
    }

    #[test]
    fn a_flood_of_made_up_ids_pushes_out_no_key_and_is_asked_for_within_a_limit() {
        let start = Instant::now();
        let mut kept = Kept::new(start);
        kept.keep("known", start, Some(1));
        let mut asked = 0;
        let seconds = 100;
        for i in 0..seconds * 2_000_u32 {
            let now = start + i * MS / 2;
            let id = format!("made up {i}");
            match kept.recall(&id, false, now) {
                Recalled::Ask => {
                    asked += 1;
                    kept.keep(&id, now, None);
                }
                Recalled::Busy => {}
                other @ (Recalled::Works(_) | Recalled::Missing) => panic!("{other:?} of {id}"),
            }
            if i % 1_000 == 0 {
                // A key that worked is asked for whatever else is.
                match kept.recall("known", false, now) {
                    Recalled::Works(1) => {}
                    Recalled::Ask => kept.keep("known", now, Some(1)),
                    other @ (Recalled::Works(_) | Recalled::Missing | Recalled::Busy) => {
                        panic!("{other:?} of the known key")
                    }
                }
                assert_eq!(kept.recall(&format!("made {i}"), true, now), Recalled::Ask);
            }
        }
        // As many at once, and then as many in each second.
        assert!(asked <= (seconds + 1) * QUESTIONS_PER_S, "{asked}");
        assert!(asked >= seconds * QUESTIONS_PER_S - 1, "{asked}");
        assert!(kept.missing.young.len() + kept.missing.old.len() <= KEPT_MAX);
    }

    /// Within the limit nothing is forgotten within a second.
    #[test]
    fn an_unknown_id_is_asked_for_once_a_second_whatever_else_is() {
        assert!(QUESTIONS_PER_S as usize * 2 < KEPT_MAX / 2);
        let start = Instant::now();
        let mut kept: Kept<u8> = Kept::new(start);
        let mut asked = 0;
        for i in 0..10_000 {
            let now = start + i * MS;
            if kept.recall("unknown", false, now) == Recalled::Ask {
                asked += 1;
                kept.keep("unknown", now, None);
            }
            let other = format!("other {i}");
            if i % 10 == 0 && kept.recall(&other, false, now) == Recalled::Ask {
                kept.keep(&other, now, None);
            }
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn the_last_half_at_least_is_remembered() {
        let mut map = Generations::new(8);
        for i in 0..100 {
            map.insert(&i.to_string(), i);
            for last in (i - 3).max(0)..=i {
                assert_eq!(map.get(&last.to_string()), Some(&last));
            }
            assert!(map.young.len() + map.old.len() <= 8);
        }
        // One that is there takes no second place.
        map.insert("99", 0);
        assert_eq!(map.get("99"), Some(&0));
        map.remove("99");
        assert_eq!(map.get("99"), None);
    }
}
