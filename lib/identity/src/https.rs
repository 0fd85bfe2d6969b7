//! The S3 listener's own certificate: every https client sees it. It is no cluster identity.
//!
//! TLS 1.2 and 1.3, no client certificate, sessions may be resumed. Grants nothing.

use crate::bundle::KeyPem;
use crate::error::IdentityError;
use crate::files;
use crate::material::{certified_key, parse_certificates};
use crate::watch;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinHandle;

/// An https certificate with its key, reloadable.
#[derive(Debug)]
pub struct HttpsMaterial {
    cert_path: PathBuf,
    key_path: PathBuf,
    current: Arc<Current>,
    server: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

impl HttpsMaterial {
    /// Loads a certificate chain and its key, both in PEM. `alpn` lists the protocols to offer,
    /// best first, such as `["h2", "http/1.1"]`.
    pub fn load(
        cert_path: &Path,
        key_path: &Path,
        alpn: &[&str],
    ) -> Result<Arc<Self>, IdentityError> {
        let current = Arc::new(Current(RwLock::new(read(cert_path, key_path)?)));
        let mut config = ServerConfig::builder_with_provider(crate::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(IdentityError::Configuration)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(Self {
            cert_path: cert_path.to_owned(),
            key_path: key_path.to_owned(),
            current,
            server: Arc::new(config),
        }))
    }

    /// Returns the configuration for the listener. It follows reloads.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Reads the files again and uses them for new handshakes. Returns whether the certificate
    /// differs from the one in use. After an error everything stays as it was.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let loaded = read(&self.cert_path, &self.key_path)?;
        let mut current = self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = current.cert != loaded.cert;
        *current = loaded;
        Ok(changed)
    }

    /// Watches the files, checking them at each `interval`, and reloads them when they change,
    /// until `stop` ends. Failures are logged and tried again.
    pub fn spawn_reload(
        self: &Arc<Self>,
        interval: Duration,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let this = self.clone();
        let paths = vec![self.cert_path.clone(), self.key_path.clone()];
        tokio::spawn(watch::run(
            paths,
            interval,
            stop,
            Arc::new(move || this.reload()),
        ))
    }
}

fn read(cert_path: &Path, key_path: &Path) -> Result<Arc<CertifiedKey>, IdentityError> {
    files::warn_if_exposed(key_path);
    let chain = parse_certificates(&files::read_text(cert_path)?, cert_path)?;
    let key_pem = KeyPem::new(files::read_text(key_path)?);
    certified_key(chain, key_pem.expose(), cert_path, key_path).map(Arc::new)
}
