//! The deny list as a member has applied it, and what an operator may not deny.

use super::MetaHandle;
use crate::log::node_of;
use crate::tables::Tables;
use megalith_identity::PeerIdentity;
use megalith_model::answer;
use megalith_model::denied::DenyList;
use megalith_model::ids::NodeId;
use megalith_model::role::Role;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Status;

/// Follows the list in the rows. What is there at the start is in force before anything is served.
pub(super) fn watch_list(
    runtime: &Handle,
    tables: &Arc<Tables>,
    changes: &watch::Receiver<u64>,
) -> watch::Receiver<Arc<DenyList>> {
    let (mut changes, tables) = (changes.clone(), tables.clone());
    changes.mark_unchanged();
    let (sender, receiver) = watch::channel(Arc::new(read(&tables).unwrap_or_default()));
    runtime.spawn(async move {
        while changes.changed().await.is_ok() {
            let tables = tables.clone();
            let Ok(Some(list)) = tokio::task::spawn_blocking(move || read(&tables)).await else {
                // No rows here now: when they have come, there is a change. What was heard stays.
                continue;
            };
            sender.send_if_modified(|known| {
                let newer = list.revision > known.revision;
                if newer {
                    *known = Arc::new(list);
                }
                newer
            });
        }
    });
    receiver
}

fn read(tables: &Tables) -> Option<DenyList> {
    let list = tables.read(|engine| answer::deny_list(engine))?;
    list.map_err(|error| tracing::error!(%error, "read the deny list"))
        .ok()
}

impl MetaHandle {
    /// Checks that a list is short enough to be looked at, and leaves those who can change it
    /// again: the operator who asks, and the members of the group.
    pub(super) fn check_deny_list(
        &self,
        peer: &PeerIdentity,
        list: &DenyList,
    ) -> Result<(), Status> {
        let members = self.inner.tables.conf().members();
        let members: Vec<NodeId> = members.into_iter().filter_map(node_of).collect();
        match refused(list, peer, &members) {
            Some(why) => Err(Status::invalid_argument(why)),
            None => Ok(()),
        }
    }
}

/// Returns why an operator may not set a list, if that is so.
fn refused(list: &DenyList, asker: &PeerIdentity, members: &[NodeId]) -> Option<String> {
    let malformed = list.check().err().map(|error| error.to_string());
    malformed.or_else(|| lock_out(list, asker, members))
}

/// Returns why nobody could take back a list, if that is so.
fn lock_out(list: &DenyList, asker: &PeerIdentity, members: &[NodeId]) -> Option<String> {
    if let Some(own) = list.find(asker.grants(), asker.serial()) {
        return Some(format!(
            "this would deny the certificate that asks for it ({own}), and nobody could take it \
             back with that"
        ));
    }
    // A member's certificate may have both roles, and is denied as a whole if one of them is.
    // Others have one for each role, and what a node has is not known here.
    let whole = list.denied.iter().find(|denied| {
        let of_node = matches!(denied.role, Role::Storage | Role::Metadata);
        of_node && denied.serial.is_none() && members.contains(&NodeId(denied.id))
    })?;
    let id = whole.id;
    Some(format!(
        "node {id} is a member of the metadata group, and {whole} would deny all its certificates: \
         name the serial number of the one that is denied (megalith cert show), or remove the \
         member first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::denied::{DeniedCertificate, Serial};
    use megalith_model::ids::ClusterId;

    fn why(denied: (Role, u32, Option<Serial>)) -> Option<String> {
        let operator = PeerIdentity::new(ClusterId([7; 16]), &[(Role::Operator, 5)]);
        let (role, id, serial) = denied;
        let mut list = DenyList::default();
        list.deny(DeniedCertificate { role, id, serial });
        refused(&list, &operator.expect("a role"), &[NodeId(1), NodeId(2)])
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_before_it_is_logged() {
        let operator = PeerIdentity::new(ClusterId([7; 16]), &[(Role::Operator, 5)]);
        let operator = operator.expect("a role");
        let mut list = DenyList::default();
        for id in 0..256 {
            list.deny(DeniedCertificate {
                role: Role::Gateway,
                id,
                serial: None,
            });
        }
        assert_eq!(refused(&list, &operator, &[]), None);
        list.deny(DeniedCertificate {
            role: Role::Gateway,
            id: 256,
            serial: None,
        });
        let why = refused(&list, &operator, &[]).expect("refused");
        assert!(why.contains("257 entries"), "{why}");
    }

    #[test]
    fn nobody_denies_itself_or_a_member_as_a_whole() {
        let serial = Serial::from_bytes(&[9]);
        // The asker's identity here has no certificate, so its number is 0.
        for own in [None, Some(Serial::default())] {
            let why = why((Role::Operator, 5, own)).expect("refused");
            assert!(why.contains("operator 5"), "{why}");
        }
        for role in [Role::Metadata, Role::Storage] {
            let refused = why((role, 2, None)).expect("refused");
            assert!(refused.contains("node 2 is a member"), "{refused}");
            assert_eq!(why((role, 2, serial)), None);
            assert_eq!(why((role, 3, None)), None);
        }
        for other in [
            (Role::Operator, 6, None),
            (Role::Operator, 5, serial),
            (Role::Gateway, 1, None),
        ] {
            assert_eq!(why(other), None);
        }
    }
}
