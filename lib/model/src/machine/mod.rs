//! The metadata state machine: what a command changes, judged when it is applied and nowhere else.
//!
//! Owns every rule about rows. Reads no clock, uses no randomness and iterates over nothing
//! unordered: the same log gives the same bytes everywhere. Knows nothing of Raft or of the engine.
//! `once` makes clients' commands idempotent, `blobs` counts references; the other modules follow
//! the commands.

mod blobs;
mod cluster;
mod context;
mod counters;
mod deletes;
mod denied;
mod discard;
mod doomed;
mod doubts;
mod objects;
mod once;
mod owed;
mod owners;
mod rotation;
mod segments;
mod settings;
pub mod sizes;
#[cfg(test)]
pub(crate) mod tests;
mod uploads;

use crate::codec::DecodeError;
use crate::command::{Answer, Command, Envelope, Outcome, Refusal};
use crate::entry::Entry;
use crate::keys::{Meta, RowKey};
use crate::level::Level;
use crate::rows::AccessKeyRow;
use crate::table::{Overlay, Rows, RowsError};
use context::{Machine, Step, Stop, malformed, read_kept};

pub use owners::ENDED_WITH_BUCKET_MAX;
pub use settings::EXPIRED_MAX;

pub(crate) use context::{decode_row, page, read, require};
pub(crate) use rotation::look_through;

/// The most shards of one command about owed shards or doubts.
pub const OWED_MARKS_MAX: usize = 1_000;
/// The most doubts about one disk. Further ones are dropped; gateways raise them again.
pub const DISK_DOUBTS_MAX: u32 = 1_000;
/// After this time another node may judge a doubt that the disk's own has not settled.
pub const DOUBT_SETTLED_MS: u64 = 60_000;
/// The most segments that a write may say it has left behind.
pub const LEFTOVERS_MAX: usize = 1_000;
/// The most open leases of one gateway. It needs two, and one more for each that is used up while
/// its last command still runs.
pub const GATEWAY_LEASES_MAX: usize = 1_000;
/// The most bytes of an object's key.
pub const KEY_LEN_MAX: usize = 1_024;
/// The most bytes of a bucket's or account's name, or of an access key.
pub const NAME_LEN_MAX: usize = 255;
/// The most bytes that apply accepts for an inline blob; gateways send less
/// ([`crate::shape::INLINE_LEN_MAX`]).
pub const INLINE_LEN_LIMIT: u64 = 128 * 1024;
/// The greatest part number of an upload.
pub const PART_MAX: u32 = 10_000;
/// How far a time that a gateway has sealed may be from the group's.
pub const SEALED_TIME_APART_MAX_MS: u64 = 5 * 60 * 1_000;

/// Rows that can't be worked with. Never a user's mistake: the replica must stop applying.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("metadata engine")]
    Rows(#[from] RowsError),
    /// A row's bytes don't decode as its kind.
    #[error("{row} is damaged")]
    Damaged {
        /// Table and key digest; a key may name a user's object and stays out of logs.
        row: String,
        source: DecodeError,
    },
    /// A row that another one refers to is missing, or a count fell below zero. Nothing reaches the
    /// outside with it: the command is refused ([`crate::command::Refusal::Internal`]).
    #[error("rows contradict each other: {0}")]
    Contradiction(String),
}

/// Applies one entry to `rows`. Deterministic.
///
/// The group's clock never runs back, whatever the stamps say; only [`Command::ResetClock`] sets it
/// back.
///
/// A refused command changes nothing, except that its key, if it has one, is bound. A command whose
/// key was used before changes nothing and gets the answer of before. After an error nothing has
/// changed and the replica must not go on: only damage or a failing engine leads there.
pub fn apply(rows: &mut Overlay<'_>, entry: &Entry) -> Result<Answer, MachineError> {
    let savepoint = rows.savepoint();
    match judge(rows, entry) {
        Ok(answer) => {
            rows.release(savepoint);
            Ok(answer)
        }
        Err(error) => {
            rows.rollback(savepoint);
            Err(error)
        }
    }
}

/// Returns the group's time: the greatest stamp applied, 0 before the first.
pub fn clock(rows: &dyn Rows) -> Result<u64, MachineError> {
    Ok(read_kept(rows, &RowKey::Meta(Meta::Clock))?.unwrap_or(0))
}

/// Returns the cluster's level.
pub fn level(rows: &dyn Rows) -> Result<Level, MachineError> {
    Ok(read_kept(rows, &RowKey::Meta(Meta::Level))?.unwrap_or(Level::FIRST))
}

/// Returns the level of a cluster that has been named; before that there is none.
pub fn level_of_cluster(rows: &dyn Rows) -> Result<Option<Level>, MachineError> {
    let raised = read_kept(rows, &RowKey::Meta(Meta::Level))?;
    if raised.is_some() {
        return Ok(raised);
    }
    let cluster = read_kept::<crate::ids::ClusterId>(rows, &RowKey::Meta(Meta::Cluster))?;
    Ok(cluster.map(|_| Level::FIRST))
}

/// Writes a row as a command would.
#[cfg(test)]
pub(crate) fn write_for_tests<T: crate::kinds::Stored>(
    rows: &mut Overlay<'_>,
    key: &RowKey<'_>,
    value: &T,
) -> Result<(), MachineError> {
    let level = level(rows)?;
    let nothing = Envelope {
        key: None,
        command: Command::Nothing,
    };
    Machine::new(rows, 0, level, &Entry::new(0, nothing)).write(key, value);
    Ok(())
}

fn judge(rows: &mut Overlay<'_>, entry: &Entry) -> Result<Answer, MachineError> {
    let envelope = &entry.envelope;
    let level = level(rows)?;
    let mut refused_before = false;
    if let (Some(key), Some(proposal)) = (envelope.key, entry.proposal) {
        match once::standing(rows, key, proposal)? {
            once::Standing::Answered(answer) => return Ok(answer),
            once::Standing::Open { refused_before: so } => refused_before = so,
        }
        if !once::is_leased(rows, key)? {
            // Nothing is remembered: an id of another gateway's lease is not this one's to spend.
            return Ok(Err(Refusal::LeaseClosed { blob: key.id }));
        }
    }
    let clock = clock(rows)?;
    let now_ms = if envelope.command == Command::ResetClock {
        entry.stamp_ms
    } else {
        clock.max(entry.stamp_ms)
    };
    let savepoint = rows.savepoint();
    let mut machine = Machine::new(rows, now_ms, level, entry);
    let answer = match machine.execute_at_level(envelope) {
        Ok(outcome) => {
            rows.release(savepoint);
            Ok(outcome)
        }
        Err(Stop::Refused(refusal)) => {
            rows.rollback(savepoint);
            Err(refusal)
        }
        // By a defect all members find the same: to stop would stop the whole group, at every start
        // again. A member whose engine has lost a row finds it alone, and only its alarm tells.
        Err(Stop::Failed(MachineError::Contradiction(what))) => {
            rows.rollback(savepoint);
            Err(Refusal::Internal(what))
        }
        Err(Stop::Failed(error)) => {
            rows.rollback(savepoint);
            return Err(error);
        }
    };
    if answer.is_ok() || envelope.key.is_some() {
        let mut machine = Machine::new(rows, now_ms, level, entry);
        if now_ms != clock {
            machine.write(&RowKey::Meta(Meta::Clock), &now_ms);
        }
        machine.remember(entry, &answer, refused_before);
    }
    Ok(answer)
}

impl Machine<'_, '_> {
    fn execute_at_level(&mut self, envelope: &Envelope) -> Step<Outcome> {
        let (needs, level) = (envelope.command.level(), self.level);
        if needs > level {
            return Err(Refusal::Level { needs, level }.into());
        }
        sizes::check_sizes(&envelope.command)?;
        self.check_fence(&envelope.command)?;
        self.execute(envelope)
    }

    fn execute(&mut self, envelope: &Envelope) -> Step<Outcome> {
        let Envelope { key, command } = envelope;
        if key.is_some() != command.has_key() {
            return malformed("clients' commands and steps of rotations have a key, and no others");
        }
        match command {
            Command::InitCluster { cluster, level } => self.init_cluster(*cluster, *level),
            Command::RegisterNode(claim) => self.register_node(claim),
            Command::CreateVolume {
                profile,
                domain,
                slots,
                shrunk,
            } => self.create_volume(*profile, *domain, slots, *shrunk),
            Command::CloseVolume { volume, epoch } => self.close_volume(*volume, *epoch),
            Command::OpenLease { gateway, request } => self.open_lease(*gateway, *request),
            Command::CloseLease { gateway, lease } => self.close_lease(*gateway, *lease),
            Command::PutKek { .. }
            | Command::RotateKek { .. }
            | Command::Reseal { .. }
            | Command::DropKeks { .. }
            | Command::ResealKek { .. }
            | Command::CreateAccount { .. }
            | Command::SetAccountEnabled { .. }
            | Command::PutAccessKey { .. }
            | Command::CreateBucket { .. }
            | Command::DeleteBucket(_) => self.execute_of_owner(command),
            Command::PutObject(put) => self.put_object(put),
            Command::DeleteObject {
                bucket,
                key,
                condition,
            } => self.delete_object(*bucket, key, *condition),
            Command::CreateUpload { .. }
            | Command::PutPart { .. }
            | Command::CompleteUpload { .. }
            | Command::AbortUpload { .. } => self.execute_upload(command),
            Command::AckDeletes { .. }
            | Command::MarkOwed { .. }
            | Command::FillOwed { .. }
            | Command::RaiseDoubts(_)
            | Command::DenyDoubts { .. }
            | Command::JudgeDoubts { .. } => self.execute_of_disk(command),
            // The clock itself is set with every accepted command.
            Command::Nothing | Command::ResetClock => Ok(Outcome::Done),
            Command::WorkOff => self.work_off(),
            Command::RaiseLevel { level } => self.raise_level(*level),
            Command::DiscardBlob { leftovers } => {
                self.discard_blob(key.map(|key| key.id), leftovers)
            }
            Command::SetSettings(settings) => self.set_settings(*settings),
            Command::ExpireUploads { uploads } => self.expire_uploads(uploads),
            Command::ReleaseRestore => self.release_restore(),
            Command::SetDenyList(list) => self.set_deny_list(list),
        }
    }

    /// Executes commands about accounts, their keys and buckets, and about key-encryption keys.
    fn execute_of_owner(&mut self, command: &Command) -> Step<Outcome> {
        match command {
            Command::PutKek {
                version,
                sealed_kek,
            } => self.put_kek(*version, sealed_kek),
            Command::RotateKek {
                version,
                sealed_kek,
                grace_ms,
            } => self.rotate_kek(*version, sealed_kek, *grace_ms),
            Command::Reseal { to, rows } => self.reseal(*to, rows),
            Command::DropKeks { before } => self.drop_keks(*before),
            Command::ResealKek {
                version,
                was,
                sealed_kek,
            } => self.reseal_kek(*version, *was, sealed_kek),
            Command::CreateAccount { name, request } => self.create_account(name, *request),
            Command::SetAccountEnabled {
                account,
                enabled,
                revision,
            } => self.set_account_enabled(*account, *enabled, *revision),
            Command::PutAccessKey {
                access_key,
                account,
                enabled,
                revision,
                sealed_credential,
            } => {
                let new = AccessKeyRow {
                    access_key: access_key.clone(),
                    account: *account,
                    enabled: *enabled,
                    created_ms: self.now_ms,
                    sealed_credential: sealed_credential.clone(),
                    revision: *revision,
                };
                self.put_access_key(new)
            }
            Command::CreateBucket {
                id,
                name,
                account,
                sealed_owner,
            } => self.create_bucket(*id, name, *account, sealed_owner),
            Command::DeleteBucket(bucket) => self.delete_bucket(*bucket),
            _ => malformed("not a command about owners"),
        }
    }

    /// Executes what storage nodes and gateways say of shards on disks.
    fn execute_of_disk(&mut self, command: &Command) -> Step<Outcome> {
        match command {
            Command::AckDeletes {
                node,
                disk,
                through,
            } => self.ack_deletes(*node, *disk, *through),
            Command::MarkOwed {
                node,
                disk,
                marks,
                damaged,
            } => self.mark_owed(*node, *disk, marks, *damaged),
            Command::FillOwed { node, disk, fills } => self.fill_owed(*node, *disk, fills),
            Command::RaiseDoubts(doubts) => self.raise_doubts(doubts),
            Command::DenyDoubts { node, disk, shards } => self.deny_doubts(*node, *disk, shards),
            Command::JudgeDoubts {
                judge,
                disk,
                verdicts,
            } => self.judge_doubts(*judge, *disk, verdicts),
            _ => malformed("not a command about shards on disks"),
        }
    }
}
