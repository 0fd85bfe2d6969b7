//! Changes of members as they stand in entries, read without raft's own parser: an entry came over
//! the network once.

use super::{RaftError, convert};
use crate::log::{Conf, EntryKind, LogEntry};
use ::raft::eraftpb;
use megalith_proto::v1;
use prost::Message as _;

/// What becomes of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Voter,
    /// It is no member any more.
    Remove,
    /// It only follows.
    Learner,
}

/// A change of several members in one step, by a joint configuration if they are more than one.
/// `address` is that of the member that comes; none changes if it is empty. Without any change:
/// a joint configuration is left.
pub(super) fn encode(changes: &[(ChangeKind, u64)], address: &str) -> eraftpb::ConfChangeV2 {
    let single = |&(kind, node_id): &(ChangeKind, u64)| {
        let mut change = eraftpb::ConfChangeSingle {
            node_id,
            ..eraftpb::ConfChangeSingle::default()
        };
        change.set_change_type(match kind {
            ChangeKind::Voter => eraftpb::ConfChangeType::AddNode,
            ChangeKind::Remove => eraftpb::ConfChangeType::RemoveNode,
            ChangeKind::Learner => eraftpb::ConfChangeType::AddLearnerNode,
        });
        change
    };
    let mut change = eraftpb::ConfChangeV2::default();
    change.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    change.context = address.as_bytes().to_vec().into();
    change
}

/// The members after a change that raft has taken, with the address that came with it.
pub(super) fn changed(
    before: &Conf,
    change: &eraftpb::ConfChangeV2,
    state: &eraftpb::ConfState,
    index: u64,
) -> Conf {
    let mut addresses = before.addresses.clone();
    let comes = change
        .get_changes()
        .iter()
        .find(|single| single.get_change_type() != eraftpb::ConfChangeType::RemoveNode);
    if let Some(comes) = comes.filter(|_| !change.context.is_empty()) {
        let address = String::from_utf8_lossy(&change.context).into_owned();
        addresses.insert(comes.node_id, address);
    }
    convert::conf_from_raft(state, index, &addresses)
}

/// Reads an entry that changes members.
pub(super) fn decode(entry: &LogEntry) -> Result<eraftpb::ConfChangeV2, RaftError> {
    let bad = |what: String| RaftError::Raft(format!("entry {}: {what}", entry.index));
    let mut change = eraftpb::ConfChangeV2::default();
    match entry.kind {
        EntryKind::Normal => return Err(bad("changes no members".to_owned())),
        EntryKind::ConfChange => {
            let wire = v1::RaftConfChange::decode(entry.data.clone())
                .map_err(|error| bad(error.to_string()))?;
            change.set_changes(vec![single(wire.change_type, wire.node_id).map_err(bad)?].into());
        }
        EntryKind::ConfChangeV2 => {
            let wire = v1::RaftConfChangeV2::decode(entry.data.clone())
                .map_err(|error| bad(error.to_string()))?;
            change.set_transition(match wire.transition {
                0 => eraftpb::ConfChangeTransition::Auto,
                1 => eraftpb::ConfChangeTransition::Implicit,
                2 => eraftpb::ConfChangeTransition::Explicit,
                other => return Err(bad(format!("transition {other}"))),
            });
            let singles = wire
                .changes
                .iter()
                .map(|one| single(one.change_type, one.node_id));
            let singles: Vec<_> = singles.collect::<Result<_, _>>().map_err(bad)?;
            change.set_changes(singles.into());
            change.context = wire.context;
        }
    }
    Ok(change)
}

fn single(kind: u32, node: u64) -> Result<eraftpb::ConfChangeSingle, String> {
    let mut change = eraftpb::ConfChangeSingle::default();
    change.set_change_type(match kind {
        0 => eraftpb::ConfChangeType::AddNode,
        1 => eraftpb::ConfChangeType::RemoveNode,
        2 => eraftpb::ConfChangeType::AddLearnerNode,
        other => return Err(format!("kind of change {other}")),
    });
    change.node_id = node;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message as _;

    #[test]
    fn what_raft_writes_is_read() {
        let mut change = eraftpb::ConfChangeV2::default();
        change.set_transition(eraftpb::ConfChangeTransition::Explicit);
        let singles = [(0, 7), (1, 3), (2, u64::MAX)].map(|(kind, node)| single(kind, node));
        change.set_changes(singles.map(|one| one.expect("known")).to_vec().into());
        let entry = |kind, data: Vec<u8>| LogEntry {
            kind,
            term: 1,
            index: 9,
            data: data.into(),
            context: bytes::Bytes::new(),
        };
        let data = change.write_to_bytes().expect("encode");
        let read = decode(&entry(EntryKind::ConfChangeV2, data)).expect("decode");
        assert_eq!(read, change);

        let mut old = eraftpb::ConfChange::default();
        old.set_change_type(eraftpb::ConfChangeType::AddLearnerNode);
        old.node_id = 12;
        let data = old.write_to_bytes().expect("encode");
        let read = decode(&entry(EntryKind::ConfChange, data)).expect("decode");
        assert_eq!(read.get_changes(), [single(2, 12).expect("known")]);
        let junk = entry(EntryKind::ConfChangeV2, vec![0xff; 9]);
        assert!(decode(&junk).is_err());
    }
}
