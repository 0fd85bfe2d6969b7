//! `megalith meta init`: makes a new metadata directory, on a new disk, for a node set up before.

use super::MetaError;
use crate::args::MetaInitArgs;
use crate::config::{self, NoFlags, NodeFile};
use crate::reach::ReachError;
use crate::setup;
use megalith_identity::TlsMaterial;
/// Runs the verb.
pub fn run(args: &MetaInitArgs) -> Result<String, MetaError> {
    let settings: NodeFile = config::load(Some(&args.config), NoFlags {})?;
    let origin = args.config.display().to_string();
    let Some(dir) = &settings.metadata.dir else {
        return Err(MetaError::NoMember(args.config.clone()));
    };
    let members = config::parse_members(&origin, &settings.metadata.members)?;
    let voters: Vec<u32> = members.iter().map(|(id, _)| *id).collect();
    if !voters.contains(&settings.node.id) {
        return Err(MetaError::NotNamed {
            file: args.config.clone(),
            node: settings.node.id,
        });
    }
    let tls = TlsMaterial::load(settings.metadata_tls_dir()).map_err(ReachError::from)?;
    let cluster = tls.identity().cluster();
    setup::init_metadata(dir, cluster, settings.node.id, &voters)?;
    Ok(format!(
        "{} is made; once its node runs, the group takes it in\n",
        dir.display()
    ))
}
