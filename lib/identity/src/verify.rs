//! The verification of peers during the handshake.
//!
//! A peer is accepted if its certificate leads to our authority, is valid now and for its use
//! (webpki checks all of this), and carries an identity of our cluster; a client may also require
//! one exact identity. A certificate on the deny list is refused. Host names are **not** compared.
//! That is safe here, and only here, because the authority signs for this cluster only, and a
//! certificate's identity says more than a name could: which member it is, rather than where it was
//! last seen. Members move between addresses; another process at an old address has another
//! identity and is refused. A caller without an expectation (`expected: None`) accepts any member
//! of the cluster; that is right only for asking who is there.
//!
//! Inside the cluster, the server name of TLS is the name of the role that is called. It chooses
//! which certificate a process with several shows; what it shows is then judged as ever.
//!
//! Everything is read from [`Live`] at each handshake, so that a reload takes effect at once.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

use crate::error::PeerRefusal;
use crate::material::Live;
use crate::peer::PeerIdentity;
use megalith_model::role::Role;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Verifies the server that one of our clients has called.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) live: Arc<Live>,
    pub(crate) expected: Option<(Role, u32)>,
}

/// Verifies the clients that call one of our servers. Every client needs a certificate.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) live: Arc<Live>,
}

/// Shows our own certificate to the servers that we call.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    pub(crate) live: Arc<Live>,
}

/// Shows one of our certificates to the clients of a listener.
#[derive(Clone, Debug)]
pub(crate) struct ShownCertificate {
    pub(crate) first: Arc<Live>,
    pub(crate) other: Option<Arc<Live>>,
}

impl ShownCertificate {
    /// Returns what a client sees that asks for `name`: the other certificate if that alone has
    /// the role of this name, else the first.
    pub(crate) fn to(&self, name: Option<&str>) -> &Arc<Live> {
        let role = name.and_then(Role::from_name);
        let (Some(role), Some(other)) = (role, &self.other) else {
            return &self.first;
        };
        let has = |live: &Live| live.current().identity.has(role);
        match has(other) && !has(&self.first) {
            true => other,
            false => &self.first,
        }
    }
}

/// Verifies chain, time and use of a server's certificate, but not its names.
pub(crate) fn verify_server_chain(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let algorithms = algorithms().all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let current = self.live.current();
        verify_server_chain(end_entity, intermediates, &current.roots, now)?;
        let peer = member(end_entity, &current.identity).map_err(PeerRefusal::into_rustls)?;
        let denied = self.live.denials.check(&peer);
        denied.map_err(PeerRefusal::into_rustls)?;
        match self.expected {
            Some((role, id)) if !peer.is(role, id) => {
                let found = Box::new(peer);
                Err(PeerRefusal::OtherIdentity { role, id, found }.into_rustls())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let current = self.live.current();
        let verified = current
            .clients
            .verify_client_cert(end_entity, intermediates, now)?;
        let peer = member(end_entity, &current.identity).map_err(PeerRefusal::into_rustls)?;
        let denied = self.live.denials.check(&peer);
        denied.map_err(PeerRefusal::into_rustls)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ResolvesServerCert for ShownCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.to(hello.server_name()).current().key.clone())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _root_hints: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.live.current().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Reads the identity of a verified certificate and refuses other clusters.
pub(crate) fn member(
    certificate: &CertificateDer<'_>,
    own: &PeerIdentity,
) -> Result<PeerIdentity, PeerRefusal> {
    let peer = PeerIdentity::of_certificate(certificate)?;
    if peer.cluster() != own.cluster() {
        return Err(PeerRefusal::OtherCluster {
            found: peer.cluster(),
            own: own.cluster(),
        });
    }
    Ok(peer)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    crate::provider().signature_verification_algorithms
}

fn tls12_refused() -> Error {
    Error::General("inside the cluster only TLS 1.3 is spoken".into())
}
