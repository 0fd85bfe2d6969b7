//! Changes of members: what is the next step towards what was asked for, one change at a time.
//!
//! The steps are pure; `Knocks` and `AskedChanges` read the clock to forget what is old, and the
//! driver takes the step in the last part. A change is asked for again and again until it is done,
//! so that nothing has to be remembered through a change of leaders: what counts is in the members
//! themselves. A new member is a learner until it has caught up; then one joint change makes it a
//! voter and removes those whose place it takes.

use super::driver::Driver;
use super::membership::{self, ChangeKind};
use crate::log::{Conf, node_of};
use ::raft::{ProgressState, StateRole};
use megalith_model::ids::NodeId;
use megalith_model::member::{ChangeStanding, Losses, MemberChange};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A learner becomes a voter when it lacks no more entries than this.
const BEHIND_MAX: u64 = 1024;
/// A node that has not knocked for this long doesn't run.
const KNOCK_MAX: Duration = Duration::from_secs(10);
/// An operator or a member that has not asked for a change for this long has given it up.
const ASKED_MAX: Duration = Duration::from_secs(10);

/// This member does not lead; `hint` does, if it is known who does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader {
    pub hint: Option<NodeId>,
}

/// A member that knocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knock {
    /// Under which it speaks.
    pub(crate) id: u64,
    /// `host:port` of its listener.
    pub(crate) address: String,
    /// It has never taken part and only asks whether this member has.
    pub(crate) fresh: bool,
    /// Why it has a new id, and what else befell its disk.
    pub(crate) losses: Losses,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KnockAnswer {
    /// This member has never taken part either.
    Fresh,
    /// Another one leads, or none that is known.
    NotLeader(Option<NodeId>),
    Voter,
    UnderWay(String),
    /// Nobody has let its node in.
    Stranger,
}

/// Who has knocked at this leader.
#[derive(Default)]
pub(super) struct Knocks(HashMap<NodeId, (Knock, Instant)>);

impl Knocks {
    /// Who a node is that runs and has knocked lately.
    fn lately(&self, node: NodeId) -> Option<&Knock> {
        let (knock, at) = self.0.get(&node)?;
        (at.elapsed() < KNOCK_MAX).then_some(knock)
    }

    /// What a member has said of its disk. Nothing of an earlier life of its node.
    pub(super) fn losses(&self, node: NodeId, id: u64) -> Losses {
        let knock = self.lately(node).filter(|knock| knock.id == id);
        knock.map_or_else(Losses::default, |knock| knock.losses.clone())
    }
}

/// What operators ask for, from the first time that they did to the last.
#[derive(Default)]
pub(super) struct AskedChanges(HashMap<MemberChange, (Instant, Instant)>);

impl AskedChanges {
    /// For how long a change is being asked for, now included.
    fn again(&mut self, change: MemberChange) -> Duration {
        let now = Instant::now();
        self.0.retain(|_, (_, last)| last.elapsed() < ASKED_MAX);
        let (first, last) = self.0.entry(change).or_insert((now, now));
        *last = now;
        now - *first
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done(String),
    Wait(String),
    Refuse(String),
    /// Another voter has to lead first.
    HandOver,
    Propose {
        changes: Vec<(ChangeKind, u64)>,
        address: String,
        what: String,
    },
}

/// The group as its leader sees it.
struct View<'a> {
    conf: &'a Conf,
    own: u64,
    /// An entry that changes members is not applied yet.
    pending: bool,
    /// Entries that a member lacks; None if nothing is known of it.
    behind: &'a dyn Fn(u64) -> Option<u64>,
    alive: &'a dyn Fn(u64) -> bool,
    /// Who is alive has been heard since the change was asked for. Before, `alive` may still hold
    /// for one that died a moment ago.
    settled: bool,
    knock: &'a dyn Fn(NodeId) -> Option<&'a Knock>,
}

impl View<'_> {
    /// Why nothing can be done now for any of `subjects`.
    fn busy(&self, subjects: &[NodeId]) -> Option<Step> {
        let conf = self.conf;
        let concerns = |id: u64| node_of(id).is_some_and(|node| subjects.contains(&node));
        let other = |ids: &[u64]| ids.iter().copied().find(|&id| !concerns(id));
        if conf.is_joint() {
            let changed = |id: &u64| conf.voters.contains(id) != conf.voters_outgoing.contains(id);
            let changed: Vec<u64> = conf.members().into_iter().filter(changed).collect();
            if let Some(id) = changed
                .first()
                .copied()
                .filter(|_| !changed.iter().any(|&id| concerns(id)))
            {
                return Some(Step::Refuse(another_is_under_way(id)));
            }
            return Some(if self.pending {
                Step::Wait("the change is being committed".to_owned())
            } else {
                Step::Propose {
                    changes: Vec::new(),
                    address: String::new(),
                    what: "the old configuration is being left".to_owned(),
                }
            });
        }
        if let Some(id) = other(&conf.learners) {
            return Some(Step::Refuse(another_is_under_way(id)));
        }
        self.pending
            .then(|| Step::Wait("a change of members is being committed".to_owned()))
    }

    fn plan(&self, change: MemberChange) -> Step {
        let subjects = match change {
            MemberChange::Add(node) | MemberChange::Remove(node) => vec![node],
            MemberChange::Replace { old, new } => vec![old, new],
        };
        if let Some(step) = self.busy(&subjects) {
            return step;
        }
        match change {
            MemberChange::Add(node) => self.add(node),
            MemberChange::Remove(node) => self.remove(node),
            MemberChange::Replace { old, new } if old == new => self.renew(old),
            MemberChange::Replace { old, new } => self.replace(old, new),
        }
    }

    fn add(&self, node: NodeId) -> Step {
        let ids = self.conf.ids_of(node);
        match (self.knock)(node) {
            Some(knock) => self.admit(knock, &ids),
            None if ids.iter().any(|id| self.conf.voters.contains(id)) => {
                Step::Done(format!("{node} is a member"))
            }
            None => not_knocking(node),
        }
    }

    /// A node whose log is lost comes back by itself, as soon as it runs; this only looks on.
    fn renew(&self, node: NodeId) -> Step {
        let ids = self.conf.ids_of(node);
        let knock = (self.knock)(node);
        match *ids {
            [] => return Step::Refuse(format!("{node} is no member: use `meta add`")),
            [id] if self.conf.voters.contains(&id) && knock.is_none_or(|knock| knock.id == id) => {
                return match ((self.alive)(id), self.settled) {
                    (true, true) => Step::Done(format!("{node} is a member and heard from")),
                    (true, false) => still_listening(),
                    (false, _) => not_knocking(node),
                };
            }
            [..] => {}
        }
        knock.map_or_else(|| not_knocking(node), |knock| self.admit(knock, &ids))
    }

    fn replace(&self, old: NodeId, new: NodeId) -> Step {
        let (going, there) = (self.conf.ids_of(old), self.conf.ids_of(new));
        let votes = there.iter().any(|id| self.conf.voters.contains(id));
        match (going.is_empty(), votes) {
            (true, true) => Step::Done(format!("{new} is a member in the place of {old}")),
            (true, false) => Step::Refuse(format!("{old} is no member")),
            (false, true) => Step::Refuse(format!(
                "{new} is a member already: use `meta remove` for {old}"
            )),
            (false, false) => match (self.knock)(new) {
                Some(knock) => self.admit(knock, &[going, there].concat()),
                None => not_knocking(new),
            },
        }
    }

    /// Makes the one who knocks a learner, then a voter in the place of `others`.
    fn admit(&self, knock: &Knock, others: &[u64]) -> Step {
        let (conf, id) = (self.conf, knock.id);
        let others: Vec<u64> = others
            .iter()
            .copied()
            .filter(|&other| other != id)
            .collect();
        let name = node_of(id).map_or_else(String::new, |node| node.to_string());
        let removals = others.iter().map(|&other| (ChangeKind::Remove, other));
        if conf.voters.contains(&id) {
            return if others.is_empty() {
                Step::Done(format!("{name} is a member"))
            } else {
                Step::Propose {
                    changes: removals.collect(),
                    address: String::new(),
                    what: format!("{name} is a voter, its former lives are being removed"),
                }
            };
        }
        if conf.learners.contains(&id) {
            return match (self.behind)(id) {
                Some(behind) if behind <= BEHIND_MAX => Step::Propose {
                    changes: [(ChangeKind::Voter, id)]
                        .into_iter()
                        .chain(removals)
                        .collect(),
                    address: String::new(),
                    what: format!("{name} has caught up and becomes a voter"),
                },
                Some(behind) => Step::Wait(format!("{name} is {behind} entries behind")),
                None => Step::Wait(format!("{name} is fetching a snapshot")),
            };
        }
        // A learner of an earlier life will never catch up any more.
        let stale = removals.filter(|(_, other)| conf.learners.contains(other));
        Step::Propose {
            changes: [(ChangeKind::Learner, id)]
                .into_iter()
                .chain(stale)
                .collect(),
            address: knock.address.clone(),
            what: format!("{name} becomes a learner"),
        }
    }

    fn remove(&self, node: NodeId) -> Step {
        let ids = self.conf.ids_of(node);
        if ids.is_empty() {
            return Step::Done(format!("{node} is no member"));
        }
        if ids.contains(&self.own) {
            return if self.conf.voters.len() == 1 {
                Step::Refuse(format!("{node} is the only voter"))
            } else {
                Step::HandOver
            };
        }
        let rest: Vec<u64> = self
            .conf
            .voters
            .iter()
            .copied()
            .filter(|id| !ids.contains(id))
            .collect();
        let alive = rest.iter().filter(|&&id| (self.alive)(id)).count();
        if alive <= rest.len() / 2 {
            return Step::Refuse(format!(
                "without {node} only {alive} of {} voters are heard from, which is no majority",
                rest.len()
            ));
        }
        if !self.settled {
            return still_listening();
        }
        Step::Propose {
            changes: ids.into_iter().map(|id| (ChangeKind::Remove, id)).collect(),
            address: String::new(),
            what: format!("{node} is being removed"),
        }
    }

    /// The way of a member that knocks by itself: only one whose node is a member in another life.
    fn rejoin(&self, knock: &Knock) -> Option<Step> {
        let node = node_of(knock.id)?;
        let ids = self.conf.ids_of(node);
        if ids.is_empty() {
            return None;
        }
        if self.conf.voters.contains(&knock.id) && ids.len() == 1 {
            return Some(Step::Done(String::new()));
        }
        // One that an operator adds is made a voter at the operator's word.
        if ids == [knock.id] {
            return Some(Step::Wait(format!("{node} is a learner")));
        }
        Some(
            self.busy(&[node])
                .unwrap_or_else(|| self.admit(knock, &ids)),
        )
    }
}

fn another_is_under_way(id: u64) -> String {
    let node = node_of(id).map_or_else(String::new, |node| node.to_string());
    format!("another change is under way: {node} is being added or replaced; one at a time")
}

fn still_listening() -> Step {
    Step::Wait("listening for the members, to know who of them is alive".to_owned())
}

fn not_knocking(node: NodeId) -> Step {
    Step::Wait(format!(
        "{node} does not ask to be let in: it must run, with this group's members in its settings \
         and a metadata directory that has no other place in the group"
    ))
}

impl Driver {
    /// Answers a member that knocks; a leader takes its next step.
    pub(super) fn knocked(&mut self, knock: Knock) -> KnockAnswer {
        if self.is_fresh() {
            return KnockAnswer::Fresh;
        }
        if self.raw.raft.state != StateRole::Leader {
            return KnockAnswer::NotLeader(node_of(self.raw.raft.leader_id));
        }
        let Some(node) = node_of(knock.id).filter(|_| !knock.fresh) else {
            return KnockAnswer::UnderWay("there is a group".to_owned());
        };
        let first = self.knocks.0.insert(node, (knock.clone(), Instant::now()));
        self.forget_other_lives(node, knock.id);
        let step = self.view(false, |view| view.rejoin(&knock));
        // One that votes again is whole: every new leader hears of its loss, and it is no news.
        let (id, lost) = (knock.id, &knock.losses.lost);
        let news = first.is_none_or(|(before, _)| before.id != id) && !lost.is_empty();
        if news && !matches!(step, Some(Step::Done(_))) {
            tracing::error!(%node, id, lost, "a metadata member has lost its log");
        }
        match step {
            None => KnockAnswer::Stranger,
            Some(Step::Done(_)) => KnockAnswer::Voter,
            Some(step) => match self.take_step(step) {
                ChangeStanding::Done(how)
                | ChangeStanding::UnderWay(how)
                | ChangeStanding::Refused(how) => KnockAnswer::UnderWay(how),
            },
        }
    }

    /// Takes the next step of an operator's change.
    pub(super) fn change(&mut self, change: MemberChange) -> Result<ChangeStanding, NotLeader> {
        if self.raw.raft.state != StateRole::Leader {
            return Err(NotLeader {
                hint: node_of(self.raw.raft.leader_id),
            });
        }
        let settled = self.asked.again(change) > self.alive_for();
        let step = self.view(settled, |view| view.plan(change));
        Ok(self.take_step(step))
    }

    fn view<R>(&self, settled: bool, look: impl FnOnce(&View<'_>) -> R) -> R {
        let raft = &self.raw.raft;
        let committed = raft.raft_log.committed;
        look(&View {
            conf: self.raw.store().log.conf(),
            own: self.member,
            pending: raft.has_pending_conf(),
            behind: &|id| {
                let progress = raft.prs().get(id)?;
                let follows = progress.state != ProgressState::Snapshot && progress.matched > 0;
                follows.then(|| committed.saturating_sub(progress.matched))
            },
            alive: &|id| self.is_alive(id),
            settled,
            knock: &|node| self.knocks.lately(node),
        })
    }

    fn take_step(&mut self, step: Step) -> ChangeStanding {
        match step {
            Step::Done(how) => ChangeStanding::Done(how),
            Step::Wait(why) => ChangeStanding::UnderWay(why),
            Step::Refuse(why) => ChangeStanding::Refused(why),
            Step::HandOver => {
                let Some(next) = self.successor() else {
                    return ChangeStanding::Refused("no other voter could lead".to_owned());
                };
                self.raw.transfer_leader(next);
                ChangeStanding::UnderWay("another member is to lead first".to_owned())
            }
            Step::Propose {
                changes,
                address,
                what,
            } => {
                let change = membership::encode(&changes, &address);
                match self.raw.propose_conf_change(Vec::new(), change) {
                    Ok(()) => {
                        tracing::info!(?changes, what, "changing the metadata members");
                        ChangeStanding::UnderWay(what)
                    }
                    Err(error) => ChangeStanding::UnderWay(format!("not taken yet: {error}")),
                }
            }
        }
    }

    /// The voter that is the furthest of those alive, but for this one. A clock that is far from
    /// the majority's rules a voter out, as long as there is another.
    pub(super) fn successor(&self) -> Option<u64> {
        let voters = &self.raw.store().log.conf().voters;
        let others = voters.iter().copied().filter(|&id| id != self.member);
        others.filter(|&id| self.is_alive(id)).max_by_key(|&id| {
            let progress = self.raw.raft.prs().get(id);
            let matched = progress.map(|progress| progress.matched);
            (self.has_right_clock(id), matched)
        })
    }
}

#[cfg(test)]
mod tests;
