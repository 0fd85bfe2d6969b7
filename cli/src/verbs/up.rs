//! `megalith up`: a whole cluster in one process on one directory.
//!
//! Owns the directory's layout and nothing else: the roles are the same as in separate processes
//! and speak over the same sockets and the same TLS.
//!
//! ```text
//! DATA/ca/           certificate authority        DATA/tls/{node,metadata,gateway,operator,https}/
//! DATA/root.key      root of the encryption       DATA/credentials   first access key (aws format)
//! DATA/disks/NN/     disks                        DATA/metadata/     metadata member
//! DATA/operator.toml for status, account and key (written again at each start)
//! ```

use super::account::{self, AccountError};
use super::role::{RoleError, StopSignals};
use super::{gateway, node};
use crate::args::{Reach, UpArgs};
use crate::cgroup::memory_limit;
use crate::config::defaults::{CERTIFICATE_DAYS, REGION, member_memory_bytes};
use crate::config::{
    self, GatewayFile, GatewaySection, LogFormat, LogSection, NoFlags, NodeFile, OperatorFile,
};
use crate::files::{self, Access};
use crate::{descriptors, guard, logging, out, reach, setup};
use megalith_admin::accounts::AdminError;
use megalith_client::{CallSettings, ClusterClient, MapWatch, chain};
use megalith_gateway::run::RunningGateway;
use megalith_identity::{Authority, Bundle, PeerIdentity, Role, TlsMaterial};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const NODE: u32 = 1;
const GATEWAY: u32 = 1;
const ACCOUNT: &str = "main";
/// What the metadata member takes for its caches and queues at most: it has a laptop's objects, and
/// shares the laptop's memory.
const MEMBER_MEMORY_BYTES: u64 = 128 << 20;
/// How long the cluster may take to become writable before `up` gives up.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The places below `--data`.
struct Layout {
    root: PathBuf,
}

impl Layout {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn disks(&self) -> Result<Vec<PathBuf>, RoleError> {
        let dir = self.path("disks");
        let mut disks = Vec::new();
        let entries = std::fs::read_dir(&dir).map_err(|source| RoleError::Io {
            action: "list",
            path: dir.clone(),
            source,
        })?;
        for entry in entries {
            let entry = entry.map_err(|source| RoleError::Io {
                action: "list",
                path: dir.clone(),
                source,
            })?;
            disks.push(entry.path());
        }
        disks.sort();
        Ok(disks)
    }
}

/// Runs the verb until a signal comes.
pub async fn run(args: &UpArgs) -> Result<(), RoleError> {
    logging::start(&LogSection {
        level: args.log.clone(),
        format: LogFormat::Text,
    })
    .map_err(RoleError::Log)?;
    descriptors::raise()?;
    guard::no_swap();
    let started = Instant::now();
    let mut stop = StopSignals::catch();
    files::make_dir(&args.data)?;
    let layout = Layout {
        root: files::absolute(&args.data)?,
    };
    let first_run = prepare(&layout, args)?;

    let node = tokio::select! {
        node = node::start(node_settings(&layout)?) => node?,
        () = stop.wait() => return Ok(()),
    };
    let members = [format!("{NODE}={}", node.rpc_addr)];
    setup::write_operator(
        &layout.path("operator.toml"),
        &layout.path("tls/operator"),
        Some(layout.path("root.key")),
        &members,
    )?;
    let gateway = gateway_settings(&layout, args, &members);
    let begun = Box::pin(async {
        let gateway = gateway::start(&gateway).await?;
        let access_key = first_key(&layout).await?;
        let operator = layout.path("operator.toml");
        writable(&operator, READY_DEADLINE).await?;
        raise_level(&operator).await?;
        Ok::<_, RoleError>((gateway, access_key))
    });
    let (gateway, access_key) = tokio::select! {
        begun = begun => begun?,
        () = stop.wait() => {
            node.stop().await;
            return Ok(());
        }
    };

    out::announce(&format!(
        "Megalith is up after {:.1} s.\n{}Ctrl-C stops it; the next run finds its data again.\n",
        started.elapsed().as_secs_f64(),
        announcement(&layout, &gateway, &access_key, first_run),
    ));
    stop.wait().await;
    out::remark("stopping");
    gateway.stop().await;
    node.stop().await;
    Ok(())
}

/// Makes what is missing. Returns whether this is the first run.
fn prepare(layout: &Layout, args: &UpArgs) -> Result<bool, RoleError> {
    let done = layout.path("disks");
    let first_run = !done.exists();
    let authority = setup::authority(&layout.path("ca"))?;
    let tls = |name: &str| layout.path("tls").join(name);
    let local = local_hosts(args);
    // One that was made with both roles goes on with both. This comes before the node's, so that a
    // first run that was cut short leaves no certificate without its other one.
    if !has_both_roles(&tls("node"))? {
        let metadata = [(Role::Metadata, NODE)];
        ensure_certificate(&authority, &tls("metadata"), &metadata, &local)?;
    }
    ensure_certificate(&authority, &tls("node"), &[(Role::Storage, NODE)], &local)?;
    ensure_certificate(
        &authority,
        &tls("gateway"),
        &[(Role::Gateway, GATEWAY)],
        &local,
    )?;
    ensure_certificate(&authority, &tls("operator"), &[(Role::Operator, 0)], &[])?;
    setup::https_certificate(&authority, &tls("https"), &local)?;
    if !first_run {
        return Ok(false);
    }
    setup::root_key(&layout.path("root.key"))?;
    // Both get their final names only when they are complete, the disks last: a first run that was
    // cut short is done again.
    let cluster = authority.cluster();
    if !layout.path("metadata").exists() {
        in_one_step(&layout.path("metadata"), |dir| {
            setup::init_metadata(dir, cluster, NODE, &[NODE])
        })?;
    }
    in_one_step(&done, |dir| {
        (0..args.disks).try_for_each(|i| setup::format_disk(&dir.join(format!("{i:02}")), cluster))
    })?;
    Ok(true)
}

fn ensure_certificate(
    authority: &Authority,
    dir: &Path,
    grants: &[(Role, u32)],
    hosts: &[String],
) -> Result<(), RoleError> {
    if !Bundle::exists(dir) {
        setup::certificate(authority, dir, grants, hosts, CERTIFICATE_DAYS)?;
    }
    Ok(())
}

/// Returns true if the node's certificate is also its metadata role's.
fn has_both_roles(dir: &Path) -> Result<bool, RoleError> {
    if !Bundle::exists(dir) {
        return Ok(false);
    }
    let file = dir.join("node.crt");
    let identity = PeerIdentity::of_pem(&files::read(&file)?, &file)?;
    Ok(identity.has(Role::Metadata))
}

/// Lets `make` fill a directory beside `path`, then renames it to `path`.
fn in_one_step(
    path: &Path,
    make: impl FnOnce(&Path) -> Result<(), setup::InitError>,
) -> Result<(), RoleError> {
    let beside = path.with_extension("new");
    let failed = |action| {
        let path = path.to_owned();
        move |source| RoleError::Io {
            action,
            path,
            source,
        }
    };
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(failed("clear"))?;
    }
    make(&beside)?;
    std::fs::rename(&beside, path).map_err(failed("make"))?;
    let parent = path.parent().expect("below the data directory");
    std::fs::File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync"))
}

fn local_hosts(args: &UpArgs) -> Vec<String> {
    let mut hosts = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    for listen in [Some(&args.listen), args.https_listen.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some((host, _)) = listen.rsplit_once(':') {
            let host = host.trim_matches(['[', ']']).to_owned();
            if !host.is_empty() && host != "0.0.0.0" && host != "::" && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }
    hosts
}

/// Returns the settings of the node in the directory of `megalith up`.
pub fn node_file(data: &Path) -> Result<NodeFile, RoleError> {
    let layout = Layout {
        root: files::absolute(data)?,
    };
    node_settings(&layout)
}

fn node_settings(layout: &Layout) -> Result<NodeFile, RoleError> {
    let metadata_tls = layout.path("tls").join("metadata");
    Ok(NodeFile {
        node: config::NodeSection {
            id: NODE,
            tls_dir: layout.path("tls").join("node"),
            rpc_listen: "127.0.0.1:0".to_owned(),
            data_listen: "127.0.0.1:0".to_owned(),
            rpc_advertise: None,
            data_advertise: None,
            zone: String::new(),
        },
        storage: Some(config::StorageSection::new(layout.disks()?)),
        metadata: config::MetadataSection {
            memory_bytes: Some(member_memory_bytes(memory_limit()).min(MEMBER_MEMORY_BYTES)),
            tls_dir: Bundle::exists(&metadata_tls).then_some(metadata_tls),
            ..config::MetadataSection::new(
                // The port that is bound replaces it.
                vec![format!("{NODE}=127.0.0.1:0")],
                Some(layout.path("metadata")),
                1,
            )
        },
        log: LogSection::default(),
    })
}

fn gateway_settings(layout: &Layout, args: &UpArgs, members: &[String]) -> GatewayFile {
    let https = layout.path("tls").join("https");
    GatewayFile {
        gateway: GatewaySection {
            listen: args.listen.clone(),
            https_listen: args.https_listen.clone().unwrap_or_default(),
            https_cert: Some(https.join("node.crt")),
            https_key: Some(https.join("node.key")),
            health_listen: args.health_listen.clone().unwrap_or_default(),
            domains: vec!["localhost".to_owned()],
            ..GatewaySection::new(
                GATEWAY,
                layout.path("tls").join("gateway"),
                Some(layout.path("root.key")),
            )
        },
        metadata: config::MembersSection {
            members: members.to_vec(),
        },
        vault: None,
        log: LogSection::default(),
    }
}

/// Waits until the cluster accepts writes.
pub async fn writable(operator: &Path, deadline: Duration) -> Result<(), RoleError> {
    let settings: OperatorFile = config::load(Some(operator), NoFlags {})?;
    let members = config::parse_members("operator settings", &settings.metadata.members)?;
    let tls = TlsMaterial::load(&settings.operator.tls_dir)?;
    let client = ClusterClient::new(&reach::endpoints(&members), tls, CallSettings::default());
    let watch = MapWatch::start(client);
    let ready = watch.wait_for(|map| !map.writable.is_empty());
    if tokio::time::timeout(deadline, ready).await.is_err() {
        let refusal = watch.current().refusal.clone();
        let why = refusal.unwrap_or_else(|| "no volume was made".to_owned());
        return Err(RoleError::NotWritable {
            waited: deadline,
            why,
        });
    }
    Ok(())
}

/// Raises the level to what this program runs: there is no other process in the cluster.
async fn raise_level(operator: &Path) -> Result<(), RoleError> {
    let reach = reach::open(&Reach {
        config: Some(operator.to_owned()),
        data: None,
    })?;
    let client = ClusterClient::new(&reach.members, reach.tls, reach::call_settings());
    // The cluster serves at its old level, too.
    if let Err(error) = client.raise_level(None, true).await {
        tracing::warn!(error = chain(&error), "the cluster's level is not raised");
    }
    Ok(())
}

/// Returns the access key in the credentials file. If it is missing, makes account, key and file.
async fn first_key(layout: &Layout) -> Result<String, RoleError> {
    let path = layout.path("credentials");
    if path.exists() {
        let text = files::read(&path)?;
        let key = text
            .lines()
            .find_map(|line| line.strip_prefix("aws_access_key_id"));
        let key = key.map(|rest| rest.trim_start_matches([' ', '=']).to_owned());
        return Ok(key.unwrap_or_else(|| "?".to_owned()));
    }
    let at = Reach {
        config: Some(layout.path("operator.toml")),
        data: None,
    };
    let admin = account::open(&at).await?;
    match admin.create_account(ACCOUNT).await {
        Ok(_) | Err(AdminError::NameTaken(_)) => {}
        Err(error) => return Err(AccountError::from(error).into()),
    }
    let made = admin
        .create_key(ACCOUNT)
        .await
        .map_err(AccountError::from)?;
    let text = Zeroizing::new(format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        made.access_key,
        made.secret.expose(),
    ));
    files::write(&path, &text, Access::Secret)?;
    Ok(made.access_key)
}

/// Returns what a person needs to start with, in lines.
fn announcement(layout: &Layout, gateway: &RunningGateway, key: &str, first: bool) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.push_str(&args.to_string());
        text.push('\n');
    };
    let credentials = layout.path("credentials");
    let credentials = credentials.display();
    let http = gateway.http_addr.map(|address| endpoint("http", address));
    if let Some(http) = &http {
        line(format_args!("  endpoint     {http}  (region {REGION})"));
    }
    if let Some(address) = gateway.https_addr {
        let (https, ca) = (endpoint("https", address), layout.path("ca").join("ca.crt"));
        line(format_args!(
            "  endpoint     {https}  (CA: {})",
            ca.display()
        ));
    }
    line(format_args!("  data         {}", layout.root.display()));
    line(format_args!(
        "  access key   {key}  (secret in {credentials})"
    ));
    if first {
        line(format_args!(
            "  root key     {}",
            layout.path("root.key").display()
        ));
        line(format_args!(
            "               Back it up: without it nobody can read what is stored here."
        ));
    }
    if let Some(http) = &http {
        line(format_args!("Try:"));
        line(format_args!(
            "  AWS_SHARED_CREDENTIALS_FILE={credentials} AWS_DEFAULT_REGION={REGION} \
             aws --endpoint-url {http} s3 mb s3://my-bucket"
        ));
    }
    text
}

/// Returns an address in the form that a client would write.
fn endpoint(scheme: &str, address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("{scheme}://127.0.0.1:{}", address.port()),
        _ => format!("{scheme}://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: &str, https: Option<&str>) -> UpArgs {
        UpArgs {
            data: "d".into(),
            listen: listen.to_owned(),
            https_listen: https.map(str::to_owned),
            health_listen: None,
            disks: 6,
            log: "warn".to_owned(),
        }
    }

    #[test]
    fn a_certificate_names_the_hosts_that_clients_may_use() {
        let extra = |listen, https| local_hosts(&args(listen, https)).split_off(3);
        assert_eq!(extra("127.0.0.1:9000", None), [""; 0]);
        assert_eq!(extra("0.0.0.0:9000", Some("[::]:9443")), [""; 0]);
        assert_eq!(
            extra("store.example:9000", Some("10.0.0.7:9443")),
            ["store.example", "10.0.0.7"]
        );
        assert_eq!(extra("[fd00::7]:9000", Some("[fd00::7]:9443")), ["fd00::7"]);
    }

    #[test]
    fn a_first_run_that_was_cut_short_leaves_nothing_under_the_final_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("disks");
        let cut = in_one_step(&path, |beside| {
            files::make_dir(&beside.join("00"))?;
            Err(setup::InitError::Arguments("cut".to_owned()))
        });
        cut.expect_err("cut short");
        assert!(!path.exists());
        in_one_step(&path, |beside| {
            assert!(!beside.exists(), "what the first run left is cleared");
            Ok(files::make_dir(&beside.join("01"))?)
        })
        .expect("made");
        assert!(path.join("01").exists() && !path.join("00").exists());
    }

    #[test]
    fn a_certificate_with_both_roles_goes_on_and_new_ones_have_one() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let layout = Layout {
            root: dir.path().to_owned(),
        };
        let tls = |name: &str| layout.path("tls").join(name);
        let roles = |name: &str| {
            let file = tls(name).join("node.crt");
            let text = files::read(&file).expect("a certificate");
            let identity = PeerIdentity::of_pem(&text, &file).expect("an identity");
            identity.grants().to_vec()
        };
        let args = args("127.0.0.1:9000", None);
        let authority = setup::authority(&layout.path("ca")).expect("an authority");
        let (storage, metadata) = ((Role::Storage, NODE), (Role::Metadata, NODE));
        ensure_certificate(&authority, &tls("node"), &[storage, metadata], &[]).expect("issued");
        assert!(prepare(&layout, &args).expect("prepared"));
        let settings = node_settings(&layout).expect("settings");
        assert_eq!(settings.metadata_tls_dir(), tls("node"));
        assert_eq!(roles("node"), [storage, metadata]);
        assert!(!tls("metadata").exists());
        // Either of them may be taken away and made anew.
        for gone in ["node", "node", "metadata"] {
            std::fs::remove_dir_all(tls(gone)).expect("removed");
            assert!(!prepare(&layout, &args).expect("prepared"));
            let settings = node_settings(&layout).expect("settings");
            assert_eq!(settings.metadata_tls_dir(), tls("metadata"));
            assert_eq!(
                (roles("node"), roles("metadata")),
                (vec![storage], vec![metadata])
            );
        }
    }

    #[test]
    fn endpoints_are_written_so_that_they_can_be_reached() {
        let shown = |address: &str| endpoint("http", address.parse().expect("an address"));
        assert_eq!(shown("0.0.0.0:9000"), "http://127.0.0.1:9000");
        assert_eq!(shown("10.0.0.7:9000"), "http://10.0.0.7:9000");
        assert_eq!(shown("[fd00::7]:9000"), "http://[fd00::7]:9000");
    }
}
