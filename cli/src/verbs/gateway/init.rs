//! `megalith gateway init`: certificates, root key and file of a new gateway.

use crate::args::GatewayInitArgs;
use crate::config::{self, GatewayFile, GatewaySection};
use crate::files;
use crate::setup::{self, InitError};
use megalith_identity::Role;

/// Runs the verb.
pub fn init(args: &GatewayInitArgs) -> Result<String, InitError> {
    config::parse_members("--metadata-member", &args.members)?;
    let file = args.dir.join("gateway.toml");
    setup::must_be_absent(&file)?;
    let authority = setup::authority(&args.ca_dir)?;
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    let (tls, https) = (dir.join("tls"), dir.join("https"));
    let grants = [(Role::Gateway, args.id)];
    setup::certificate(&authority, &tls, &grants, &args.hosts, args.days)?;
    setup::https_certificate(&authority, &https, &args.hosts)?;
    let root_key_file = match &args.root_key_file {
        Some(file) => {
            setup::root_key(file)?;
            Some(files::absolute(file)?)
        }
        None => None,
    };
    let content = GatewayFile {
        gateway: GatewaySection {
            listen: args.listen.clone(),
            https_listen: args.https_listen.clone().unwrap_or_default(),
            https_cert: Some(https.join("node.crt")),
            https_key: Some(https.join("node.key")),
            health_listen: args.health_listen.clone().unwrap_or_default(),
            domains: args.domains.clone(),
            ..GatewaySection::new(args.id, tls, root_key_file)
        },
        metadata: config::MembersSection {
            members: args.members.clone(),
        },
        vault: None,
        log: config::LogSection::default(),
    };
    setup::write_toml(&file, &content)?;
    Ok(format!(
        "gateway {} of cluster {} is set up; run it with\n  megalith gateway --config {}\n",
        args.id,
        authority.cluster(),
        file.display()
    ))
}
