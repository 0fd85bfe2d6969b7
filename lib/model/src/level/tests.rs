//! Who holds a level back, and what is said of it.

use super::*;

fn range(lowest: u32, highest: u32) -> LevelRange {
    LevelRange {
        lowest: Level(lowest),
        highest: Level(highest),
    }
}

fn heard(process: Process, lowest: u32, highest: u32) -> ProcessLevels {
    ProcessLevels {
        process,
        known: Some(range(lowest, highest)),
    }
}

fn silent(process: Process) -> ProcessLevels {
    ProcessLevels {
        process,
        known: None,
    }
}

fn status(processes: Vec<ProcessLevels>) -> LevelStatus {
    LevelStatus {
        level: Level(2),
        highest: Level(4),
        processes,
    }
}

#[test]
fn a_program_runs_the_levels_of_its_range_and_says_what_to_do_at_others() {
    assert_eq!(range(2, 3).check(Level(2)), Ok(()));
    assert_eq!(range(2, 3).check(Level(3)), Ok(()));
    let above = range(2, 3).check(Level(4)).expect_err("too old");
    assert_eq!(
        above.to_string(),
        "the cluster is at level 4, and this program runs levels 2 to 3: upgrade it; its data is \
         untouched, and a newer program goes on from there"
    );
    let below = range(3, 3).check(Level(2)).expect_err("too new");
    assert_eq!(
        below.to_string(),
        "the cluster is at level 2, and this program runs level 3: run an older one, and raise the \
         level with `megalith meta raise-level` first"
    );
}

#[test]
fn a_level_is_raised_when_every_process_can_run_it() {
    let (member, node) = (Process::Member(1), Process::Storage(2));
    let gateway = Process::Gateway(3);
    let all = status(vec![
        heard(member, 1, 4),
        heard(node, 1, 3),
        heard(gateway, 2, 4),
    ]);
    assert_eq!(all.may_raise(Level(3), false), Ok(()));
    assert_eq!(
        all.may_raise(Level(4), false),
        Err("level 4 is held back: storage node 2 runs levels 1 to 3".to_owned())
    );
    assert_eq!(all.may_raise(Level(2), false), Ok(()), "again");
    assert_eq!(
        all.may_raise(Level(1), false),
        Err("the cluster is at level 2; it is never lowered".to_owned())
    );
    assert_eq!(
        all.may_raise(Level(5), false),
        Err("the leader's program runs no level above 4".to_owned())
    );
}

#[test]
fn who_is_not_heard_holds_a_level_back_unless_the_operator_says_otherwise() {
    let (member, node) = (Process::Member(1), Process::Storage(2));
    let gateway = Process::Gateway(3);
    let some = status(vec![heard(member, 1, 4), silent(node), silent(gateway)]);
    assert_eq!(
        some.may_raise(Level(3), false),
        Err("level 3 is held back: storage node 2 is not heard, gateway 3 is not heard".to_owned())
    );
    assert_eq!(some.may_raise(Level(3), true), Ok(()));
    // A member that can't go on might be needed for a majority.
    let members = status(vec![heard(member, 1, 4), silent(Process::Member(2))]);
    assert!(members.may_raise(Level(3), true).is_err());
    // One that is heard and can't always counts.
    let old = status(vec![heard(node, 1, 2)]);
    assert!(old.may_raise(Level(3), true).is_err());
}

#[test]
fn a_command_above_the_clusters_level_is_refused_and_changes_nothing() {
    use crate::codec::encode;
    use crate::command::Refusal;
    use crate::entry::Entry;
    use crate::keys::{Meta, RowKey};
    use crate::machine::apply;
    use crate::table::{MemRows, Overlay};
    // No command needs more than the first level yet: so the cluster is below it.
    let level = Level(0);
    let mut rows = MemRows::default();
    let mut overlay = Overlay::new(&rows);
    overlay.put(RowKey::Meta(Meta::Level).encode(), encode(&level));
    let batch = overlay.into_batch();
    rows.write(batch);
    let create = Envelope {
        key: None,
        command: crate::machine::tests::account("ann", 1),
    };
    let mut overlay = Overlay::new(&rows);
    let refused = apply(&mut overlay, &Entry::new(1, create)).expect("rows in memory");
    let needs = Level::FIRST;
    assert_eq!(refused, Err(Refusal::Level { needs, level }));
    assert!(overlay.into_batch().is_empty());
}

#[test]
fn the_level_is_raised_and_never_lowered() {
    use crate::machine::{level_of_cluster, tests::World};
    let mut world = World::ready();
    let level = |world: &World| level_of_cluster(&world.rows).expect("rows in memory");
    assert_eq!(level(&world), None, "it has no name");
    let init = |level| Command::InitCluster {
        cluster: crate::ids::ClusterId([1; 16]),
        level: Level(level),
    };
    world.done(init(1));
    assert_eq!(level(&world), Some(Level(1)));
    // Named once, it is raised by nothing else.
    world.done(init(4));
    assert_eq!(level(&world), Some(Level(1)));
    for (raised, now) in [(3, 3), (2, 3), (3, 3)] {
        world.done(Command::RaiseLevel {
            level: Level(raised),
        });
        assert_eq!(level(&world), Some(Level(now)));
    }
    let mut new = World::new();
    new.done(init(4));
    assert_eq!(level(&new), Some(Level(4)));
}

#[test]
fn only_what_raises_the_level_is_looked_at_before_it_is_applied() {
    use crate::ids::ClusterId;
    let envelope = |command| Envelope { key: None, command };
    let raise = |level| envelope(Command::RaiseLevel { level });
    assert_eq!(range(1, 2).check_command(&raise(Level(2))), Ok(()));
    assert!(range(1, 2).check_command(&raise(Level(3))).is_err());
    // It lowers nothing.
    assert_eq!(range(2, 2).check_command(&raise(Level(1))), Ok(()));
    let init = envelope(Command::InitCluster {
        cluster: ClusterId([1; 16]),
        level: Level(3),
    });
    assert!(range(1, 2).check_command(&init).is_err());
    let nothing = envelope(Command::Nothing);
    assert_eq!(range(1, 1).check_command(&nothing), Ok(()));
}
