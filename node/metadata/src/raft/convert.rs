//! Raft's messages and ours, field by field: raft's own parser never sees bytes from the network.

use crate::log::{Conf, EntryKind, HardState, LogEntry, Mark};
use ::raft::eraftpb;
use eraftpb::MessageType;
use megalith_proto::v1;
use prost::Message as _;
use std::collections::BTreeMap;

/// A message that can't be one of raft's, or that no member sends.
#[derive(Debug, thiserror::Error)]
#[error("raft message from {from}: {reason}")]
pub(super) struct BadMessage {
    from: u64,
    reason: &'static str,
}

/// The kinds that members send to each other. Proposals are not forwarded: clients go to the
/// leader themselves.
const KINDS: [MessageType; 13] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Writes a message; its sender's clock, levels and disk are still open.
pub(super) fn to_wire(group: u32, message: eraftpb::Message) -> v1::RaftMessage {
    let snapshot = message.snapshot.into_option().map(|snapshot| {
        let (mark, conf) = snapshot_parts(&snapshot);
        ticket(mark, &conf)
    });
    v1::RaftMessage {
        kind: message.msg_type as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.into_iter().map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        group,
        time_ms: 0,
        levels: None,
        sync_ms: 0,
    }
}

pub(super) fn from_wire(wire: v1::RaftMessage) -> Result<eraftpb::Message, BadMessage> {
    let bad = |reason| BadMessage {
        from: wire.from,
        reason,
    };
    let kind = KINDS
        .into_iter()
        .find(|&kind| kind as u32 == wire.kind)
        .ok_or_else(|| bad("its kind is not sent between members"))?;
    let reads = matches!(
        kind,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    );
    if reads && wire.entries.len() != 1 {
        return Err(bad("a read has one context"));
    }
    if (kind == MessageType::MsgSnapshot) != wire.snapshot.is_some() {
        return Err(bad("a snapshot message has a ticket, others have none"));
    }
    let mut message = eraftpb::Message::default();
    let mut entries = Vec::with_capacity(wire.entries.len());
    for entry in wire.entries {
        let known = EntryKind::from_number(entry.kind);
        let kind = known.ok_or(BadMessage {
            from: wire.from,
            reason: "unknown kind of entry",
        })?;
        entries.push(entry_to_raft(LogEntry {
            kind,
            term: entry.term,
            index: entry.index,
            data: entry.data,
            context: entry.context,
        }));
    }
    message.msg_type = kind;
    message.to = wire.to;
    message.from = wire.from;
    message.term = wire.term;
    message.log_term = wire.log_term;
    message.index = wire.index;
    message.entries = entries.into();
    message.commit = wire.commit;
    message.commit_term = wire.commit_term;
    message.request_snapshot = wire.request_snapshot;
    message.reject = wire.reject;
    message.reject_hint = wire.reject_hint;
    message.context = wire.context;
    message.priority = wire.priority;
    if let Some(ticket) = wire.snapshot {
        let (mark, conf) = ticket_parts(ticket);
        message.set_snapshot(snapshot(mark, &conf));
    }
    Ok(message)
}

/// The state that a snapshot stands for.
pub(crate) fn ticket(mark: Mark, conf: &Conf) -> v1::SnapshotTicket {
    v1::SnapshotTicket {
        index: mark.index,
        term: mark.term,
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        auto_leave: conf.auto_leave,
        conf_index: conf.index,
        addresses: conf.addresses.clone().into_iter().collect(),
    }
}

/// What a ticket says.
pub(crate) fn ticket_parts(ticket: v1::SnapshotTicket) -> (Mark, Conf) {
    let conf = Conf {
        index: ticket.conf_index,
        voters: ticket.voters,
        learners: ticket.learners,
        voters_outgoing: ticket.voters_outgoing,
        learners_next: ticket.learners_next,
        auto_leave: ticket.auto_leave,
        addresses: ticket.addresses.into_iter().collect(),
    };
    (
        Mark {
            index: ticket.index,
            term: ticket.term,
        },
        conf,
    )
}

/// Raft's snapshot: a place and members. Its data is the ticket, for what raft does not know.
pub(super) fn snapshot(mark: Mark, conf: &Conf) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = mark.index;
    metadata.term = mark.term;
    metadata.set_conf_state(conf_to_raft(conf));
    snapshot.data = ticket(mark, conf).encode_to_vec().into();
    snapshot
}

pub(super) fn snapshot_parts(snapshot: &eraftpb::Snapshot) -> (Mark, Conf) {
    let ticket = v1::SnapshotTicket::decode(snapshot.data.clone());
    ticket_parts(ticket.expect("made by `snapshot` in this process"))
}

pub(super) fn conf_to_raft(conf: &Conf) -> eraftpb::ConfState {
    let mut state = eraftpb::ConfState::default();
    state.voters.clone_from(&conf.voters);
    state.learners.clone_from(&conf.learners);
    state.voters_outgoing.clone_from(&conf.voters_outgoing);
    state.learners_next.clone_from(&conf.learners_next);
    state.auto_leave = conf.auto_leave;
    state
}

/// raft's members as ours, with `addresses` of those among them.
pub(super) fn conf_from_raft(
    state: &eraftpb::ConfState,
    index: u64,
    addresses: &BTreeMap<u64, String>,
) -> Conf {
    let mut conf = Conf {
        index,
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
        addresses: addresses.clone(),
    };
    let members = conf.members();
    conf.addresses.retain(|id, _| members.contains(id));
    conf
}

pub(super) fn hard_to_raft(hard: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: hard.term,
        vote: hard.vote,
        commit: hard.commit,
        ..eraftpb::HardState::default()
    }
}

pub(super) fn hard_from_raft(state: &eraftpb::HardState) -> HardState {
    HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}

pub(super) fn entry_to_raft(entry: LogEntry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::ConfChange => eraftpb::EntryType::EntryConfChange,
            EntryKind::ConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
        ..eraftpb::Entry::default()
    }
}

pub(super) fn entry_from_raft(entry: eraftpb::Entry) -> LogEntry {
    LogEntry {
        kind: match entry.entry_type {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            eraftpb::EntryType::EntryConfChange => EntryKind::ConfChange,
            eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    }
}

fn entry_to_wire(entry: eraftpb::Entry) -> v1::RaftEntry {
    let entry = entry_from_raft(entry);
    v1::RaftEntry {
        kind: entry.kind as u32,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rng, seeds};

    fn random_message(rng: &mut Rng) -> eraftpb::Message {
        let mut message = eraftpb::Message {
            msg_type: KINDS[rng.below(KINDS.len() as u64) as usize],
            ..eraftpb::Message::default()
        };
        for field in [
            &mut message.to,
            &mut message.from,
            &mut message.term,
            &mut message.log_term,
            &mut message.index,
            &mut message.commit,
            &mut message.commit_term,
            &mut message.request_snapshot,
            &mut message.reject_hint,
        ] {
            *field = rng.next();
        }
        message.reject = rng.below(2) == 1;
        message.priority = rng.next() as i64;
        message.context = rng.next().to_le_bytes().to_vec().into();
        let reads = matches!(
            message.msg_type,
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
        );
        let count = if reads { 1 } else { rng.below(4) };
        let entry = |rng: &mut Rng| LogEntry {
            kind: EntryKind::from_number(rng.below(3) as u32).expect("known"),
            term: rng.next(),
            index: rng.next(),
            data: vec![7; rng.below(50) as usize].into(),
            context: vec![8; rng.below(5) as usize].into(),
        };
        let entries: Vec<_> = (0..count).map(|_| entry_to_raft(entry(rng))).collect();
        message.entries = entries.into();
        if message.msg_type == MessageType::MsgSnapshot {
            let conf = Conf {
                index: rng.next(),
                voters: vec![1, 2],
                learners: vec![3],
                voters_outgoing: vec![4],
                learners_next: vec![5],
                auto_leave: true,
                addresses: [(2, "two:1".to_owned())].into(),
            };
            let mark = Mark {
                index: rng.next(),
                term: rng.next(),
            };
            message.set_snapshot(snapshot(mark, &conf));
        }
        message
    }

    #[test]
    fn every_field_survives_the_wire() {
        for seed in seeds(500) {
            let message = random_message(&mut Rng::new(seed));
            let wire = to_wire(3, message.clone());
            assert_eq!(wire.group, 3);
            assert_eq!(from_wire(wire).expect("converts"), message, "seed {seed}");
        }
    }

    #[test]
    fn what_no_member_sends_is_refused() {
        for kind in [0, 1, 2, 10, 11, 12, 19, 200] {
            let wire = v1::RaftMessage {
                kind,
                ..v1::RaftMessage::default()
            };
            assert!(from_wire(wire).is_err(), "{kind}");
        }
        let ticketless = v1::RaftMessage {
            kind: 7,
            ..v1::RaftMessage::default()
        };
        assert!(from_wire(ticketless).is_err());
        let entry = v1::RaftEntry {
            kind: 9,
            ..v1::RaftEntry::default()
        };
        let wire = v1::RaftMessage {
            kind: 3,
            entries: vec![entry],
            ..Default::default()
        };
        assert!(from_wire(wire).is_err());
    }
}
