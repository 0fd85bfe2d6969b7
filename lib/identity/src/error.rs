//! What can go wrong with identities, in words that an operator can act on.

use crate::peer::{GrantsError, PeerIdentity};
use megalith_model::ids::ClusterId;
use megalith_model::role::Role;
use rustls::{AlertDescription, CertificateError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use x509_parser::time::ASN1Time;

/// A failure to make, read or use a certificate, or to get a connection with a known peer.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was being done to it.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        source: io::Error,
    },
    /// A directory already holds an authority, which is never overwritten.
    #[error("{path} already exists: an authority is never overwritten")]
    AuthorityExists { path: PathBuf },
    /// A file was read but doesn't hold what it should.
    #[error("{path} does not hold {expected}: {found}")]
    Content {
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// The key and the certificate in one directory don't belong together.
    #[error("the key {key} does not belong to the certificate {certificate}")]
    KeyMismatch { key: PathBuf, certificate: PathBuf },
    /// Our own certificate would be refused by every peer.
    #[error("the certificate {path} can't be used: {reason}")]
    OwnCertificate {
        path: PathBuf,
        /// Why peers would refuse it.
        reason: PeerRefusal,
    },
    /// The files on disk now name another member; the process keeps what it has.
    #[error("the certificate {path} names {found} but this process is {own}")]
    IdentityChanged {
        path: PathBuf,
        /// The identity that the process runs with.
        own: Box<PeerIdentity>,
        /// The identity on disk.
        found: Box<PeerIdentity>,
    },
    /// The requested roles can't be in one certificate.
    #[error("choose the roles of a certificate")]
    Grants(#[source] GrantsError),
    /// A host that can't be put into a certificate.
    #[error("{host:?} is neither a host name nor an IP address")]
    Host {
        /// The host as given.
        host: String,
    },
    /// A certificate without any lifetime, because of the request or because the authority expired.
    #[error("a certificate from {path} would be valid for no time: asked for {days} days")]
    Lifetime {
        path: PathBuf,
        /// The days asked for.
        days: u32,
    },
    /// Keys or certificates could not be made.
    #[error("make {what}")]
    Make {
        /// What was being made.
        what: &'static str,
        source: rcgen::Error,
    },
    /// A TLS configuration could not be built.
    #[error("build the TLS configuration")]
    Configuration(#[source] rustls::Error),
    #[error("connect to {peer}")]
    Connect {
        /// The peer's address as given.
        peer: String,
        source: io::Error,
    },
    /// The peer did not finish connecting or its handshake in time.
    #[error("{peer} did not finish the handshake within {deadline:?}")]
    Timeout {
        peer: String,
        /// The time it had.
        deadline: Duration,
    },
    /// We refused the peer.
    #[error("refused {peer}: {reason}")]
    Refused { peer: String, reason: PeerRefusal },
    /// The peer refused us.
    #[error("{peer} refused our certificate: {reason}")]
    RefusedByPeer {
        peer: String,
        /// What its alert means.
        reason: &'static str,
    },
    /// The handshake failed for another reason: not TLS, another version, a broken connection.
    #[error("TLS handshake with {peer}")]
    Handshake { peer: String, source: io::Error },
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// It has expired.
    #[error("the certificate expired{}", shown_time(.at))]
    Expired {
        /// When, in seconds since 1970, if known.
        at: Option<u64>,
    },
    /// It is not valid yet: usually a clock is wrong.
    #[error("the certificate is not valid yet{}; check the clocks", shown_time(.from))]
    NotYetValid {
        /// When it becomes valid, in seconds since 1970, if known.
        from: Option<u64>,
    },
    /// It leads to another authority.
    #[error("the certificate was not signed by this cluster's authority")]
    ForeignAuthority,
    /// A signature is wrong: a forgery, or another authority with the same name.
    #[error("a signature does not verify, of the certificate or of the handshake")]
    BadSignature,
    /// It may not be used for this purpose, such as an https certificate inside the cluster.
    #[error("the certificate is not made for use between cluster members")]
    WrongPurpose,
    /// It is on the cluster's deny list.
    #[error("the certificate is denied in this cluster")]
    Denied,
    /// The peer showed none.
    #[error("the peer showed no certificate")]
    Missing,
    /// It names no role in any cluster.
    #[error("the certificate names no role in a cluster")]
    NoIdentity,
    /// It belongs to another cluster.
    #[error("the certificate is of cluster {found}, not of {own}")]
    OtherCluster { found: ClusterId, own: ClusterId },
    /// It belongs to our cluster, but not to the peer that was called.
    #[error("expected {role} {id}, found {found}")]
    OtherIdentity {
        /// The role that was expected.
        role: Role,
        /// The id that was expected.
        id: u32,
        /// The identity that answered.
        found: Box<PeerIdentity>,
    },
    /// It is damaged or breaks a rule of identities.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
}

fn shown_time(seconds: &Option<u64>) -> String {
    seconds
        .and_then(|s| i64::try_from(s).ok())
        .and_then(|s| ASN1Time::from_timestamp(s).ok())
        .map_or_else(String::new, |time| format!(" ({time})"))
}

impl PeerRefusal {
    /// Wraps the refusal for rustls, from which [`PeerRefusal::found_in`] gets it back.
    pub(crate) fn into_rustls(self) -> rustls::Error {
        if self == Self::Denied {
            // The one refusal that the peer hears of by an alert of its own.
            return rustls::Error::InvalidCertificate(CertificateError::Revoked);
        }
        let other = rustls::OtherError(std::sync::Arc::new(self));
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
    }

    /// Returns why rustls refused a certificate; None if it failed for another reason.
    pub(crate) fn found_in(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::NoCertificatesPresented => Some(Self::Missing),
            rustls::Error::InvalidCertificate(fault) => Some(Self::of_fault(fault)),
            _ => None,
        }
    }

    fn of_fault(fault: &CertificateError) -> Self {
        match fault {
            CertificateError::Expired => Self::Expired { at: None },
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired {
                at: Some(not_after.as_secs()),
            },
            CertificateError::NotValidYet => Self::NotYetValid { from: None },
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid {
                from: Some(not_before.as_secs()),
            },
            CertificateError::UnknownIssuer => Self::ForeignAuthority,
            CertificateError::Revoked => Self::Denied,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::Other(other) => other
                .0
                .downcast_ref::<Self>()
                .cloned()
                .unwrap_or_else(|| Self::Malformed(other.0.to_string())),
            // The enum is not exhaustive; anything new is shown in rustls's words.
            fault => Self::Malformed(fault.to_string()),
        }
    }
}

impl IdentityError {
    /// Returns true if a peer refused us because our certificate is on its deny list.
    #[must_use]
    pub fn is_own_denied(&self) -> bool {
        matches!(self, Self::RefusedByPeer { reason, .. } if *reason == DENIED)
    }

    /// Builds the error for what ended a handshake or connection with `peer`.
    pub(crate) fn of_connection(peer: String, source: io::Error) -> Self {
        let cause = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(reason) = cause.and_then(PeerRefusal::found_in) {
            return Self::Refused { peer, reason };
        }
        if let Some(rustls::Error::AlertReceived(alert)) = cause
            && let Some(reason) = alert_meaning(*alert)
        {
            return Self::RefusedByPeer { peer, reason };
        }
        Self::Handshake { peer, source }
    }
}

/// What a peer means that has denied us.
const DENIED: &str = "it is denied in this cluster";

/// Returns the meaning of an alert about our certificate; None for alerts about anything else.
fn alert_meaning(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "it is expired or not yet valid there",
        AlertDescription::UnknownCA => "it was not signed by the authority the peer trusts",
        AlertDescription::CertificateRequired => "we showed none",
        AlertDescription::CertificateUnknown => "it is of another cluster or has another identity",
        AlertDescription::UnsupportedCertificate => "it is not made for use between members",
        AlertDescription::BadCertificate => "it is malformed",
        AlertDescription::DecryptError => "a signature does not verify",
        AlertDescription::AccessDenied => "access was denied",
        AlertDescription::CertificateRevoked => DENIED,
        _ => return None,
    })
}
