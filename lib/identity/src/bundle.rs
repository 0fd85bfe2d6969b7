//! What an authority gives to one member: the authority's certificate, its own, and its key.

use crate::error::IdentityError;
use crate::files::{self, MODE_PUBLIC, MODE_SECRET, NewFile};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The authority's certificate; several while one authority replaces another.
const CA_FILE: &str = "ca.crt";
/// The member's certificate, followed by intermediate ones if there are any.
const CERT_FILE: &str = "node.crt";
/// The member's private key.
const KEY_FILE: &str = "node.key";

/// A private key in PEM. Prints nothing and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPem(Zeroizing<String>);

impl KeyPem {
    /// Takes over the text of a key.
    #[must_use]
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// Returns the key itself; it must reach neither a log nor a world-readable file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(..)")
    }
}

/// The certificates and the key of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The certificates of the authorities to trust, in PEM.
    pub ca_pem: String,
    /// The member's certificate chain in PEM, its own first.
    pub cert_pem: String,
    /// The member's private key in PEM.
    pub key_pem: KeyPem,
}

/// The places of a bundle's files.
#[derive(Clone, Debug)]
pub(crate) struct BundlePaths {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl BundlePaths {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            ca: dir.join(CA_FILE),
            cert: dir.join(CERT_FILE),
            key: dir.join(KEY_FILE),
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<PathBuf> {
        vec![self.ca.clone(), self.cert.clone(), self.key.clone()]
    }
}

impl Bundle {
    /// Writes the bundle to `dir` as `ca.crt`, `node.crt` and `node.key` (the key with mode 0600),
    /// replacing what is there. Everything is synced when it returns.
    ///
    /// Each file is replaced whole, but there are three of them: a power cut in between leaves a
    /// key beside an older certificate, which loading reports as [`IdentityError::KeyMismatch`]. In
    /// a new directory `ca.crt` is written last, so that its presence means that the bundle is
    /// complete.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        files::make_dir(dir)?;
        let key = self.key_pem.expose();
        files::write_files(
            dir,
            &[
                NewFile {
                    name: KEY_FILE,
                    content: key,
                    mode: MODE_SECRET,
                },
                NewFile {
                    name: CERT_FILE,
                    content: &self.cert_pem,
                    mode: MODE_PUBLIC,
                },
                NewFile {
                    name: CA_FILE,
                    content: &self.ca_pem,
                    mode: MODE_PUBLIC,
                },
            ],
        )
    }

    /// Reads the bundle in `dir`, unverified. Warns if other users can read the key.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let paths = BundlePaths::in_dir(dir);
        files::warn_if_exposed(&paths.key);
        Ok(Self {
            ca_pem: files::read_text(&paths.ca)?,
            cert_pem: files::read_text(&paths.cert)?,
            key_pem: KeyPem::new(files::read_text(&paths.key)?),
        })
    }

    /// Returns true if `dir` holds a complete bundle, whether or not it is valid.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        BundlePaths::in_dir(dir)
            .to_vec()
            .iter()
            .all(|path| path.is_file())
    }
}
