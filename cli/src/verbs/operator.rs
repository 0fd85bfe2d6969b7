//! `megalith operator`.

use crate::args::OperatorInitArgs;
use crate::config;
use crate::files;
use crate::setup::{self, InitError};
use megalith_identity::Role;

/// Makes an operator's certificate and writes its file.
pub fn init(args: &OperatorInitArgs) -> Result<String, InitError> {
    config::parse_members("--metadata-member", &args.members)?;
    let file = args.dir.join("operator.toml");
    setup::must_be_absent(&file)?;
    let authority = setup::authority(&args.ca_dir)?;
    files::make_dir(&args.dir)?;
    let dir = files::absolute(&args.dir)?;
    let tls = dir.join("tls");
    setup::certificate(&authority, &tls, &[(Role::Operator, 0)], &[], args.days)?;
    let root_key_file = args
        .root_key_file
        .as_deref()
        .map(files::absolute)
        .transpose()?;
    setup::write_operator(&file, &tls, root_key_file, &args.members)?;
    Ok(format!(
        "operator of cluster {} is set up; for example\n  megalith status --config {}\n",
        authority.cluster(),
        file.display()
    ))
}
