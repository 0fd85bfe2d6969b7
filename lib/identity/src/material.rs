//! A member's certificate, key and trusted authorities, as loaded from its directory.
//!
//! Configurations are made once and look up the current certificate at each handshake, so a renewed
//! one serves new connections without a restart; open connections keep the old one. Sessions are
//! never resumed: each connection proves both identities again, and a peer whose certificate has
//! expired or is no longer trusted can't come back with an old ticket.
//!
//! A process with two roles has a certificate for each, so that one stolen key is one role. Each is
//! a [`TlsMaterial`] of its own, which reloads by itself; both follow one deny list
//! ([`TlsMaterial::load_beside`]). They dial apart and may share a listener
//! ([`TlsMaterial::also_showing`]).

use crate::bundle::{Bundle, BundlePaths};
use crate::denials::Denials;
use crate::error::{IdentityError, PeerRefusal};
use crate::peer::PeerIdentity;
use crate::verify::{self, ClientVerifier, OwnCertificate, ServerVerifier, ShownCertificate};
use crate::watch;
use megalith_model::role::Role;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Tells the time by which certificates are judged.
pub type CertificateClock = Arc<dyn TimeProvider>;

/// Who one member is and whom it trusts. Shared by all its connections; see this module's head.
pub struct TlsMaterial {
    dir: PathBuf,
    live: Arc<Live>,
    shown: ShownCertificate,
    server: Arc<ServerConfig>,
}

/// What is current. Configurations hold this and look it up at each handshake.
pub(crate) struct Live {
    current: RwLock<Arc<Loaded>>,
    pub(crate) denials: Denials,
}

/// The result of reading the files once, checked.
pub(crate) struct Loaded {
    pub(crate) identity: Arc<PeerIdentity>,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    expires: SystemTime,
}

impl Live {
    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live")
            .field(&self.current().identity)
            .finish()
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity();
        f.debug_struct("TlsMaterial")
            .field("dir", &self.dir)
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}

impl TlsMaterial {
    /// Loads the bundle in `dir`. Fails if a peer would refuse it: if it is expired, of another
    /// authority or without identity, or if the key isn't its own.
    pub fn load(dir: &Path) -> Result<Arc<Self>, IdentityError> {
        Self::load_with_clock(dir, Arc::new(DefaultTimeProvider))
    }

    /// Does what [`TlsMaterial::load`] does, checking certificates by a given clock.
    pub fn load_with_clock(
        dir: &Path,
        clock: CertificateClock,
    ) -> Result<Arc<Self>, IdentityError> {
        let loaded = Loaded::read(dir, &clock)?;
        Self::new(dir, loaded, Denials::default(), clock)
    }

    /// Loads another certificate of this process, from `dir`. It follows the same deny list as this
    /// one, reloads by itself, and knows by itself whether it is denied. Fails as
    /// [`TlsMaterial::load`] does, and if it is of another cluster.
    pub fn load_beside(&self, dir: &Path) -> Result<Arc<Self>, IdentityError> {
        let clock = self.server.time_provider.clone();
        let loaded = Loaded::read(dir, &clock)?;
        let (found, own) = (loaded.identity.cluster(), self.identity().cluster());
        if found != own {
            return Err(IdentityError::OwnCertificate {
                path: BundlePaths::in_dir(dir).cert,
                reason: PeerRefusal::OtherCluster { found, own },
            });
        }
        Self::new(dir, loaded, self.live.denials.beside(), clock)
    }

    /// Returns this certificate for a listener that also shows `other`, to those who ask for a role
    /// that `other` has and this one does not. Everybody else sees this one: who asks for no role,
    /// or for one that neither has. Clients are verified by the authority of this one. Both follow
    /// their own reloads; nothing changes for what dials with either.
    #[must_use]
    pub fn also_showing(&self, other: &Self) -> Arc<Self> {
        let shown = ShownCertificate {
            first: self.live.clone(),
            other: Some(other.live.clone()),
        };
        let mut server = ServerConfig::clone(&self.server);
        server.cert_resolver = Arc::new(shown.clone());
        Arc::new(Self {
            dir: self.dir.clone(),
            live: self.live.clone(),
            shown,
            server: Arc::new(server),
        })
    }

    /// Returns this certificate for a listener that says which `protocols` it speaks, best first,
    /// such as `["h2"]`. A client that asks for others only is refused; one that asks for none is
    /// not.
    #[must_use]
    pub fn speaking(&self, protocols: &[&str]) -> Arc<Self> {
        let names = protocols.iter().map(|name| name.as_bytes().to_vec());
        let mut server = ServerConfig::clone(&self.server);
        server.alpn_protocols = names.collect();
        Arc::new(Self {
            dir: self.dir.clone(),
            live: self.live.clone(),
            shown: self.shown.clone(),
            server: Arc::new(server),
        })
    }

    fn new(
        dir: &Path,
        loaded: Loaded,
        denials: Denials,
        clock: CertificateClock,
    ) -> Result<Arc<Self>, IdentityError> {
        let live = Arc::new(Live {
            current: RwLock::new(Arc::new(loaded)),
            denials,
        });
        let shown = ShownCertificate {
            first: live.clone(),
            other: None,
        };
        let server = server_config(&shown, clock)?;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            live,
            shown,
            server,
        }))
    }

    /// Returns who we are.
    #[must_use]
    pub fn identity(&self) -> Arc<PeerIdentity> {
        self.live.current().identity.clone()
    }

    /// Returns the deny list that all connections of this certificate follow.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.live.denials
    }

    /// Returns when our own certificate expires.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.live.current().expires
    }

    /// Returns the configuration for listeners inside the cluster. It follows reloads. Prefer
    /// [`accept`](crate::accept), which also sets a deadline and names the peer.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Returns a configuration for calling one peer, or, if `expected` is None, any member of the
    /// cluster. It follows reloads. It must be used with the name that names the expected role.
    /// Prefer [`connect`](crate::connect), which does that.
    pub fn client_config(
        &self,
        expected: Option<(Role, u32)>,
    ) -> Result<Arc<ClientConfig>, IdentityError> {
        let clock = self.server.time_provider.clone();
        let live = self.live.clone();
        let mut config = ClientConfig::builder_with_details(crate::provider(), clock)
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Configuration)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { live, expected }))
            .with_client_cert_resolver(Arc::new(OwnCertificate {
                live: self.live.clone(),
            }));
        config.resumption = Resumption::disabled();
        // Names mean nothing inside the cluster. All that is sent in clear is the role that is
        // called: one process may have a certificate for each of its roles.
        config.enable_sni = expected.is_some();
        Ok(Arc::new(config))
    }

    /// Reads the files again and uses them for new handshakes. Returns whether they differ from
    /// those in use. After an error everything stays as it was. An identity never changes, and
    /// loses no role.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let loaded = Loaded::read(&self.dir, &self.server.time_provider)?;
        let mut current = self
            .live
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !same_member(&current.identity, &loaded.identity) {
            return Err(IdentityError::IdentityChanged {
                path: BundlePaths::in_dir(&self.dir).cert,
                own: Box::new(PeerIdentity::clone(&current.identity)),
                found: Box::new(PeerIdentity::clone(&loaded.identity)),
            });
        }
        let changed =
            current.key.cert != loaded.key.cert || current.roots.roots != loaded.roots.roots;
        *current = Arc::new(loaded);
        Ok(changed)
    }

    /// Watches the files, checking them at each `interval`, and reloads them when they change.
    /// Failures are logged and tried again. The task ends when `stop` does, for example a token's
    /// `cancelled_owned()`.
    pub fn spawn_reload(
        self: &Arc<Self>,
        interval: Duration,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let this = self.clone();
        let paths = BundlePaths::in_dir(&self.dir).to_vec();
        tokio::spawn(watch::run(
            paths,
            interval,
            stop,
            Arc::new(move || this.reload()),
        ))
    }

    /// Returns what a client that asked for `name` was shown.
    pub(crate) fn shown_to(&self, name: Option<&str>) -> &Arc<Live> {
        self.shown.to(name)
    }

    /// Reads the identity of a peer whose handshake has succeeded.
    pub(crate) fn peer_of(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<PeerIdentity, PeerRefusal> {
        let certificate = certificates
            .and_then(<[_]>::first)
            .ok_or(PeerRefusal::Missing)?;
        verify::member(certificate, &self.live.current().identity)
    }
}

impl Loaded {
    fn read(dir: &Path, clock: &CertificateClock) -> Result<Self, IdentityError> {
        let paths = BundlePaths::in_dir(dir);
        let bundle = Bundle::load(dir)?;
        let mut roots = RootCertStore::empty();
        for authority in parse_certificates(&bundle.ca_pem, &paths.ca)? {
            roots
                .add(authority)
                .map_err(|error| IdentityError::Content {
                    path: paths.ca.clone(),
                    expected: "the certificate of an authority",
                    found: error.to_string(),
                })?;
        }
        let roots = Arc::new(roots);
        let chain = parse_certificates(&bundle.cert_pem, &paths.cert)?;
        let key = certified_key(chain, bundle.key_pem.expose(), &paths.cert, &paths.key)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), crate::provider())
            .build()
            .map_err(|error| IdentityError::Content {
                path: paths.ca.clone(),
                expected: "the certificate of an authority",
                found: error.to_string(),
            })?;
        let own = |reason| IdentityError::OwnCertificate {
            path: paths.cert.clone(),
            reason,
        };
        let (identity, expires) = check_own(&key.cert, &roots, &*clients, clock).map_err(own)?;
        Ok(Self {
            identity: Arc::new(identity),
            key: Arc::new(key),
            roots,
            clients,
            expires,
        })
    }
}

/// Checks our own chain as a peer would, in both directions.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    clients: &dyn ClientCertVerifier,
    clock: &CertificateClock,
) -> Result<(PeerIdentity, SystemTime), PeerRefusal> {
    let (first, rest) = chain.split_first().ok_or(PeerRefusal::Missing)?;
    let now = clock.current_time().unwrap_or_else(UnixTime::now);
    verify::verify_server_chain(first, rest, roots, now)
        .and_then(|()| clients.verify_client_cert(first, rest, now).map(|_| ()))
        .map_err(|error| {
            PeerRefusal::found_in(&error)
                .unwrap_or_else(|| PeerRefusal::Malformed(error.to_string()))
        })?;
    Ok((PeerIdentity::of_certificate(first)?, end_of(first)?))
}

/// Returns when a certificate expires.
pub(crate) fn end_of(certificate: &CertificateDer<'_>) -> Result<SystemTime, PeerRefusal> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| PeerRefusal::Malformed(error.to_string()))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Reads all certificates of a PEM text; at least one.
pub(crate) fn parse_certificates(
    pem: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let wrong = |found| IdentityError::Content {
        path: path.to_owned(),
        expected: "certificates in PEM",
        found,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        Err(wrong("none".into()))
    } else {
        Ok(found)
    }
}

/// Joins a chain with its key, which must be the key of its first certificate.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
    cert_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, IdentityError> {
    let wrong = |found| IdentityError::Content {
        path: key_path.to_owned(),
        expected: "a private key in PEM",
        found,
    };
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &crate::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch {
            key: key_path.to_owned(),
            certificate: cert_path.to_owned(),
        },
        error => wrong(error.to_string()),
    })
}

fn server_config(
    shown: &ShownCertificate,
    clock: CertificateClock,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let mut config = ServerConfig::builder_with_details(crate::provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .map_err(IdentityError::Configuration)?
        .with_client_cert_verifier(Arc::new(ClientVerifier {
            live: shown.first.clone(),
        }))
        .with_cert_resolver(Arc::new(shown.clone()));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Returns true if a renewed certificate still names the same member. It may have more roles, but
/// has all that this process may be running: a machine with two certificates has them in two
/// directories, and one that was put into the other's is not taken up.
fn same_member(own: &PeerIdentity, found: &PeerIdentity) -> bool {
    let mut roles = own.grants().iter();
    own.cluster() == found.cluster() && roles.all(|&(role, id)| found.is(role, id))
}
