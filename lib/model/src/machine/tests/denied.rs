//! The deny list of certificates.

use super::*;
use crate::answer::deny_list;
use crate::command::Refusal;
use crate::denied::{DENIED_MAX, DeniedCertificate, DenyList};
use crate::role::Role;

fn list(revision: u64, ids: impl IntoIterator<Item = u32>) -> DenyList {
    let denied = ids.into_iter().map(|id| DeniedCertificate {
        role: Role::Gateway,
        id,
        serial: None,
    });
    DenyList {
        revision,
        denied: denied.collect(),
    }
}

#[test]
fn the_deny_list_is_changed_by_who_has_seen_it() {
    let mut world = World::ready();
    let kept = |world: &World| deny_list(&world.rows).expect("readable");
    assert_eq!(kept(&world), DenyList::default());
    for _ in 0..2 {
        // The same command twice is one change.
        world.done(Command::SetDenyList(list(1, [1])));
        assert_eq!(kept(&world), list(1, [1]));
    }
    for late in [list(1, [2]), list(3, [2]), list(0, [])] {
        let refused = world.try_apply(Command::SetDenyList(late));
        assert_eq!(refused, Err(Refusal::Changed));
    }
    world.done(Command::SetDenyList(list(2, [])));
    assert_eq!(kept(&world), list(2, []));
    world.audited();
}

#[test]
fn the_deny_list_is_bounded_and_in_order() {
    let mut world = World::ready();
    let most = u32::try_from(DENIED_MAX).expect("small");
    world.done(Command::SetDenyList(list(1, 0..most)));
    for senseless in [list(2, 0..=most), list(2, [2, 1]), list(2, [1, 1])] {
        let refused = world.try_apply(Command::SetDenyList(senseless));
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    }
    assert_eq!(deny_list(&world.rows).expect("readable"), list(1, 0..most));
    world.audited();
}

/// Processes keep the newest list that they have heard: that of a restore must be newer, whatever
/// was denied after the backup.
#[test]
fn a_restored_deny_list_is_newer_than_any_before() {
    let mut world = World::ready();
    let before = world.rows.clone();
    for rows in [before, {
        world.done(Command::SetDenyList(list(1, [1])));
        world.rows.clone()
    }] {
        let old = deny_list(&rows).expect("readable");
        let mut restored = rows.clone();
        restored.write(crate::restored::changes(&rows).expect("readable"));
        let new = deny_list(&restored).expect("readable");
        assert!(new.revision > 1_000_000);
        assert_eq!(new.denied, old.denied);
    }
}
