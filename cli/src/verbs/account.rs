//! `megalith account` and `megalith key`.

use crate::args::{AccountVerb, KeyVerb, Listed, OutputFormat, Reach};
use crate::reach::{self, ReachError};
use megalith_admin::accounts::{Admin, AdminError, CreatedKey};
use megalith_client::MetaClient;
use megalith_model::rows::{AccessKeyRow, AccountRow};
use serde_json::json;
use std::sync::Arc;

/// An account or key could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum IamError {
    /// The cluster isn't within reach.
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Opens the verbs on a cluster.
pub async fn open(at: &Reach) -> Result<Admin, IamError> {
    let reached = reach::open(at)?;
    let root_key = reached.root_key()?;
    let cluster = reached.tls.identity().cluster();
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    Ok(Admin::open(Arc::new(meta), cluster, root_key).await?)
}

/// Runs `megalith account`.
pub async fn account(verb: &AccountVerb) -> Result<(), IamError> {
    match verb {
        AccountVerb::Create(named) => {
            let account = open(&named.reach)
                .await?
                .create_account(&named.name)
                .await?;
            println!("account {} ({}) is there", account.name, account.id);
        }
        AccountVerb::List(listed) => {
            let accounts = open(&listed.reach).await?.accounts().await?;
            print_accounts(&accounts, listed);
        }
        AccountVerb::Disable(named) => {
            open(&named.reach)
                .await?
                .set_account_enabled(&named.name, false)
                .await?;
            println!(
                "account {}: its keys stop working within two seconds",
                named.name
            );
        }
        AccountVerb::Enable(named) => {
            open(&named.reach)
                .await?
                .set_account_enabled(&named.name, true)
                .await?;
            println!("account {}: its keys work again", named.name);
        }
    }
    Ok(())
}

/// Runs `megalith key`.
pub async fn key(verb: &KeyVerb) -> Result<(), IamError> {
    match verb {
        KeyVerb::Create {
            account,
            output,
            reach,
        } => {
            let made = open(reach).await?.create_key(account).await?;
            print_created(&made, *output);
        }
        KeyVerb::List(listed) => {
            let admin = open(&listed.reach).await?;
            let keys = admin.list_keys(listed.account.as_deref()).await?;
            print_keys(&keys, &admin.accounts().await?, listed.output);
        }
        KeyVerb::Disable(named) => {
            open(&named.reach)
                .await?
                .set_key_enabled(&named.access_key, false)
                .await?;
            println!("key {} stops working within two seconds", named.access_key);
        }
        KeyVerb::Enable(named) => {
            open(&named.reach)
                .await?
                .set_key_enabled(&named.access_key, true)
                .await?;
            println!("key {} works again", named.access_key);
        }
    }
    Ok(())
}

fn enabled(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "DISABLED" }
}

fn print_accounts(accounts: &[AccountRow], listed: &Listed) {
    let wanted = |row: &&AccountRow| listed.account.as_ref().is_none_or(|name| *name == row.name);
    for row in accounts.iter().filter(wanted) {
        match listed.output {
            OutputFormat::Text => {
                println!("{:<24} {:<12} {}", row.name, row.id, enabled(row.enabled))
            }
            OutputFormat::Json => println!(
                "{}",
                json!({ "account": row.name, "id": row.id.0, "enabled": row.enabled })
            ),
        }
    }
}

fn print_created(made: &CreatedKey, output: OutputFormat) {
    let (account, access_key, secret) =
        (&made.account.name, &made.access_key, made.secret.expose());
    match output {
        OutputFormat::Text => {
            println!("account     {account}");
            println!("access key  {access_key}");
            println!("secret key  {secret}");
            println!("The secret is not shown again.");
        }
        OutputFormat::Json => println!(
            "{}",
            json!({ "account": account, "access_key": access_key, "secret_key": secret })
        ),
    }
}

fn print_keys(keys: &[AccessKeyRow], accounts: &[AccountRow], output: OutputFormat) {
    for row in keys {
        let owner = accounts.iter().find(|account| account.id == row.account);
        let owner = owner.map_or_else(|| row.account.to_string(), |account| account.name.clone());
        match output {
            OutputFormat::Text => {
                println!(
                    "{:<22} {owner:<24} {}",
                    row.access_key,
                    enabled(row.enabled)
                );
            }
            OutputFormat::Json => println!(
                "{}",
                json!({ "access_key": row.access_key, "account": owner, "enabled": row.enabled })
            ),
        }
    }
}
