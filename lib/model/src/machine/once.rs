//! Makes sure that a client's command is applied once, however often it arrives.
//!
//! Its key is a blob id ([`CommandKey`]). What became of it is found under that id: in the blob's
//! row while that is there, else in a row of its own, which lives as long as the id's lease is
//! open. Once the lease is closed no command with an id of it is accepted any more, so nothing has
//! to be remembered.

use super::MachineError;
use super::context::{Machine, read, read_kept};
use crate::command::{Answer, CommandKey, Outcome, Refusal};
use crate::entry::Entry;
use crate::ids::{BlobId, LeaseId};
use crate::keys::{self, RowKey};
use crate::rows::{BlobRow, Proposal, SpentRow};
use crate::table::{Overlay, Rows};
use crate::topology::Lease;

/// The most rows of spent keys that one command removes.
const REMOVED_MAX: usize = 1_000;

/// What is known of a key when a command with it is applied.
pub(super) enum Standing {
    /// The command is judged.
    Open {
        /// True if an earlier attempt was refused, and is remembered.
        refused_before: bool,
    },
    /// It gets this answer, and changes nothing.
    Answered(Answer),
}

/// Returns how a client's command stands: the answer if its key was used before.
pub(super) fn standing(
    rows: &Overlay<'_>,
    key: CommandKey,
    proposal: Proposal,
) -> Result<Standing, MachineError> {
    let blob = key.id;
    let known = match read::<SpentRow>(rows, &RowKey::Spent(blob))? {
        Some(row) => row,
        None => match read::<BlobRow>(rows, &RowKey::Blob(blob))? {
            Some(row) => SpentRow::of_blob(&row),
            None => {
                return Ok(Standing::Open {
                    refused_before: false,
                });
            }
        },
    };
    let answer = if proposal == known.proposal {
        known.answer
    } else if proposal.attempt < known.proposal.attempt {
        Err(Refusal::Superseded { blob })
    } else if proposal.attempt > known.proposal.attempt && known.answer.is_err() {
        return Ok(Standing::Open {
            refused_before: true,
        });
    } else {
        Err(Refusal::KeyUsed { blob })
    };
    Ok(Standing::Answered(answer))
}

impl SpentRow {
    /// What a blob's row says of the command that brought it: it was done.
    fn of_blob(row: &BlobRow) -> Self {
        Self {
            proposal: row.proposal,
            answer: Ok(Outcome::Done),
        }
    }
}

/// Returns what is kept of an answer. The texts of refusals are the program's own: members of
/// different programs have different ones, and their rows must be the same.
fn without_text(answer: &Answer) -> Answer {
    match answer {
        Err(Refusal::Malformed(_)) => Err(Refusal::Malformed(String::new())),
        Err(Refusal::Internal(_)) => Err(Refusal::Internal(String::new())),
        Ok(_) | Err(_) => answer.clone(),
    }
}

/// Returns whether a key's id is in an open lease of its gateway.
pub(super) fn is_leased(rows: &Overlay<'_>, key: CommandKey) -> Result<bool, MachineError> {
    let lease: Option<Lease> = read_kept(rows, &RowKey::Lease(key.id.lease()))?;
    Ok(lease.is_some_and(|lease| lease.gateway == key.gateway))
}

impl Machine<'_, '_> {
    /// Remembers the answer to a client's command that was judged. The row of a blob that it
    /// brought is remembrance enough.
    pub(super) fn remember(&mut self, entry: &Entry, answer: &Answer, refused_before: bool) {
        let (Some(key), Some(proposal)) = (entry.envelope.key, entry.proposal) else {
            return;
        };
        let row_key = RowKey::Spent(key.id);
        if answer.is_ok() && entry.envelope.command.new_blob().is_some() {
            if refused_before {
                self.delete(&row_key);
            }
        } else {
            let answer = without_text(answer);
            self.write(&row_key, &SpentRow { proposal, answer });
        }
    }

    /// Remembers the command that brought a blob whose row goes.
    pub(super) fn outlive(&mut self, blob: BlobId, row: &BlobRow) -> Result<(), MachineError> {
        if self.exists(&RowKey::Lease(blob.lease()))? {
            self.write(&RowKey::Spent(blob), &SpentRow::of_blob(row));
        }
        Ok(())
    }

    /// Forgets a page of a closed lease's commands; returns where the next page begins.
    pub(super) fn forget_page(
        &mut self,
        lease: LeaseId,
        from: BlobId,
    ) -> Result<Option<BlobId>, MachineError> {
        let range = keys::spent(lease, from);
        let mut found = Vec::new();
        self.rows.scan(&range.from, &range.to, &mut |key, _| {
            found.push(key.to_vec());
            found.len() < REMOVED_MAX
        })?;
        let next = match found.last().map(|key| RowKey::decode(key)) {
            Some(Ok(RowKey::Spent(last))) if found.len() == REMOVED_MAX => {
                (last < lease.blobs().1).then(|| last.next())
            }
            Some(_) | None => None,
        };
        for key in found {
            self.rows.delete(key);
        }
        Ok(next)
    }
}
