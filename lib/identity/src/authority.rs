//! The cluster's certificate authority.
//!
//! **Whoever holds `ca.key` can be any member of the cluster.** No server needs it to run, only the
//! operator to issue certificates. Keep its directory off the servers (in a safe, on an offline
//! machine, or as a secret that only the operator can read) and give each server its [`Bundle`].
//! `megalith up` keeps it beside the data, because there a single process is the whole cluster.

use crate::bundle::{Bundle, KeyPem};
use crate::error::IdentityError;
use crate::files::{self, MODE_PUBLIC, MODE_SECRET, NewFile};
use crate::peer::{self, PeerIdentity};
use megalith_model::ids::ClusterId;
use megalith_model::role::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

const CA_FILE: &str = "ca.crt";
const CA_KEY_FILE: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority lives. Nothing it issues lives longer.
const AUTHORITY_DAYS: u32 = 10 * 365;
/// How long an https certificate lives: what browsers accept at most.
const HTTPS_DAYS: u32 = 397;
/// Certificates are valid from this long before they are made, so that clocks may differ.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(3600);

/// What a certificate should say.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The roles with their ids; see [`PeerIdentity::new`] for what goes together.
    pub grants: Vec<(Role, u32)>,
    /// Host names and IP addresses, for tools that look at them; the cluster itself does not.
    pub hosts: Vec<String>,
    /// Days until it expires; at least 1, cut to the authority's own end.
    pub days: u32,
}

/// The cluster's certificate authority with its key; see the warning in this module.
pub struct Authority {
    cluster: ClusterId,
    path: PathBuf,
    ca_pem: String,
    expires: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of `cluster` in `dir` (created if missing, for its owner only):
    /// `ca.crt`, and `ca.key` with mode 0600. Refuses to overwrite one. Everything is synced when
    /// it returns.
    pub fn create(dir: &Path, cluster: ClusterId) -> Result<Self, IdentityError> {
        Self::create_at(dir, cluster, SystemTime::now())
    }

    /// Does what [`Authority::create`] does, at a given time.
    pub fn create_at(
        dir: &Path,
        cluster: ClusterId,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let path = dir.join(CA_FILE);
        if path.exists() {
            return Err(IdentityError::AuthorityExists { path });
        }
        let what = "the authority";
        let made = |source| IdentityError::Make { what, source };
        let mut params = params(&format!("Megalith cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(ia5(&peer::authority_uri(cluster))?)];
        params.not_before = (now - CLOCK_SKEW_MAX).into();
        params.not_after = (now + DAY * AUTHORITY_DAYS).into();
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.self_signed(&key).map_err(made)?;
        let key_pem = KeyPem::new(key.serialize_pem());
        files::make_dir(dir)?;
        // The certificate comes last: an authority exists once both files do.
        files::write_files(
            dir,
            &[
                NewFile {
                    name: CA_KEY_FILE,
                    content: key_pem.expose(),
                    mode: MODE_SECRET,
                },
                NewFile {
                    name: CA_FILE,
                    content: &certificate.pem(),
                    mode: MODE_PUBLIC,
                },
            ],
        )?;
        Self::load(dir)
    }

    /// Reads the authority in `dir` and checks that its key and certificate belong together.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let (path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        files::warn_if_exposed(&key_path);
        let ca_pem = files::read_text(&path)?;
        let key_pem = KeyPem::new(files::read_text(&key_path)?);
        let content = |path: &Path, expected, found: &dyn fmt::Display| IdentityError::Content {
            path: path.to_owned(),
            expected,
            found: found.to_string(),
        };
        let expected = "the certificate of an authority";
        let der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| content(&path, expected, &error))?;
        let key = KeyPair::from_pem(key_pem.expose())
            .map_err(|error| content(&key_path, "a private key", &error))?;
        let cluster =
            peer::authority_cluster(&der).map_err(|error| content(&path, expected, &error))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| content(&path, expected, &error))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(IdentityError::KeyMismatch {
                key: key_path,
                certificate: path,
            });
        }
        let expires = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(expires);
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| content(&path, expected, &error))?;
        Ok(Self {
            cluster,
            path,
            ca_pem,
            expires,
            issuer,
        })
    }

    /// Returns true if `dir` holds an authority.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(CA_FILE).is_file() && dir.join(CA_KEY_FILE).is_file()
    }

    /// Returns the cluster whose members it certifies.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the authority's own certificate in PEM, which peers trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Makes a key and a certificate for a member of the cluster.
    pub fn issue(&self, request: &IssueRequest) -> Result<Bundle, IdentityError> {
        self.issue_at(request, SystemTime::now())
    }

    /// Does what [`Authority::issue`] does, at a given time.
    pub fn issue_at(
        &self,
        request: &IssueRequest,
        now: SystemTime,
    ) -> Result<Bundle, IdentityError> {
        let identity =
            PeerIdentity::new(self.cluster, &request.grants).map_err(IdentityError::Grants)?;
        let mut params = params(&identity.to_string());
        for uri in identity.uris() {
            params.subject_alt_names.push(SanType::URI(ia5(&uri)?));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(params, &request.hosts, request.days, now)
    }

    /// Makes a certificate for an https listener with these hosts (at least one). It carries no
    /// role and a client can't use it, so it opens nothing inside the cluster.
    pub fn issue_server(&self, hosts: &[String]) -> Result<Bundle, IdentityError> {
        let first = hosts.first().map_or("", String::as_str);
        let mut params = params(first);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if hosts.is_empty() {
            return Err(IdentityError::Host {
                host: String::new(),
            });
        }
        self.sign(params, hosts, HTTPS_DAYS, SystemTime::now())
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        hosts: &[String],
        days: u32,
        now: SystemTime,
    ) -> Result<Bundle, IdentityError> {
        let asked = now.checked_add(DAY * days);
        let end = asked.map_or(self.expires, |asked| asked.min(self.expires));
        if end <= now {
            return Err(IdentityError::Lifetime {
                path: self.path.clone(),
                days,
            });
        }
        params.not_before = (now - CLOCK_SKEW_MAX).into();
        params.not_after = end.into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        let made = |source| IdentityError::Make {
            what: "a certificate",
            source,
        };
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        Ok(Bundle {
            ca_pem: self.ca_pem.clone(),
            cert_pem: certificate.pem(),
            key_pem: KeyPem::new(key.serialize_pem()),
        })
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn host_name(host: &str) -> Result<SanType, IdentityError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || IdentityError::Host {
        host: host.to_owned(),
    };
    let tail = host.strip_prefix("*.").unwrap_or(host);
    rustls::pki_types::DnsName::try_from(tail).map_err(|_| wrong())?;
    Ok(SanType::DnsName(ia5(host)?))
}

fn ia5(text: &str) -> Result<Ia5String, IdentityError> {
    let made = |source| IdentityError::Make {
        what: "a name in a certificate",
        source,
    };
    Ia5String::try_from(text).map_err(made)
}
