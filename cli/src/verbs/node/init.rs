//! `megalith node init`: certificate, disks, metadata directory and file of a new node.

use crate::args::NodeInitArgs;
use crate::config::{self, NodeFile};
use crate::files;
use crate::setup::{self, InitError};
use megalith_identity::Role;
use megalith_model::ids::ClusterId;
use std::path::{Path, PathBuf};

/// The certificate of the node, below its directory.
const TLS: &str = "tls";
/// That of its metadata role, if it has another one, too: a stolen certificate shall be one role.
const METADATA_TLS: &str = "tls-metadata";

/// Runs the verb.
pub fn init(args: &NodeInitArgs) -> Result<String, InitError> {
    let members = config::parse_members("--metadata-member", &args.members)?;
    let roles = roles(args, &members)?;
    let file = args.dir.join("node.toml");
    setup::must_be_absent(&file)?;
    let authority = setup::authority(&args.ca_dir)?;
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    for (role, tls) in roles {
        let grants = [(role, args.id)];
        setup::certificate(&authority, &dir.join(tls), &grants, &args.hosts, args.days)?;
    }
    let disks = format_disks(&args.disks, authority.cluster())?;
    let metadata_dir = args.metadata.then(|| dir.join("metadata"));
    if let Some(metadata_dir) = &metadata_dir {
        let voters: Vec<u32> = members.iter().map(|(id, _)| *id).collect();
        setup::init_metadata(metadata_dir, authority.cluster(), args.id, &voters)?;
    }
    setup::write_toml(&file, &settings(args, &dir, disks, metadata_dir))?;
    Ok(format!(
        "node {} of cluster {} is set up; run it with\n  megalith node --config {}\n",
        args.id,
        authority.cluster(),
        file.display()
    ))
}

/// Returns the roles that the arguments give the node, each with the directory of its certificate:
/// the first has `tls`. Refuses arguments that contradict each other.
fn roles(
    args: &NodeInitArgs,
    members: &[(u32, String)],
) -> Result<Vec<(Role, &'static str)>, InitError> {
    let mut roles = Vec::new();
    if !args.disks.is_empty() {
        roles.push((Role::Storage, TLS));
    }
    if args.metadata {
        if !members.iter().any(|(id, _)| *id == args.id) {
            let node = args.id;
            let message = format!("--metadata: node {node} is not among --metadata-member");
            return Err(InitError::Arguments(message));
        }
        let tls = if roles.is_empty() { TLS } else { METADATA_TLS };
        roles.push((Role::Metadata, tls));
    }
    if roles.is_empty() {
        let message = "a node needs a role: --disk (storage), --metadata, or both";
        return Err(InitError::Arguments(message.to_owned()));
    }
    Ok(roles)
}

fn format_disks(disks: &[PathBuf], cluster: ClusterId) -> Result<Vec<PathBuf>, InitError> {
    let mut formatted = Vec::new();
    for disk in disks {
        setup::format_disk(disk, cluster)?;
        formatted.push(files::absolute(disk)?);
    }
    Ok(formatted)
}

fn settings(
    args: &NodeInitArgs,
    dir: &Path,
    disks: Vec<PathBuf>,
    metadata_dir: Option<PathBuf>,
) -> NodeFile {
    let both = !disks.is_empty() && metadata_dir.is_some();
    NodeFile {
        node: config::NodeSection {
            id: args.id,
            tls_dir: dir.join(TLS),
            rpc_listen: args.rpc_listen.clone(),
            data_listen: args.data_listen.clone(),
            rpc_advertise: args.rpc_advertise.clone(),
            data_advertise: args.data_advertise.clone(),
            zone: args.zone.clone(),
        },
        storage: (!disks.is_empty()).then(|| config::StorageSection::new(disks)),
        metadata: config::MetadataSection {
            tls_dir: both.then(|| dir.join(METADATA_TLS)),
            ..config::MetadataSection::new(args.members.clone(), metadata_dir, args.expected_nodes)
        },
        log: config::LogSection::default(),
    }
}
