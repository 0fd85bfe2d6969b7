//! Who may call what: the one table of all gRPC methods, asked before any service sees a call.
//!
//! A method that isn't here doesn't exist for anybody. What a role may do **within** a method (as
//! which commands it may propose) the service decides by the peer's identity, which every request
//! carries in its extensions.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

use megalith_identity::{PeerIdentity, Role};

use Role::{Gateway, Metadata, Operator, Storage};

/// Every method of every service with the roles that may call it, as in `proto/`.
const METHODS: &[(&str, &[Role])] = &[
    (
        "/megalith.v1.Metadata/Propose",
        &[Storage, Gateway, Operator],
    ),
    (
        "/megalith.v1.Metadata/Query",
        &[Storage, Gateway, Operator, Metadata],
    ),
    ("/megalith.v1.Metadata/Backup", &[Operator]),
    ("/megalith.v1.Metadata/ChangeMembers", &[Operator]),
    ("/megalith.v1.Cluster/Join", &[Storage]),
    ("/megalith.v1.Cluster/Heartbeat", &[Storage]),
    ("/megalith.v1.Cluster/Beat", &[Gateway]),
    (
        "/megalith.v1.Cluster/WatchMap",
        &[Storage, Gateway, Operator],
    ),
    ("/megalith.v1.Cluster/RaiseLevel", &[Operator]),
    ("/megalith.v1.Cluster/Status", &[Operator, Gateway]),
    (
        "/megalith.v1.Cluster/Health",
        &[Storage, Gateway, Operator, Metadata],
    ),
    ("/megalith.v1.RaftTransport/Messages", &[Metadata]),
    ("/megalith.v1.RaftTransport/Snapshot", &[Metadata]),
    ("/megalith.v1.RaftTransport/Knock", &[Metadata]),
    (
        "/megalith.v1.ShardControl/Stat",
        &[Gateway, Storage, Metadata, Operator],
    ),
    (
        "/megalith.v1.ShardControl/List",
        &[Storage, Metadata, Operator],
    ),
    ("/megalith.v1.ShardControl/Scrub", &[Operator]),
];

/// The roles that may read and write shard bytes on the data port.
pub(super) const DATA_ROLES: &[Role] = &[Gateway, Storage];

/// True if a peer may call the method of this path.
pub(super) fn may_call(path: &str, peer: &PeerIdentity) -> bool {
    let found = METHODS.iter().find(|(known, _)| *known == path);
    found.is_some_and(|(_, roles)| has_one(peer, roles))
}

/// True if the answer to the method goes on until one side ends it.
pub(super) fn has_no_end(path: &str) -> bool {
    matches!(
        path,
        "/megalith.v1.Cluster/WatchMap"
            | "/megalith.v1.Metadata/Backup"
            | "/megalith.v1.RaftTransport/Snapshot"
    )
}

/// True for the methods that only metadata members call, of each other.
pub(super) fn is_between_members(path: &str) -> bool {
    path.starts_with("/megalith.v1.RaftTransport/")
}

/// True if a peer has one of the roles.
pub(super) fn has_one(peer: &PeerIdentity, roles: &[Role]) -> bool {
    roles.iter().any(|&role| peer.has(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::ClusterId;
    use std::collections::BTreeSet;

    /// (path, roles in the comment above it) of every `rpc` of a .proto file.
    fn methods(text: &str) -> Vec<(String, BTreeSet<String>)> {
        let mut found = Vec::new();
        let (mut service, mut comment) = (String::new(), String::new());
        let mut of_service = None;
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("//") {
                comment.push_str(words);
                continue;
            }
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches(['{', ' ']).to_owned();
                of_service = roles(&comment);
            }
            if let Some(rest) = line.strip_prefix("rpc ") {
                let name = rest.split('(').next().expect("a name").trim();
                let allowed = roles(&comment).or_else(|| of_service.clone());
                let allowed = allowed.unwrap_or_else(|| panic!("{service}/{name} names no roles"));
                found.push((format!("/megalith.v1.{service}/{name}"), allowed));
            }
            comment.clear();
        }
        found
    }

    /// Reads "Roles: a, b." or "Roles of every method: a."; "by command" are those who propose any,
    /// "any of the cluster" are all.
    fn roles(comment: &str) -> Option<BTreeSet<String>> {
        let rest = &comment[comment.find("Roles")?..];
        let list = rest.split(':').nth(1)?.split('.').next()?.trim();
        let set = |roles: &[Role]| {
            let names = roles.iter().map(|role| role.name().to_owned());
            Some(names.collect())
        };
        match list {
            "by command" => return set(&[Storage, Gateway, Operator]),
            "any of the cluster" => return set(&Role::ALL),
            _ => {}
        }
        Some(list.split(',').map(|role| role.trim().to_owned()).collect())
    }

    #[test]
    fn the_table_is_what_the_protos_say() {
        let protos = [
            include_str!("../../../../proto/megalith/v1/cluster.proto"),
            include_str!("../../../../proto/megalith/v1/metadata.proto"),
            include_str!("../../../../proto/megalith/v1/raft.proto"),
            include_str!("../../../../proto/megalith/v1/shard.proto"),
        ];
        let said: Vec<_> = protos.iter().flat_map(|text| methods(text)).collect();
        assert_eq!(said.len(), 17, "the protos were not read as they should be");
        for (path, allowed) in &said {
            let (_, roles) = METHODS
                .iter()
                .find(|(known, _)| known == path)
                .unwrap_or_else(|| panic!("{path} is not in the table"));
            let roles: BTreeSet<_> = roles.iter().map(|role| role.name().to_owned()).collect();
            assert_eq!(&roles, allowed, "{path}");
        }
        assert_eq!(
            METHODS.len(),
            said.len(),
            "the table has methods that no proto has"
        );
        let rpcs: usize = protos.iter().map(|text| text.matches("rpc ").count()).sum();
        assert_eq!(rpcs, said.len());
    }

    #[test]
    fn what_is_not_listed_is_refused_to_everybody() {
        let all: Vec<_> = Role::ALL.iter().map(|&role| (role, 1)).collect();
        let peer = PeerIdentity::new(ClusterId([1; 16]), &all).expect("valid");
        for path in [
            "/megalith.v1.Metadata/Erase",
            "/megalith.v1.Metadata/propose",
            "/megalith.v1.Metadata/Propose/",
            "/megalith.v1.Metadata",
            "//megalith.v1.Metadata/Propose",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/",
            "",
        ] {
            assert!(!may_call(path, &peer), "{path}");
        }
        assert!(may_call("/megalith.v1.Metadata/Propose", &peer));
    }

    #[test]
    fn a_role_is_not_another() {
        let peer = |role| PeerIdentity::new(ClusterId([1; 16]), &[(role, 1)]).expect("valid");
        assert!(!may_call("/megalith.v1.Cluster/Status", &peer(Storage)));
        assert!(!may_call("/megalith.v1.ShardControl/Scrub", &peer(Gateway)));
        assert!(!may_call(
            "/megalith.v1.RaftTransport/Messages",
            &peer(Storage)
        ));
        assert!(may_call(
            "/megalith.v1.RaftTransport/Messages",
            &peer(Metadata)
        ));
    }
}
