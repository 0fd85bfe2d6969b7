//! The next step of a change, from what the leader sees. A member is written `node.life`.

use super::*;

/// What the leader of a group sees.
#[derive(Default)]
struct Seen {
    conf: Conf,
    pending: bool,
    behind: HashMap<u64, u64>,
    silent: Vec<u64>,
    unsettled: bool,
    knocks: HashMap<NodeId, Knock>,
}

fn id(text: &str) -> u64 {
    let (node, life) = text.split_once('.').expect("node.life");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    number(life) << 32 | number(node)
}

fn name(id: u64) -> String {
    format!("{}.{}", node_of(id).expect("a node").0, id >> 32)
}

/// Reads `voters 1.0 2.0; learners 3.1; behind 3.1=10; silent 2.0; knocks 3.1; pending`.
fn seen(text: &str) -> Seen {
    let mut seen = Seen::default();
    for part in text.split("; ") {
        let mut words = part.split(' ');
        let what = words.next().expect("a word");
        let ids = || words.clone().map(id).collect::<Vec<u64>>();
        match what {
            "voters" => seen.conf.voters = ids(),
            "outgoing" => seen.conf.voters_outgoing = ids(),
            "learners" => seen.conf.learners = ids(),
            "silent" => seen.silent = ids(),
            "pending" => seen.pending = true,
            "unsettled" => seen.unsettled = true,
            "knocks" => {
                for id in ids() {
                    let node = node_of(id).expect("a node");
                    let address = format!("{node}:7001");
                    let knock = Knock {
                        id,
                        address,
                        ..Knock::default()
                    };
                    seen.knocks.insert(node, knock);
                }
            }
            "behind" => {
                for word in words {
                    let (member, by) = word.split_once('=').expect("id=entries");
                    seen.behind
                        .insert(id(member), by.parse().expect("a number"));
                }
            }
            other => panic!("unknown word {other}"),
        }
    }
    seen
}

fn look<R>(seen: &Seen, look: impl FnOnce(&View<'_>) -> R) -> R {
    look(&View {
        conf: &seen.conf,
        own: seen.conf.voters[0],
        pending: seen.pending,
        behind: &|id| seen.behind.get(&id).copied(),
        alive: &|id| !seen.silent.contains(&id),
        settled: !seen.unsettled,
        knock: &|node| seen.knocks.get(&node),
    })
}

fn shown(step: Step) -> String {
    match step {
        Step::Done(how) => format!("done: {how}"),
        Step::Wait(why) => format!("wait: {why}"),
        Step::Refuse(why) => format!("refuse: {why}"),
        Step::HandOver => "hand over".to_owned(),
        Step::Propose { changes, .. } if changes.is_empty() => "leave the old".to_owned(),
        Step::Propose { changes, .. } => {
            let changes = changes.into_iter().map(|(kind, id)| match kind {
                ChangeKind::Voter => format!("+{}", name(id)),
                ChangeKind::Learner => format!("~{}", name(id)),
                ChangeKind::Remove => format!("-{}", name(id)),
            });
            changes.collect::<Vec<_>>().join(" ")
        }
    }
}

/// The next step begins with `expected`: learners `~`, voters `+`, removals `-`.
#[track_caller]
fn check(change: MemberChange, group: &str, expected: &str) {
    let step = shown(look(&seen(group), |view| view.plan(change)));
    assert!(step.starts_with(expected), "{change:?} of {group}: {step}");
}

const fn replace(old: u32, new: u32) -> MemberChange {
    MemberChange::Replace {
        old: NodeId(old),
        new: NodeId(new),
    }
}

#[test]
fn a_new_member_learns_before_it_votes() {
    let add = MemberChange::Add(NodeId(4));
    for (group, expected) in [
        ("voters 1.0 2.0 3.0", "wait: node-4 does not ask"),
        ("voters 1.0 2.0 3.0; knocks 4.0", "~4.0"),
        (
            "voters 1.0 2.0 3.0; learners 4.0; knocks 4.0",
            "wait: node-4 is fetching",
        ),
        (
            "voters 1.0 2.0 3.0; learners 4.0; knocks 4.0; behind 4.0=1025",
            "wait: node-4 is 1025",
        ),
        (
            "voters 1.0 2.0 3.0; learners 4.0; knocks 4.0; behind 4.0=1024",
            "+4.0",
        ),
        ("voters 1.0 2.0 3.0; knocks 4.0; pending", "wait: a change"),
        ("voters 1.0 2.0 3.0 4.0; knocks 4.0", "done"),
        ("voters 1.0 2.0 3.0 4.0", "done"),
        // It has lost its log: its former lives go with its first vote.
        ("voters 1.0 2.0 3.0 4.0; knocks 4.1", "~4.1"),
        ("voters 1.0 2.0 3.0; learners 4.0; knocks 4.1", "~4.1 -4.0"),
        (
            "voters 1.0 2.0 3.0 4.0; learners 4.1; knocks 4.1; behind 4.1=0",
            "+4.1 -4.0",
        ),
        ("voters 1.0 2.0 3.0 4.0 4.1; knocks 4.1", "-4.0"),
    ] {
        check(add, group, expected);
    }
}

#[test]
fn changes_go_one_at_a_time() {
    let add = MemberChange::Add(NodeId(4));
    let other = "refuse: another change is under way: node-5";
    for (group, expected) in [
        ("voters 1.0 2.0 3.0; learners 5.0; knocks 4.0", other),
        ("voters 1.0 2.0 5.0; outgoing 1.0 2.0; knocks 4.0", other),
        (
            "voters 1.0 2.0 4.0; outgoing 1.0 2.0 5.0; knocks 4.0; pending",
            "wait: the change is",
        ),
        (
            "voters 1.0 2.0 4.0; outgoing 1.0 2.0 5.0; knocks 4.0",
            "leave the old",
        ),
    ] {
        check(add, group, expected);
    }
}

#[test]
fn nobody_is_removed_on_the_word_of_the_dead() {
    let remove = |node| MemberChange::Remove(NodeId(node));
    check(remove(4), "voters 1.0 2.0 3.0", "done: node-4 is no member");
    check(remove(1), "voters 1.0", "refuse: node-1 is the only voter");
    check(remove(1), "voters 1.0 2.0 3.0", "hand over");
    check(remove(3), "voters 1.0 2.0 3.0", "-3.0");
    check(remove(3), "voters 1.0 2.0 3.0; silent 3.0", "-3.0");
    check(
        remove(3),
        "voters 1.0 2.0 3.0; silent 2.0",
        "refuse: without node-3 only 1 of 2",
    );
    check(
        remove(3),
        "voters 1.0 2.0 3.0; unsettled",
        "wait: listening",
    );
    check(remove(3), "voters 1.0 2.0 3.0 3.1", "-3.0 -3.1");
}

#[test]
fn a_member_in_another_life_is_not_the_member_that_was() {
    for (group, expected) in [
        ("voters 1.0 2.0", "refuse: node-3 is no member"),
        (
            "voters 1.0 2.0 3.0",
            "done: node-3 is a member and heard from",
        ),
        (
            "voters 1.0 2.0 3.0; knocks 3.0",
            "done: node-3 is a member and heard from",
        ),
        ("voters 1.0 2.0 3.0; unsettled", "wait: listening"),
        (
            "voters 1.0 2.0 3.0; silent 3.0",
            "wait: node-3 does not ask",
        ),
        // It was heard under the old id a moment ago, but knocks under a new one.
        ("voters 1.0 2.0 3.0; knocks 3.1", "~3.1"),
        (
            "voters 1.0 2.0 3.0; learners 3.1; knocks 3.1; behind 3.1=0",
            "+3.1 -3.0",
        ),
        (
            "voters 1.0 2.0 3.0; learners 3.1",
            "wait: node-3 does not ask",
        ),
    ] {
        check(replace(3, 3), group, expected);
    }
}

#[test]
fn a_replacement_votes_as_the_other_goes() {
    for (group, expected) in [
        ("voters 1.0 2.0 3.0", "wait: node-4 does not ask"),
        ("voters 1.0 2.0 3.0; knocks 4.0", "~4.0"),
        (
            "voters 1.0 2.0 3.0; learners 4.0; knocks 4.0; behind 4.0=0",
            "+4.0 -3.0",
        ),
        (
            "voters 1.0 2.0 3.0 3.1; learners 4.0; knocks 4.0; behind 4.0=0",
            "+4.0 -3.0 -3.1",
        ),
        (
            "voters 1.0 2.0 4.0",
            "done: node-4 is a member in the place of node-3",
        ),
        (
            "voters 1.0 2.0 3.0 4.0",
            "refuse: node-4 is a member already",
        ),
        ("voters 1.0 2.0", "refuse: node-3 is no member"),
    ] {
        check(replace(3, 4), group, expected);
    }
}

#[test]
fn only_a_member_in_another_life_comes_back_by_itself() {
    for (group, knock, expected) in [
        ("voters 1.0 2.0 3.0", "4.0", "stranger"),
        ("voters 1.0 2.0 3.0", "3.0", "done"),
        ("voters 1.0 2.0 3.0", "3.1", "~3.1"),
        (
            "voters 1.0 2.0 3.0; learners 4.0",
            "4.0",
            "wait: node-4 is a learner",
        ),
        (
            "voters 1.0 2.0 3.0; learners 3.1; behind 3.1=0",
            "3.1",
            "+3.1 -3.0",
        ),
        (
            "voters 1.0 2.0 3.0; learners 5.0",
            "3.1",
            "refuse: another change",
        ),
    ] {
        let knock = Knock {
            id: id(knock),
            ..Knock::default()
        };
        let step = look(&seen(group), |view| view.rejoin(&knock));
        let step = step.map_or_else(|| "stranger".to_owned(), shown);
        assert!(step.starts_with(expected), "{knock:?} at {group}: {step}");
    }
}
