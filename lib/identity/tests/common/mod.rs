//! Authorities, members and connections over real TCP for the tests of identities.
#![allow(
    dead_code,
    missing_docs,
    reason = "each test binary uses its own part of it"
)]

use megalith_identity::{
    Authority, Bundle, CertificateClock, ClientStream, IdentifiedStream, IdentityError,
    IssueRequest, Role, TlsMaterial, accept_within, connect_within,
};
use megalith_model::ids::ClusterId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

pub const CLUSTER: ClusterId = ClusterId([7; 16]);
pub const OTHER_CLUSTER: ClusterId = ClusterId([8; 16]);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time limit for what must happen; a test that needs all of it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An authority with room for its members' directories.
pub struct World {
    pub dir: TempDir,
    pub authority: Authority,
}

impl World {
    pub fn new() -> Self {
        Self::at(CLUSTER, SystemTime::now())
    }

    pub fn at(cluster: ClusterId, now: SystemTime) -> Self {
        let dir = TempDir::new().expect("temp dir");
        let authority =
            Authority::create_at(&dir.path().join("ca"), cluster, now).expect("authority");
        Self { dir, authority }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Issues a certificate of 30 days and saves it under `name`.
    pub fn save(&self, name: &str, grants: &[(Role, u32)]) -> PathBuf {
        let bundle = self.authority.issue(&request(grants, 30)).expect("issue");
        let dir = self.path(name);
        bundle.save(&dir).expect("save");
        dir
    }

    pub fn member(&self, name: &str, grants: &[(Role, u32)]) -> Arc<TlsMaterial> {
        TlsMaterial::load(&self.save(name, grants)).expect("load")
    }

    /// A member whose certificate starts at `from` and whose time is that of `clock`.
    pub fn member_at(
        &self,
        name: &str,
        (from, days): (SystemTime, u32),
        clock: SystemTime,
    ) -> Arc<TlsMaterial> {
        let request = request(&[(Role::Storage, 1)], days);
        let bundle = self.authority.issue_at(&request, from).expect("issue");
        bundle.save(&self.path(name)).expect("save");
        TlsMaterial::load_with_clock(&self.path(name), stopped(clock)).expect("load")
    }

    /// A certificate signed by this authority with any names, as a careless or hostile operator
    /// could make it.
    pub fn forge(&self, uris: &[String]) -> Bundle {
        let read = |name| std::fs::read_to_string(self.path("ca").join(name)).expect("read");
        let (ca_pem, ca_key) = (read("ca.crt"), read("ca.key"));
        let ca_key = KeyPair::from_pem(&ca_key).expect("key");
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).expect("issuer");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        for uri in uris {
            let uri = uri.as_str().try_into().expect("ascii");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &issuer).expect("sign");
        let key_pem = megalith_identity::KeyPem::new(key.serialize_pem());
        Bundle {
            ca_pem,
            cert_pem: certificate.pem(),
            key_pem,
        }
    }
}

pub fn request(grants: &[(Role, u32)], days: u32) -> IssueRequest {
    IssueRequest {
        grants: grants.to_vec(),
        hosts: vec!["localhost".into()],
        days,
    }
}

pub fn uri(cluster: ClusterId, role: &str, id: u32) -> String {
    format!("megalith://{cluster}/{role}/{id}")
}

pub fn stopped(now: SystemTime) -> CertificateClock {
    #[derive(Debug)]
    struct Stopped(UnixTime);
    impl TimeProvider for Stopped {
        fn current_time(&self) -> Option<UnixTime> {
            Some(self.0)
        }
    }
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    Arc::new(Stopped(UnixTime::since_unix_epoch(since)))
}

pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    (listener, address)
}

pub async fn accept_one(
    listener: &TcpListener,
    server: &TlsMaterial,
) -> Result<IdentifiedStream, IdentityError> {
    let (tcp, _) = listener.accept().await.expect("accept");
    accept_within(tcp, server, PATIENCE).await
}

/// Lets one of our clients call one of our servers.
pub async fn meet(
    server: &TlsMaterial,
    client: &TlsMaterial,
    expected: Option<(Role, u32)>,
) -> (
    Result<IdentifiedStream, IdentityError>,
    Result<ClientStream, IdentityError>,
) {
    let (listener, address) = listen().await;
    tokio::join!(
        accept_one(&listener, server),
        connect_within(&address, client, expected, PATIENCE)
    )
}

pub fn chain_of(bundle: &Bundle) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(bundle.cert_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.expose().as_bytes()).expect("key");
    (chain.collect::<Result<_, _>>().expect("chain"), key)
}

pub fn roots_of(ca_pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("pem"))
        .expect("root");
    roots
}

/// Builds a client with plain rustls, as a program without this crate would.
pub fn stranger(
    ca_pem: &str,
    own: Option<&Bundle>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots_of(ca_pem));
    match own.map(chain_of) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("own"),
        None => builder.with_no_client_auth(),
    }
}

/// Builds a server with plain rustls that asks for no certificate.
pub fn strange_server(bundle: &Bundle) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = chain_of(bundle);
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("own")
}

pub async fn connect_stranger(
    address: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = "localhost".try_into().expect("name");
    tokio_rustls::TlsConnector::from(config)
        .connect(name, tcp)
        .await
}

pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write");
}
