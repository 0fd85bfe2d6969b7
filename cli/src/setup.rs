//! Setting up: certificate authority, certificates, root key, configuration files.
//!
//! Never overwrites a key that is there, and never formats anything but an empty directory.

use crate::args::{GatewayInitArgs, NodeInitArgs, OperatorInitArgs};
use crate::config::{self, ConfigError, GatewayFile, NodeFile, OperatorFile};
use crate::files::{self, Access, FileError};
use megalith_crypto::{CryptoError, Entropy, RootKey, SystemEntropy};
use megalith_identity::{Authority, Bundle, IdentityError, IssueRequest, Role};
use megalith_model::ids::ClusterId;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Setting up failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("root key {path}")]
    RootKey { path: PathBuf, source: CryptoError },
    /// A disk or the metadata directory.
    #[error("set up {path}")]
    Directory {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is something already.
    #[error("{0} is there already: nothing was changed")]
    Exists(PathBuf),
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    #[error("read random bytes")]
    Random(#[source] CryptoError),
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

/// Issues a certificate into `dir`, if there is none; one of other roles is refused.
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

/// Reads the root key, making it first where the file is missing.
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

/// Reads the root key.
pub fn read_root_key(path: &Path) -> Result<RootKey, InitError> {
    let text = zeroize::Zeroizing::new(files::read(path)?);
    RootKey::parse(&text).map_err(|source| InitError::RootKey {
        path: path.to_owned(),
        source,
    })
}

/// `megalith node init`.
pub fn node(args: &NodeInitArgs) -> Result<(), InitError> {
    let members = config::parse_members("--metadata-member", &args.members)?;
    if args.disks.is_empty() && !args.metadata {
        let message = "a node needs a role: --disk (storage), --metadata, or both";
        return Err(InitError::Arguments(message.to_owned()));
    }
    if args.metadata && !members.iter().any(|(id, _)| *id == args.id) {
        let message = format!(
            "--metadata: node {} is not among --metadata-member",
            args.id
        );
        return Err(InitError::Arguments(message));
    }
    let file = args.dir.join("node.toml");
    if file.exists() {
        return Err(InitError::Exists(file));
    }
    let authority = authority(&args.ca_dir)?;
    let mut grants = Vec::new();
    if !args.disks.is_empty() {
        grants.push((Role::Storage, args.id));
    }
    if args.metadata {
        grants.push((Role::Metadata, args.id));
    }
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    certificate(
        &authority,
        &dir.join("tls"),
        &grants,
        &args.hosts,
        args.days,
    )?;
    let mut disks = Vec::new();
    for disk in &args.disks {
        format_disk(disk, authority.cluster())?;
        disks.push(files::absolute(disk)?);
    }
    let metadata_dir = args.metadata.then(|| dir.join("metadata"));
    if let Some(metadata_dir) = &metadata_dir {
        let voters: Vec<u32> = members.iter().map(|(id, _)| *id).collect();
        init_metadata(metadata_dir, authority.cluster(), args.id, &voters)?;
    }
    let content = NodeFile {
        node: config::NodeSection {
            id: args.id,
            tls_dir: dir.join("tls"),
            rpc_listen: args.rpc_listen.clone(),
            data_listen: args.data_listen.clone(),
            rpc_advertise: args.rpc_advertise.clone(),
            data_advertise: args.data_advertise.clone(),
            zone: args.zone.clone(),
        },
        storage: (!disks.is_empty()).then(|| config::StorageSection::new(disks)),
        metadata: config::MetadataSection::new(
            args.members.clone(),
            metadata_dir,
            args.expected_nodes,
        ),
        log: config::LogSection::default(),
    };
    write_toml(&file, &content)?;
    println!(
        "node {} of cluster {} is set up; run it with",
        args.id,
        authority.cluster()
    );
    println!("  megalith node --config {}", file.display());
    Ok(())
}

/// `megalith gateway init`.
pub fn gateway(args: &GatewayInitArgs) -> Result<(), InitError> {
    config::parse_members("--metadata-member", &args.members)?;
    let file = args.dir.join("gateway.toml");
    if file.exists() {
        return Err(InitError::Exists(file));
    }
    let authority = authority(&args.ca_dir)?;
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    let grants = [(Role::Gateway, args.id)];
    certificate(
        &authority,
        &dir.join("tls"),
        &grants,
        &args.hosts,
        args.days,
    )?;
    https_certificate(&authority, &dir.join("https"), &args.hosts)?;
    root_key(&args.root_key_file)?;
    let content = GatewayFile {
        gateway: config::GatewaySection {
            id: args.id,
            tls_dir: dir.join("tls"),
            root_key_file: files::absolute(&args.root_key_file)?,
            listen: args.listen.clone(),
            https_listen: args.https_listen.clone().unwrap_or_default(),
            https_cert: Some(dir.join("https").join("node.crt")),
            https_key: Some(dir.join("https").join("node.key")),
            admin_listen: args.admin_listen.clone().unwrap_or_default(),
            domains: args.domains.clone(),
            region: "us-east-1".to_owned(),
            memory_bytes: 1 << 30,
        },
        metadata: config::MembersSection {
            members: args.members.clone(),
        },
        log: config::LogSection::default(),
    };
    write_toml(&file, &content)?;
    println!(
        "gateway {} of cluster {} is set up; run it with",
        args.id,
        authority.cluster()
    );
    println!("  megalith gateway --config {}", file.display());
    Ok(())
}

/// `megalith operator init`.
pub fn operator(args: &OperatorInitArgs) -> Result<(), InitError> {
    config::parse_members("--metadata-member", &args.members)?;
    let file = args.dir.join("operator.toml");
    if file.exists() {
        return Err(InitError::Exists(file));
    }
    let authority = authority(&args.ca_dir)?;
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    certificate(
        &authority,
        &dir.join("tls"),
        &[(Role::Operator, 0)],
        &[],
        args.days,
    )?;
    let root_key_file = args
        .root_key_file
        .as_deref()
        .map(files::absolute)
        .transpose()?;
    write_operator(&file, &dir.join("tls"), root_key_file, &args.members)?;
    println!(
        "operator of cluster {} is set up; for example",
        authority.cluster()
    );
    println!("  megalith status --config {}", file.display());
    Ok(())
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
    };
    write_toml(file, &content)
}

/// Makes the certificate of an https listener, if there is none.
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
    crate::metadata::init(path, cluster, member, voters).map_err(|source| InitError::Directory {
        path: path.to_owned(),
        source,
    })
}

fn write_toml<T: Serialize>(path: &Path, content: &T) -> Result<(), InitError> {
    let text = toml::to_string_pretty(content).expect("our settings are plain tables");
    Ok(files::write(path, &text, Access::Public)?)
}
