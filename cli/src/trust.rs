//! Which certificates are trusted where a service outside of the cluster is called.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// The trusted certificates can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds a certificate that can't be read", path.display())]
    Malformed {
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
}

/// Whom to trust.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// The system's authorities, and those in a PEM file.
    SystemAnd(Option<&'a Path>),
    /// Those in a PEM file alone.
    Only(&'a Path),
}

/// Makes the settings of a client without a certificate of its own.
pub fn client_config(trust: Trust<'_>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    let file = match trust {
        Trust::SystemAnd(file) => {
            // On a system without certificates it still reaches endpoints without TLS, and those of
            // the file.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            file
        }
        Trust::Only(file) => Some(file),
    };
    if let Some(path) = file {
        add(&mut roots, path)?;
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let pem = std::fs::read(path).map_err(|source| TrustError::Read {
        path: path.to_owned(),
        source,
    })?;
    let malformed = |source: Box<dyn Error + Send + Sync>| TrustError::Malformed {
        path: path.to_owned(),
        source,
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| malformed(Box::new(error)))?;
        let added = roots.add(certificate);
        added.map_err(|error| malformed(Box::new(error)))?;
    }
    if roots.len() == before {
        return Err(TrustError::Empty(path.to_owned()));
    }
    Ok(())
}
