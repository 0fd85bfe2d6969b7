//! `megalith cert`: one certificate, and which ones the cluster refuses.

use super::json_line;
use crate::args::{CertVerb, IssueArgs, NamedCertificate, OutputFormat};
use crate::files::{self, FileError};
use crate::reach::{self, ReachError};
use crate::setup::{self, InitError};
use megalith_admin::denied::{self, DeniedError};
use megalith_client::MetaClient;
use megalith_identity::{Authority, IdentityError, PeerIdentity};
use megalith_model::denied::{DeniedCertificate, DenyList};
use megalith_model::role::Role;
use serde_json::json;
use std::path::Path;

/// Why a certificate could not be made or shown, or the deny list not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Denied(#[from] DeniedError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Runs the verb.
pub async fn run(verb: &CertVerb) -> Result<String, CertError> {
    let reach = match verb {
        CertVerb::Deny(named) | CertVerb::Allow(named) => &named.reach,
        CertVerb::List { reach, .. } => reach,
        CertVerb::Show { file } => return show(file),
        CertVerb::Issue(args) => return issue(args),
    };
    let reached = reach::open(reach)?;
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    Ok(match verb {
        CertVerb::Deny(named) => {
            let certificate = entry(named);
            denied::deny(&meta, certificate).await?;
            format!("{certificate} is denied\n")
        }
        CertVerb::Allow(named) => {
            let certificate = entry(named);
            let left = denied::allow(&meta, certificate).await?;
            let also = left
                .denied
                .iter()
                .filter(|other| (other.role, other.id) == (certificate.role, certificate.id));
            let also: String = also
                .map(|other| format!("still denied: {other}\n"))
                .collect();
            format!("{certificate} is not denied any more\n{also}")
        }
        CertVerb::List { output, .. } => text(&denied::list(&meta).await?, *output),
        CertVerb::Show { file } => show(file)?,
        CertVerb::Issue(args) => issue(args)?,
    })
}

fn entry(named: &NamedCertificate) -> DeniedCertificate {
    DeniedCertificate {
        role: named.role,
        id: named.id,
        serial: named.serial,
    }
}

/// Issues a certificate of an authority that is there: a new one would be of a new cluster.
fn issue(args: &IssueArgs) -> Result<String, CertError> {
    if args.id == 0 && args.role != Role::Operator {
        let message = format!("--id: {} 0 is nobody; numbers begin at 1", args.role);
        return Err(InitError::Arguments(message).into());
    }
    let authority = Authority::load(&args.ca_dir)?;
    let grants = [(args.role, args.id)];
    setup::certificate(&authority, &args.dir, &grants, &args.hosts, args.days)?;
    let dir = args.dir.display();
    let shown = show(&args.dir.join("node.crt"))?;
    Ok(format!("{dir} holds a new certificate:\n{shown}"))
}

fn show(file: &Path) -> Result<String, CertError> {
    let identity = PeerIdentity::of_pem(&files::read(file)?, file)?;
    let serial = identity.serial();
    let line = |(role, id)| format!("--role {role} --id {id} --serial {serial}\n");
    Ok(identity.grants().iter().copied().map(line).collect())
}

/// Returns the entries, one on a line.
fn text(list: &DenyList, output: OutputFormat) -> String {
    let line = |denied: &DeniedCertificate| {
        let serial = denied.serial.map(|serial| serial.to_string());
        match output {
            OutputFormat::Text => {
                let serial = serial.as_deref().unwrap_or("all");
                format!("{:<10} {:<10} {serial}\n", denied.role.name(), denied.id)
            }
            OutputFormat::Json => json_line(&json!({
                "role": denied.role.name(),
                "id": denied.id,
                "serial": serial,
            })),
        }
    };
    list.denied.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_list_says_whether_one_certificate_is_denied_or_all_of_a_member() {
        let mut list = DenyList::default();
        for serial in [None, Some("ab:cd".parse().expect("a serial number"))] {
            list.deny(DeniedCertificate {
                role: Role::Gateway,
                id: 7,
                serial,
            });
        }
        let both = text(&list, OutputFormat::Text) + &text(&list, OutputFormat::Json);
        expect![[r#"
            gateway    7          all
            gateway    7          abcd
            {"id":7,"role":"gateway","serial":null}
            {"id":7,"role":"gateway","serial":"abcd"}
        "#]]
        .assert_eq(&both);
    }
}
