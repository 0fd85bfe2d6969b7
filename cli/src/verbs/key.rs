//! `megalith key`.

use super::account::{AccountError, open, standing};
use super::json_line;
use crate::args::{KeyVerb, OutputFormat, Reach, Target};
use crate::reach::{self, ReachError};
use crate::roots;
use megalith_admin::accounts::{Admin, AdminError, CreatedKey};
use megalith_admin::root_key::reseal::{Resealed, reseal};
use megalith_admin::root_key::{self, Opened};
use megalith_admin::rotation;
use megalith_client::MetaClient;
use megalith_crypto::SealedBy;
use megalith_model::rows::{AccessKeyRow, AccountRow};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Runs the verb on the cluster that it names.
pub async fn run(verb: &KeyVerb) -> Result<String, AccountError> {
    let reach = match verb {
        KeyVerb::Create { reach, .. } => reach,
        KeyVerb::List(listed) => &listed.reach,
        KeyVerb::Disable(named) | KeyVerb::Enable(named) => &named.reach,
        KeyVerb::Check {
            root_key_file,
            output,
            reach,
        } => return check(reach, root_key_file.as_deref(), *output).await,
        KeyVerb::Rotate {
            grace_seconds,
            wait,
            reach,
        } => return rotate(reach, *grace_seconds, *wait).await,
        KeyVerb::Reseal { to, output, reach } => return move_to(reach, *to, *output).await,
    };
    Ok(carry_out(&open(reach).await?, verb).await?)
}

/// How often a rotation is looked at while somebody waits for its end.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Begins a rotation; waits for its end if that is wished.
async fn rotate(reach: &Reach, grace_seconds: u32, wait: bool) -> Result<String, AccountError> {
    let reached = reach::open(reach)?;
    let roots = reached.roots()?;
    let cluster = reached.tls.identity().cluster();
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    let grace_ms = u64::from(grace_seconds) * 1_000;
    let begun = rotation::begin(&meta, cluster, &roots, grace_ms).await?;
    let to = begun.to;
    if !wait {
        return Ok(format!(
            "key-encryption key {to} is made; gateways seal everything again under it: \
             `megalith status` shows how far they are\n"
        ));
    }
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(at) = rotation::rotation(&meta).await?.filter(|at| at.to == to) else {
            return Ok(format!("another rotation has followed that to key {to}\n"));
        };
        if at.dropped_ms.is_some() {
            let rows = at.resealed;
            return Ok(format!(
                "everything is sealed under key-encryption key {to}, and the older keys are \
                 deleted (rows sealed again: {rows})\n"
            ));
        }
        if at.passed_all && at.closed > 0 {
            return Err(AccountError::Closed {
                to,
                rows: at.closed,
            });
        }
    }
}

/// Opens what the root key in `file`, or else what the operator's file names, should open.
async fn check(
    reach: &Reach,
    file: Option<&Path>,
    output: OutputFormat,
) -> Result<String, AccountError> {
    let reached = reach::open(reach)?;
    let roots = match file {
        // By itself: another root that opens everything would prove nothing of it.
        Some(file) => roots::of_file(file).map_err(|error| ReachError::Roots(error.into()))?,
        None => reached.roots()?,
    };
    let cluster = reached.tls.identity().cluster();
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    let name = roots.name();
    match root_key::check(&meta, cluster, &roots).await {
        Ok(opened) => Ok(opened_text(&name, &opened, output)),
        Err(source) => Err(AccountError::RootKey { name, source }),
    }
}

/// Seals all key-encryption keys under `to`.
async fn move_to(reach: &Reach, to: Target, output: OutputFormat) -> Result<String, AccountError> {
    let reached = reach::open(reach)?;
    let roots = reached.roots()?;
    let cluster = reached.tls.identity().cluster();
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    let by = match to {
        Target::Vault => SealedBy::Service,
        Target::RootKey => SealedBy::RootKey,
    };
    let done = reseal(&meta, cluster, &roots, by).await?;
    let name = roots.of_kind(by).map(|root| root.name());
    Ok(resealed_text(&name.unwrap_or_default(), &done, output))
}

fn resealed_text(name: &str, done: &Resealed, output: OutputFormat) -> String {
    let Resealed { moved, kept } = done;
    match output {
        OutputFormat::Text => format!(
            "{} of {} key-encryption keys were sealed anew; all are under {name}\n",
            moved.len(),
            moved.len() + kept.len(),
        ),
        OutputFormat::Json => {
            json_line(&json!({ "sealed_anew": moved, "left_as_they_were": kept }))
        }
    }
}

fn opened_text(name: &str, opened: &Opened, output: OutputFormat) -> String {
    let Opened { keks, access_keys } = opened;
    match output {
        OutputFormat::Text => format!(
            "{} opens this cluster\nkey-encryption keys  {} of {}, versions {}\n\
             access keys          {access_keys} of {access_keys}\n",
            name,
            keks.len(),
            keks.len(),
            keks.iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        ),
        OutputFormat::Json => {
            json_line(&json!({ "opens": true, "kek_versions": keks, "access_keys": access_keys }))
        }
    }
}

/// Does what the verb says, and returns what it did.
pub(super) async fn carry_out(admin: &Admin, verb: &KeyVerb) -> Result<String, AdminError> {
    Ok(match verb {
        KeyVerb::Create {
            account, output, ..
        } => created_text(&admin.create_key(account).await?, *output),
        KeyVerb::List(listed) => {
            let keys = admin.list_keys(listed.account.as_deref()).await?;
            keys_text(&keys, &admin.accounts().await?, listed.output)
        }
        KeyVerb::Disable(named) => {
            let key = &named.access_key;
            admin.set_key_enabled(key, false).await?;
            format!("key {key} stops working within two seconds\n")
        }
        KeyVerb::Enable(named) => {
            let key = &named.access_key;
            admin.set_key_enabled(key, true).await?;
            format!("key {key} works again\n")
        }
        KeyVerb::Check { .. } | KeyVerb::Reseal { .. } | KeyVerb::Rotate { .. } => {
            unreachable!("they need no accounts, and are done before")
        }
    })
}

fn created_text(made: &CreatedKey, output: OutputFormat) -> String {
    let (account, access_key, secret) =
        (&made.account.name, &made.access_key, made.secret.expose());
    match output {
        OutputFormat::Text => format!(
            "account     {account}\naccess key  {access_key}\nsecret key  {secret}\n\
             The secret is not shown again.\n"
        ),
        OutputFormat::Json => json_line(
            &json!({ "account": account, "access_key": access_key, "secret_key": secret }),
        ),
    }
}

fn keys_text(keys: &[AccessKeyRow], accounts: &[AccountRow], output: OutputFormat) -> String {
    let line = |row: &AccessKeyRow| {
        let owner = accounts.iter().find(|account| account.id == row.account);
        let owner = owner.map_or_else(|| row.account.to_string(), |account| account.name.clone());
        let (key, standing) = (&row.access_key, standing(row.enabled));
        match output {
            OutputFormat::Text => format!("{key:<22} {owner:<24} {standing}\n"),
            OutputFormat::Json => {
                json_line(&json!({ "access_key": key, "account": owner, "enabled": row.enabled }))
            }
        }
    };
    keys.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use megalith_crypto::AccessSecret;
    use megalith_model::ids::AccountId;

    fn account(id: u64, name: &str) -> AccountRow {
        AccountRow {
            id: AccountId(id),
            name: name.to_owned(),
            enabled: true,
            created_ms: 0,
            request: 0,
            revision: 0,
        }
    }

    fn key(access_key: &str, account: u64, enabled: bool) -> AccessKeyRow {
        AccessKeyRow {
            access_key: access_key.to_owned(),
            account: AccountId(account),
            enabled,
            created_ms: 0,
            sealed_credential: b"sealed".to_vec(),
            revision: 1,
        }
    }

    #[test]
    fn a_new_key_shows_its_secret_once_and_says_so() {
        let made = CreatedKey {
            access_key: "MGLKEY".to_owned(),
            secret: AccessSecret::new("hidden".to_owned()),
            account: account(1, "main"),
        };
        expect![[r#"
            account     main
            access key  MGLKEY
            secret key  hidden
            The secret is not shown again.
        "#]]
        .assert_eq(&created_text(&made, OutputFormat::Text));
        expect![[r#"
            {"access_key":"MGLKEY","account":"main","secret_key":"hidden"}
        "#]]
        .assert_eq(&created_text(&made, OutputFormat::Json));
    }

    #[test]
    fn a_root_key_that_opens_the_cluster_says_what_it_opened() {
        let opened = Opened {
            keks: vec![1, 2],
            access_keys: 3,
        };
        let file = "root key /safe/root.key";
        expect![[r#"
            root key /safe/root.key opens this cluster
            key-encryption keys  2 of 2, versions 1, 2
            access keys          3 of 3
        "#]]
        .assert_eq(&opened_text(file, &opened, OutputFormat::Text));
        expect![[r#"
            {"access_keys":3,"kek_versions":[1,2],"opens":true}
        "#]]
        .assert_eq(&opened_text(file, &opened, OutputFormat::Json));
    }

    #[test]
    fn a_list_names_owners_and_never_a_secret() {
        let keys = [key("MGLA", 1, true), key("MGLB", 9, false)];
        let accounts = [account(1, "main")];
        expect![[r#"
            MGLA                   main                     enabled
            MGLB                   account-9                DISABLED
        "#]]
        .assert_eq(&keys_text(&keys, &accounts, OutputFormat::Text));
        expect![[r#"
            {"access_key":"MGLA","account":"main","enabled":true}
            {"access_key":"MGLB","account":"account-9","enabled":false}
        "#]]
        .assert_eq(&keys_text(&keys, &accounts, OutputFormat::Json));
    }
}
