//! Where the other members are: names by node, looked up again at every connection.
//!
//! Four sources, the first that knows wins: what the group itself says of members that came
//! later, what was remembered from then on, the settings, and whom another member names as its
//! leader. A wrong address does no harm, for a
//! peer's certificate says who it is; so all that are known are tried in turn.

use crate::log::{Conf, node_of};
use megalith_model::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The addresses of one member's peers.
#[derive(Debug)]
pub struct AddressBook {
    own: NodeId,
    configured: BTreeMap<NodeId, String>,
    state: Mutex<State>,
    told: watch::Sender<Told>,
}

/// The members with the addresses that others are told.
pub(crate) type Told = Arc<Vec<(NodeId, String)>>;

#[derive(Debug, Default)]
struct State {
    learnt: BTreeMap<NodeId, String>,
    /// The group's members as last known; empty if that was never known.
    members: BTreeSet<NodeId>,
    /// The leader, as another member has named it last.
    leader: Option<(NodeId, String)>,
    turns: HashMap<NodeId, usize>,
}

impl AddressBook {
    /// Makes the book of `own` from the settings; its own entry is what it tells others.
    #[must_use]
    pub fn new(own: NodeId, configured: BTreeMap<NodeId, String>) -> Self {
        Self {
            own,
            configured,
            state: Mutex::default(),
            told: watch::Sender::default(),
        }
    }

    /// Returns the address to try now, another one at each call if several are known.
    #[must_use]
    pub fn next(&self, node: NodeId) -> Option<String> {
        let mut state = self.state();
        let learnt = state.learnt.get(&node).cloned();
        let configured = self.configured.get(&node).cloned();
        let configured = configured.filter(|address| Some(address) != learnt.as_ref());
        let named = state.leader.iter().filter(|(leader, _)| *leader == node);
        let named = named.map(|(_, address)| address.clone()).next();
        let mut known: Vec<String> = learnt.into_iter().chain(configured).collect();
        known.extend(named.filter(|named| !known.contains(named)));
        let turn = state.turns.entry(node).or_default();
        let chosen = known.get(turn.checked_rem(known.len())?).cloned();
        *turn = turn.wrapping_add(1);
        chosen
    }

    /// Returns the address that others are told; empty if none is known.
    #[must_use]
    pub fn told(&self, node: NodeId) -> String {
        let learnt = self.state().learnt.get(&node).cloned();
        let known = learnt.or_else(|| self.configured.get(&node).cloned());
        known.unwrap_or_default()
    }

    /// Returns the address that this member tells of itself.
    #[must_use]
    pub fn own(&self) -> String {
        self.configured.get(&self.own).cloned().unwrap_or_default()
    }

    /// Returns every other node that may be a member.
    #[must_use]
    pub fn others(&self) -> Vec<NodeId> {
        let state = self.state();
        let known = state.members.iter().chain(self.configured.keys());
        let known = known.chain(state.leader.iter().map(|(leader, _)| leader));
        let all: BTreeSet<NodeId> = known.copied().filter(|&node| node != self.own).collect();
        all.into_iter().collect()
    }

    /// Takes whom another member names as its leader; true if that is news.
    pub(crate) fn named_leader(&self, node: NodeId, address: &str) -> bool {
        let named = Some((node, address.to_owned())).filter(|_| !address.is_empty());
        let mut state = self.state();
        let news = named.is_some() && named != state.leader;
        state.leader = named.or_else(|| state.leader.take());
        news
    }

    /// True if there is no other member, as far as is known.
    #[must_use]
    pub fn alone(&self) -> bool {
        let state = self.state();
        let mut members: Box<dyn Iterator<Item = &NodeId>> = if state.members.is_empty() {
            Box::new(self.configured.keys())
        } else {
            Box::new(state.members.iter())
        };
        members.all(|&node| node == self.own)
    }

    /// Takes what the group says of itself.
    pub fn learn(&self, conf: &Conf) {
        let mut state = self.state();
        state.members = conf.members().into_iter().filter_map(node_of).collect();
        for (&id, address) in &conf.addresses {
            if let Some(node) = node_of(id) {
                state.learnt.insert(node, address.clone());
            }
        }
        drop(state);
        let mut told = self.remembered();
        told.retain(|(_, address)| !address.is_empty());
        self.told.send_if_modified(|held| {
            let changed = **held != told;
            *held = Arc::new(told);
            changed
        });
    }

    /// Returns the members as others are told them, as the group's own word changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Returns the members with the addresses of those that have one, for a file.
    pub(crate) fn remembered(&self) -> Vec<(NodeId, String)> {
        let members = self.state().members.clone();
        let with_address = |node| (node, self.told(node));
        members.into_iter().map(with_address).collect()
    }

    /// Takes what a file said.
    pub(crate) fn remember(&self, members: Vec<(NodeId, String)>) {
        let mut state = self.state();
        for (node, address) in members {
            state.members.insert(node);
            if !address.is_empty() {
                state.learnt.insert(node, address);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_group_says_goes_first_and_all_are_tried() {
        let configured = [(1, "one:1"), (2, "two:1")];
        let configured = configured.map(|(node, at)| (NodeId(node), at.to_owned()));
        let book = AddressBook::new(NodeId(1), configured.into());
        assert_eq!(book.own(), "one:1");
        assert_eq!(book.others(), [NodeId(2)]);
        assert!(!book.alone());
        let mut conf = Conf::of_voters([NodeId(1)]);
        book.learn(&conf);
        assert!(book.alone(), "the group says so, whatever the settings do");
        let later = 7 << 32 | 2;
        conf.learners.push(later);
        conf.addresses.insert(later, "two:2".to_owned());
        book.learn(&conf);
        assert!(!book.alone());
        assert_eq!(book.told(NodeId(2)), "two:2");
        let tried: Vec<_> = (0..3).filter_map(|_| book.next(NodeId(2))).collect();
        assert_eq!(tried, ["two:2", "two:1", "two:2"]);
        assert_eq!(book.next(NodeId(9)), None);
    }

    #[test]
    fn a_leader_that_no_settings_name_is_tried_where_another_member_says_it_is() {
        let book = AddressBook::new(NodeId(1), [(NodeId(2), "two:1".to_owned())].into());
        assert!(!book.named_leader(NodeId(9), ""), "it says nothing");
        assert!(book.named_leader(NodeId(9), "nine:1"));
        assert!(!book.named_leader(NodeId(9), "nine:1"), "known");
        assert_eq!(book.others(), [NodeId(2), NodeId(9)]);
        assert_eq!(book.next(NodeId(9)).as_deref(), Some("nine:1"));
        assert!(book.named_leader(NodeId(2), "two:2"));
        let tried: Vec<_> = (0..3).filter_map(|_| book.next(NodeId(2))).collect();
        assert_eq!(tried, ["two:1", "two:2", "two:1"]);
        assert_eq!(book.others(), [NodeId(2)]);
    }
}
