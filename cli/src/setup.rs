//! Sets up certificate authority, certificates, root key, configuration files, and the directories
//! of disks and metadata.
//!
//! Never overwrites an existing key, and formats only empty directories.

use crate::config::{self, OperatorFile, SettingsError};
use crate::files::{self, Access, FileError};
use crate::guard;
use megalith_crypto::{CryptoError, Entropy, RootKey, SystemEntropy};
use megalith_identity::{Authority, Bundle, IdentityError, IssueRequest, Role};
use megalith_model::ids::{ClusterId, NodeId};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// More than any form of a root key takes.
const ROOT_KEY_FILE_BYTES_MAX: u64 = 256;

/// Why setting up failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Config(#[from] SettingsError),
    #[error("root key {path}")]
    RootKey { path: PathBuf, source: CryptoError },
    /// A disk or the metadata directory could not be made.
    #[error("set up {path}")]
    Directory {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something is already there.
    #[error("{0} is there already: nothing was changed")]
    Exists(PathBuf),
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// Nothing secret is read where it could land on a disk.
    #[error("make sure that no core dump is written")]
    Dumps(#[source] std::io::Error),
    #[error("read random bytes")]
    Random(#[source] CryptoError),
}

/// Refuses to set up again what exists already.
pub fn must_be_absent(file: &Path) -> Result<(), InitError> {
    if file.exists() {
        return Err(InitError::Exists(file.to_owned()));
    }
    Ok(())
}

/// Opens the authority in `dir`, or makes one for a new cluster.
pub fn authority(dir: &Path) -> Result<Authority, InitError> {
    if Authority::exists(dir) {
        return Ok(Authority::load(dir)?);
    }
    let mut id = [0; 16];
    SystemEntropy
        .fill(&mut id)
        .map_err(|_| InitError::Random(CryptoError::Random))?;
    Ok(Authority::create(dir, ClusterId(id))?)
}

/// Issues a certificate into `dir` if there is none; refuses an existing one with other roles.
pub fn certificate(
    authority: &Authority,
    dir: &Path,
    grants: &[(Role, u32)],
    hosts: &[String],
    days: u32,
) -> Result<(), InitError> {
    if Bundle::exists(dir) {
        return Err(InitError::Exists(dir.join("node.crt")));
    }
    let request = IssueRequest {
        grants: grants.to_vec(),
        hosts: hosts.to_vec(),
        days,
    };
    Ok(authority.issue(&request)?.save(dir)?)
}

/// Reads the root key; makes it first if the file is missing. As [`read_root_key`] otherwise.
pub fn root_key(path: &Path) -> Result<RootKey, InitError> {
    if !path.exists() {
        let key = RootKey::generate().map_err(InitError::Random)?;
        if let Some(dir) = path.parent() {
            files::make_dir(dir)?;
        }
        files::write(path, &key.to_file_text(), Access::Secret)?;
    }
    read_root_key(path)
}

/// Reads the root key. From then on this process leaves no core dump. A file that others than its
/// owner may read or write is refused.
pub fn read_root_key(path: &Path) -> Result<RootKey, InitError> {
    guard::no_dumps().map_err(InitError::Dumps)?;
    let text = files::read_secret(path, ROOT_KEY_FILE_BYTES_MAX)?;
    RootKey::parse(&text).map_err(|source| InitError::RootKey {
        path: path.to_owned(),
        source,
    })
}

/// Writes an operator's file.
pub fn write_operator(
    file: &Path,
    tls_dir: &Path,
    root_key_file: Option<PathBuf>,
    members: &[String],
) -> Result<(), InitError> {
    let content = OperatorFile {
        operator: config::OperatorSection {
            tls_dir: tls_dir.to_owned(),
            root_key_file,
        },
        metadata: config::MembersSection {
            members: members.to_vec(),
        },
        vault: None,
    };
    write_toml(file, &content)
}

/// Makes the certificate of an https listener if there is none.
pub fn https_certificate(
    authority: &Authority,
    dir: &Path,
    hosts: &[String],
) -> Result<(), InitError> {
    if Bundle::exists(dir) {
        return Ok(());
    }
    Ok(authority.issue_server(hosts)?.save(dir)?)
}

/// Formats an empty directory as a disk of the cluster.
pub fn format_disk(path: &Path, cluster: ClusterId) -> Result<(), InitError> {
    let made = megalith_server::init_disks(cluster, &[path.to_owned()]);
    made.map(drop).map_err(|source| InitError::Directory {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Makes the directory of a metadata member that has never voted.
pub fn init_metadata(
    path: &Path,
    cluster: ClusterId,
    member: u32,
    voters: &[u32],
) -> Result<(), InitError> {
    files::make_dir(path)?;
    let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
    let made = megalith_server::init_metadata(path, cluster, NodeId(member), &voters);
    made.map_err(|source| InitError::Directory {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Writes a configuration file.
pub fn write_toml<T: Serialize>(path: &Path, content: &T) -> Result<(), InitError> {
    let text = toml::to_string_pretty(content).expect("our settings are plain tables");
    Ok(files::write(path, &text, Access::Public)?)
}
