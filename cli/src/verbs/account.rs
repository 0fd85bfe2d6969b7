//! `megalith account`, and how `key` and `up` reach a cluster's accounts.

use super::json_line;
use crate::args::{AccountVerb, Listed, OutputFormat, Reach};
use crate::reach::{self, ReachError};
use megalith_admin::accounts::{Admin, AdminError};
use megalith_admin::root_key::RootKeyError;
use megalith_admin::root_key::reseal::ResealError;
use megalith_admin::rotation::RotationError;
use megalith_client::MetaClient;
use megalith_model::rows::AccountRow;
use serde_json::json;
use std::sync::Arc;

/// Why an account or key could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The cluster can't be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A root key is not proven to open the cluster.
    #[error("{name}")]
    RootKey { name: String, source: RootKeyError },
    #[error("seal the keys anew")]
    Reseal(#[from] ResealError),
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// A rotation is as far as it gets.
    #[error(
        "{rows} rows don't open, so the key-encryption keys before {to} are kept; what they are is \
         in the gateways' logs"
    )]
    Closed { to: u32, rows: u64 },
}

/// Opens the accounts of a cluster.
pub async fn open(at: &Reach) -> Result<Admin, AccountError> {
    let reached = reach::open(at)?;
    let roots = reached.roots()?;
    let cluster = reached.tls.identity().cluster();
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    Ok(Admin::open(Arc::new(meta), cluster, roots).await?)
}

/// Runs the verb on the cluster that it names.
pub async fn run(verb: &AccountVerb) -> Result<String, AccountError> {
    let reach = match verb {
        AccountVerb::Create(named) | AccountVerb::Disable(named) | AccountVerb::Enable(named) => {
            &named.reach
        }
        AccountVerb::List(listed) => &listed.reach,
    };
    Ok(carry_out(&open(reach).await?, verb).await?)
}

/// Does what the verb says, and returns what it did.
pub(super) async fn carry_out(admin: &Admin, verb: &AccountVerb) -> Result<String, AdminError> {
    Ok(match verb {
        AccountVerb::Create(named) => {
            let account = admin.create_account(&named.name).await?;
            format!("account {} ({}) is there\n", account.name, account.id)
        }
        AccountVerb::List(listed) => accounts_text(&admin.accounts().await?, listed),
        AccountVerb::Disable(named) => {
            let name = &named.name;
            admin.set_account_enabled(name, false).await?;
            format!("account {name}: its keys stop working within two seconds\n")
        }
        AccountVerb::Enable(named) => {
            let name = &named.name;
            admin.set_account_enabled(name, true).await?;
            format!("account {name}: its keys work again\n")
        }
    })
}

/// Returns the word for whether an account or a key works.
pub(super) fn standing(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "DISABLED" }
}

fn accounts_text(accounts: &[AccountRow], listed: &Listed) -> String {
    let wanted = |row: &&AccountRow| listed.account.as_ref().is_none_or(|name| *name == row.name);
    let line = |row: &AccountRow| match listed.output {
        OutputFormat::Text => {
            let standing = standing(row.enabled);
            format!("{:<24} {:<12} {standing}\n", row.name, row.id)
        }
        OutputFormat::Json => {
            json_line(&json!({ "account": row.name, "id": row.id.0, "enabled": row.enabled }))
        }
    };
    accounts.iter().filter(wanted).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use megalith_model::ids::AccountId;

    #[test]
    fn a_list_shows_which_accounts_work_and_may_be_one_account_long() {
        let row = |id, name: &str, enabled| AccountRow {
            id: AccountId(id),
            name: name.to_owned(),
            enabled,
            created_ms: 0,
            request: 0,
            revision: 0,
        };
        let accounts = [row(1, "backup", true), row(2, "main", false)];
        let listed = |account: Option<&str>, output| Listed {
            account: account.map(str::to_owned),
            output,
            reach: Reach {
                config: None,
                data: None,
            },
        };
        expect![[r#"
            backup                   account-1 enabled
            main                     account-2 DISABLED
        "#]]
        .assert_eq(&accounts_text(&accounts, &listed(None, OutputFormat::Text)));
        expect![[r#"
            {"account":"main","enabled":false,"id":2}
        "#]]
        .assert_eq(&accounts_text(
            &accounts,
            &listed(Some("main"), OutputFormat::Json),
        ));
    }
}
