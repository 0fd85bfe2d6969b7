//! The identity in a certificate: cluster, roles and ids, as URIs in its alternative names.
//!
//! `megalith://<cluster, 32 hex digits>/<role>/<id>`, one for each role. The text is canonical:
//! lower case, no leading zeros, nothing after the id. Names with other schemes are ignored and
//! grant nothing. This module doesn't decide what a role may do.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

use crate::error::{IdentityError, PeerRefusal};
use crate::material::parse_certificates;
use megalith_model::denied::Serial;
use megalith_model::ids::{ClusterId, GatewayId, NodeId};
use megalith_model::role::Role;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The beginning of every identity URI.
const SCHEME: &str = "megalith://";

/// Roles that can't be in one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    #[error("at least one role is needed")]
    Empty,
    #[error("the role {0} is given twice")]
    Repeated(Role),
    /// Storage and metadata are roles of the same node, so they share its id.
    #[error("storage {storage} and metadata {metadata} must be one and the same node id")]
    TwoNodes {
        /// The id given for storage.
        storage: u32,
        /// The id given for metadata.
        metadata: u32,
    },
}

/// Who a peer is: its cluster, and its roles with their ids. Never without a role. Two are equal
/// if they name the same member, though their certificates are not the same.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    cluster: ClusterId,
    grants: Vec<(Role, u32)>,
    /// Of the certificate that it was read from; 0 if it was not read from one.
    serial: Serial,
}

impl PartialEq for PeerIdentity {
    fn eq(&self, other: &Self) -> bool {
        (self.cluster, &self.grants) == (other.cluster, &other.grants)
    }
}

impl Eq for PeerIdentity {}

impl Hash for PeerIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.cluster, &self.grants).hash(state);
    }
}

impl PeerIdentity {
    /// Builds an identity. Each role may occur once; storage and metadata must have the same node
    /// id.
    pub fn new(cluster: ClusterId, grants: &[(Role, u32)]) -> Result<Self, GrantsError> {
        let mut grants = grants.to_vec();
        grants.sort_unstable();
        if grants.is_empty() {
            return Err(GrantsError::Empty);
        }
        if let Some(pair) = grants.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(GrantsError::Repeated(pair[0].0));
        }
        let identity = Self {
            cluster,
            grants,
            serial: Serial::default(),
        };
        match (
            identity.id_of(Role::Storage),
            identity.id_of(Role::Metadata),
        ) {
            (Some(storage), Some(metadata)) if storage != metadata => {
                Err(GrantsError::TwoNodes { storage, metadata })
            }
            _ => Ok(identity),
        }
    }

    /// Reads the identity in a DER certificate. Verifies nothing else about it.
    pub fn of_certificate(der: &[u8]) -> Result<Self, PeerRefusal> {
        let certificate = parse(der)?;
        let serial = certificate.raw_serial();
        let serial = Serial::from_bytes(serial)
            .ok_or_else(|| PeerRefusal::Malformed("its serial number is too long".into()))?;
        let mut cluster = None;
        let mut grants = Vec::new();
        for uri in identity_uris(&certificate)? {
            let malformed = || PeerRefusal::Malformed(format!("identity {uri:?}"));
            let (found, role, id) = parse_uri(&uri).ok_or_else(malformed)?;
            if *cluster.get_or_insert(found) != found {
                return Err(PeerRefusal::Malformed("identities in two clusters".into()));
            }
            grants.push((role, id));
        }
        let cluster = cluster.ok_or(PeerRefusal::NoIdentity)?;
        let identity = Self::new(cluster, &grants);
        let identity = identity.map_err(|error| PeerRefusal::Malformed(error.to_string()))?;
        Ok(Self { serial, ..identity })
    }

    /// Reads the identity in the first certificate of a PEM text, which `path` holds. Verifies
    /// nothing else about it.
    pub fn of_pem(pem: &str, path: &Path) -> Result<Self, IdentityError> {
        let chain = parse_certificates(pem, path)?;
        let first = chain.first().ok_or(PeerRefusal::Missing);
        let identity = first.and_then(|first| Self::of_certificate(first));
        identity.map_err(|reason| IdentityError::OwnCertificate {
            path: path.to_owned(),
            reason,
        })
    }

    /// Returns the cluster that the peer belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the roles with their ids, sorted by role.
    #[must_use]
    pub fn grants(&self) -> &[(Role, u32)] {
        &self.grants
    }

    /// Returns the serial number of the certificate; 0 if the identity was not read from one.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Returns true if the peer has the role, whatever its id.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.id_of(role).is_some()
    }

    /// Returns true if the peer has the role with exactly this id.
    #[must_use]
    pub fn is(&self, role: Role, id: u32) -> bool {
        self.id_of(role) == Some(id)
    }

    /// Returns the peer's id in a role.
    #[must_use]
    pub fn id_of(&self, role: Role) -> Option<u32> {
        self.grants
            .iter()
            .find(|grant| grant.0 == role)
            .map(|grant| grant.1)
    }

    /// Returns the node's id, for a storage or metadata peer.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.id_of(Role::Storage)
            .or_else(|| self.id_of(Role::Metadata))
            .map(NodeId)
    }

    /// Returns the gateway's id, for a gateway.
    #[must_use]
    pub fn gateway_id(&self) -> Option<GatewayId> {
        self.id_of(Role::Gateway).map(GatewayId)
    }

    /// Returns the URIs that carry this identity.
    pub(crate) fn uris(&self) -> impl Iterator<Item = String> {
        self.grants
            .iter()
            .map(|&(role, id)| grant_uri(self.cluster, role, id))
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (role, id) in &self.grants {
            write!(f, "{role} {id}, ")?;
        }
        write!(f, "cluster {}", self.cluster)
    }
}

/// Returns the URI with which an authority's own certificate names its cluster. It has no role, so
/// it can never be read as an identity.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

/// Reads the cluster of an authority's certificate.
pub(crate) fn authority_cluster(der: &[u8]) -> Result<ClusterId, PeerRefusal> {
    let uris = identity_uris(&parse(der)?)?;
    let [uri] = uris.as_slice() else {
        return Err(PeerRefusal::Malformed(
            "an authority names exactly one cluster".into(),
        ));
    };
    uri.strip_prefix(SCHEME)
        .and_then(|text| ClusterId::from_str(text).ok())
        .filter(|&cluster| authority_uri(cluster) == *uri)
        .ok_or_else(|| PeerRefusal::Malformed(format!("authority {uri:?}")))
}

fn grant_uri(cluster: ClusterId, role: Role, id: u32) -> String {
    format!("{SCHEME}{cluster}/{role}/{id}")
}

/// Reads one identity URI. Only the exact text that [`grant_uri`] writes is accepted.
fn parse_uri(uri: &str) -> Option<(ClusterId, Role, u32)> {
    let mut fields = uri.strip_prefix(SCHEME)?.splitn(3, '/');
    let cluster = ClusterId::from_str(fields.next()?).ok()?;
    let name = fields.next()?;
    let role = Role::from_name(name)?;
    let id = fields.next()?.parse().ok()?;
    (grant_uri(cluster, role, id) == uri).then_some((cluster, role, id))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PeerRefusal> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| PeerRefusal::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(PeerRefusal::Malformed("bytes after its end".into()));
    }
    Ok(certificate)
}

/// Returns the names with our scheme, without reading them further.
fn identity_uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, PeerRefusal> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| PeerRefusal::Malformed(error.to_string()))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    Ok(names
        .iter()
        .filter_map(|name| {
            let GeneralName::URI(uri) = name else {
                return None;
            };
            uri.starts_with(SCHEME).then(|| (*uri).to_owned())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 16]);

    #[test]
    fn only_the_canonical_text_is_an_identity() {
        let hex = CLUSTER.to_string();
        assert_eq!(
            parse_uri(&format!("megalith://{hex}/storage/7")),
            Some((CLUSTER, Role::Storage, 7))
        );
        for bad in [
            format!("megalith://{}/storage/7", hex.to_uppercase()),
            format!("megalith://{hex}/Storage/7"),
            format!("megalith://{hex}/storage/07"),
            format!("megalith://{hex}/storage/+7"),
            format!("megalith://{hex}/storage/-1"),
            format!("megalith://{hex}/storage/4294967296"),
            format!("megalith://{hex}/storage/7/"),
            format!("megalith://{hex}/storage/7 "),
            format!("megalith://{hex}/storage/"),
            format!("megalith://{hex}//7"),
            format!("megalith://{hex}/owner/7"),
            format!("megalith://{}/storage/7", &hex[2..]),
            format!("megalith://{hex}"),
            format!("megalith:/{hex}/storage/7"),
            format!("spiffe://{hex}/storage/7"),
        ] {
            assert_eq!(parse_uri(&bad), None, "{bad}");
        }
    }

    #[test]
    fn grants_follow_their_rules() {
        let make = |grants: &[(Role, u32)]| PeerIdentity::new(CLUSTER, grants);
        assert_eq!(make(&[]), Err(GrantsError::Empty));
        assert_eq!(
            make(&[(Role::Gateway, 1), (Role::Gateway, 2)]),
            Err(GrantsError::Repeated(Role::Gateway))
        );
        assert_eq!(
            make(&[(Role::Storage, 1), (Role::Metadata, 2)]),
            Err(GrantsError::TwoNodes {
                storage: 1,
                metadata: 2
            })
        );
        let both = make(&[(Role::Metadata, 4), (Role::Storage, 4)]).expect("one node");
        assert_eq!(both.node_id(), Some(NodeId(4)));
        assert_eq!(both.gateway_id(), None);
        assert!(both.is(Role::Metadata, 4) && !both.is(Role::Metadata, 5));
        assert!(!both.has(Role::Operator));
    }

    proptest! {
        #[test]
        fn uris_round_trip(bytes: [u8; 16], role in 0..4_usize, id: u32) {
            let (cluster, role) = (ClusterId(bytes), Role::ALL[role]);
            prop_assert_eq!(parse_uri(&grant_uri(cluster, role, id)), Some((cluster, role, id)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(der: Vec<u8>) {
            prop_assert!(PeerIdentity::of_certificate(&der).is_err());
        }
    }
}
