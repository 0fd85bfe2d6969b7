//! The deny list of certificates.

use super::context::{Machine, Step, malformed};
use crate::command::{Outcome, Refusal};
use crate::denied::DenyList;
use crate::keys::{Meta, RowKey};

impl Machine<'_, '_> {
    /// Replaces the list. Whether the operator denies itself, who serves it has judged: here nobody
    /// knows who asked.
    pub(super) fn set_deny_list(&mut self, new: &DenyList) -> Step<Outcome> {
        if let Err(error) = new.check() {
            return malformed(error.to_string());
        }
        let key = RowKey::Meta(Meta::DenyList);
        let old: DenyList = self.read(&key)?.unwrap_or_default();
        // The same command once more changes nothing.
        if old != *new {
            if old.revision.checked_add(1) != Some(new.revision) {
                return Err(Refusal::Changed.into());
            }
            self.write(&key, new);
        }
        Ok(Outcome::Done)
    }
}
