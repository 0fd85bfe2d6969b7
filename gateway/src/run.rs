//! A running gateway: its settings, its start, its end.
//!
//! Owns: putting the parts together, listeners, draining. Reads no file except certificates and
//! parses no arguments: the command line hands in [`GatewayConfig`]. Must not serve before the keys
//! are loaded, and must not end while requests run, up to the drain's deadline.

mod beats;
mod idle;
mod keys;
mod listener;
mod rotation;

use crate::auth::Credentials;
use crate::ops::{Store, StoreComponents};
use crate::s3::{Face, FaceParts};
use keys::{Opening, Start, load_keys};
use listener::{Listening, TransportSecurity};
use megalith_blobs::{OnLease, Pipeline, PipelineComponents, PipelineSettings};
use megalith_client::{
    CallSettings, ClusterClient, DataClient, DataSettings, Endpoint, MapWatch, MetaClient,
    Metadata, Roster, new_request,
};
use megalith_crypto::{Entropy as _, SystemEntropy};
use megalith_identity::{HttpsMaterial, IdentityError, TlsMaterial};
use megalith_keyring::root::Roots;
use megalith_keyring::{Keys, KeysError};
use megalith_model::ids::{ClusterId, GatewayId};
use megalith_model::level::OutOfRange;
use megalith_model::topology::ClusterMap;
use megalith_serve::health;
pub use megalith_serve::health::MetricsText;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// How often the https certificate is checked for changes.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);
/// How long the start waits for the first cluster map.
const MAP_WAIT: Duration = Duration::from_secs(10);

/// The settings of one gateway.
pub struct GatewayConfig {
    /// Its number, as in its certificate.
    pub id: GatewayId,
    /// The address for plain HTTP.
    pub http: Option<SocketAddr>,
    /// The address and certificate for HTTPS.
    pub https: Option<HttpsListen>,
    /// The listener for health and metrics; separate from S3, so that no bucket can hide them.
    pub health: Option<HealthListen>,
    /// Names under which `bucket.<name>` stands for a bucket.
    pub base_domains: Vec<String>,
    /// The only region for which signatures are accepted.
    pub region: String,
    pub metadata: Vec<Endpoint>,
    /// The certificate that identifies this gateway within the cluster.
    pub tls: Arc<TlsMaterial>,
    /// What seals and opens the cluster's key-encryption keys.
    pub roots: Roots,
    /// The blob pipeline's settings.
    pub pipeline: PipelineSettings,
    pub limits: Limits,
}

/// The https listener.
#[derive(Clone, Debug)]
pub struct HttpsListen {
    pub listen: SocketAddr,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The listener for health and metrics.
#[derive(Clone)]
pub struct HealthListen {
    pub listen: SocketAddr,
    /// What `/metrics` shows.
    pub metrics: Option<MetricsText>,
}

/// Limits on clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections at a time; more wait to be accepted. Default 4,096.
    pub connections_max: usize,
    /// The most bytes of a request's head. Default 64 KiB.
    pub head_bytes_max: usize,
    /// How long a client may take to send a request's head, or be idle between requests. Default 30
    /// s.
    pub head_timeout: Duration,
    /// How long a client may be silent within a body, or not read what it is sent. Default 30 s.
    pub idle_timeout: Duration,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long requests may continue after the stop. Default 30 s.
    pub drain_timeout: Duration,
    /// How long the start waits for the metadata group. Default 60 s.
    pub start_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting makes no sense.
    #[error("setting {key}: {why}")]
    Setting {
        key: &'static str,
        why: &'static str,
    },
    /// A listener could not be opened.
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The https certificate could not be loaded.
    #[error("load the https certificate")]
    Https(#[source] IdentityError),
    /// The keys could not be loaded.
    #[error("load the keys")]
    Keys(#[from] KeysError),
    /// The cluster is at a level that this program can't run.
    #[error(transparent)]
    Level(#[from] OutOfRange),
    /// The random source failed.
    #[error("the random source failed")]
    Random,
}

/// A gateway that serves. Dropping it ends it at once; [`RunningGateway::stop`] ends it cleanly.
pub struct RunningGateway {
    /// The address for HTTP.
    pub http_addr: Option<SocketAddr>,
    /// The address for HTTPS.
    pub https_addr: Option<SocketAddr>,
    /// The address for health and metrics.
    pub health_addr: Option<SocketAddr>,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
    pipeline: Pipeline,
    /// Go on until the last request has ended.
    beats: AbortOnDropHandle<()>,
    /// Ends with the gateway, wherever it is: a rotation goes on from there.
    _rotation: AbortOnDropHandle<()>,
    /// Kept until the last request has ended.
    map: MapWatch,
    drain_timeout: Duration,
}

impl fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGateway")
            .field("http_addr", &self.http_addr)
            .field("https_addr", &self.https_addr)
            .field("health_addr", &self.health_addr)
            .finish_non_exhaustive()
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

impl RunningGateway {
    /// Takes no new requests, lets running ones end within the drain's deadline, and gives the blob
    /// ids back.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.drain_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("requests still ran at the drain's deadline and were broken off");
            self.abort.cancel();
            self.tasks.wait().await;
        }
        if let Err(error) = self.pipeline.close().await {
            tracing::warn!(%error, "a lease of blob ids was not given back; the leader closes it");
        }
        self.beats.abort();
    }

    /// Waits until the gateway must end by itself: the cluster is at a level that this program
    /// can't run. It serves on until it is stopped, as far as it can read the answers.
    pub async fn wait(&self) -> GatewayError {
        self.map.outgrown().await.into()
    }
}

/// What listeners need besides their address.
#[derive(Clone)]
struct Rim {
    limits: Limits,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

/// The open listeners.
struct Sockets {
    http: Option<TcpListener>,
    https: Option<(TcpListener, Arc<HttpsMaterial>)>,
    health: Option<(TcpListener, Option<MetricsText>)>,
}

/// Starts a gateway: loads the keys, opens the listeners.
///
/// # Errors
/// See [`GatewayError`].
pub async fn start(config: GatewayConfig) -> Result<RunningGateway, GatewayError> {
    check(&config)?;
    let rim = Rim {
        limits: config.limits.clone(),
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    // If the start fails, everything started so far ends.
    let unless_started = rim.stop.clone().drop_guard();
    // Bound before any wait, so that a port in use is reported at once.
    let sockets = Sockets::open(&config, &rim).await?;
    let (http_addr, https_addr, health_addr) = sockets.addresses();

    let (tls, calls) = (Arc::clone(&config.tls), CallSettings::default());
    // Shared, so that both clients learn what the map's stream says of the members.
    let roster = Roster::new(&config.metadata);
    let meta = MetaClient::new(&roster, Arc::clone(&tls), calls.clone());
    let (beating, heard, rotating) = (meta.clone(), meta.clone(), meta.clone());
    let meta: Arc<dyn Metadata> = Arc::new(meta);
    let map = MapWatch::start(ClusterClient::new(&roster, Arc::clone(&tls), calls));
    let ready = Arc::new(AtomicBool::new(false));
    let start = Start::default();
    if let Some((listener, metrics)) = sockets.health {
        let state = health::State {
            metrics,
            ready: readiness((&ready, &start), (&map, heard.clone()), &tls, &rim),
        };
        let health = health::serve(listener, state, rim.stop.clone(), rim.tasks.clone());
        rim.tasks.spawn(health);
    }

    let cluster = tls.identity().cluster();
    let opening = Opening {
        cluster,
        roots: config.roots,
        timeout: config.limits.start_timeout,
        start: start.clone(),
    };
    let keys = first_contact(&meta, &map, opening).await?;
    let whose = (cluster, config.id);
    let components = components(&meta, tls, map.subscribe(), whose, &keys);
    let pipeline = Pipeline::start(components, config.pipeline);
    // Only once there are beats, which find out when the metadata group is back.
    heard.give_up_after(beats::PATIENCE);
    let beats = beats::beat(beating, config.id, new_request(), pipeline.clone());
    let beats = AbortOnDropHandle::new(tokio::spawn(beats));
    let names = Names {
        base_domains: config.base_domains,
        region: config.region,
    };
    let store = Store::new(StoreComponents {
        meta: Arc::clone(&meta),
        blobs: Arc::new(pipeline.clone()),
        keys,
    });
    let rotation = rotation::spawn(rotating, store.clone());
    let face = face(meta, store, names, &config.limits)?;
    listen_on((sockets.http, sockets.https), &face, &rim);
    ready.store(true, Ordering::Release);
    drop(unless_started.disarm());
    Ok(RunningGateway {
        http_addr,
        https_addr,
        health_addr,
        stop: rim.stop,
        abort: rim.abort,
        tasks: rim.tasks,
        pipeline,
        beats,
        _rotation: rotation,
        map,
        drain_timeout: config.limits.drain_timeout,
    })
}

/// Returns what the pipeline works with. For each lease, the keys are compared with the table.
fn components(
    meta: &Arc<dyn Metadata>,
    tls: Arc<TlsMaterial>,
    map: watch::Receiver<Arc<ClusterMap>>,
    (cluster, gateway): (ClusterId, GatewayId),
    keys: &Arc<Keys>,
) -> PipelineComponents {
    let keys = Arc::clone(keys);
    let on_lease: OnLease = Arc::new(move || {
        let keys = Arc::clone(&keys);
        Box::pin(async move { keys.confirm().await })
    });
    let data = DataClient::new(tls, DataSettings::default());
    PipelineComponents::connected(Arc::clone(meta), data, map, cluster, gateway, on_lease)
}

impl Sockets {
    async fn open(config: &GatewayConfig, rim: &Rim) -> Result<Self, GatewayError> {
        let http = match config.http {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let https = match &config.https {
            Some(https) => Some((bind(https.listen).await?, load_https(https, rim)?)),
            None => None,
        };
        let health = match &config.health {
            Some(health) => Some((bind(health.listen).await?, health.metrics.clone())),
            None => None,
        };
        Ok(Self {
            http,
            https,
            health,
        })
    }

    fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>, Option<SocketAddr>) {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        (
            self.http.as_ref().and_then(address),
            self.https
                .as_ref()
                .and_then(|(listener, _)| address(listener)),
            self.health
                .as_ref()
                .and_then(|(listener, _)| address(listener)),
        )
    }
}

fn check(config: &GatewayConfig) -> Result<(), GatewayError> {
    let wrong = |key, why| Err(GatewayError::Setting { key, why });
    if config.http.is_none() && config.https.is_none() {
        return wrong("http", "a gateway needs an http or an https listener");
    }
    if config.metadata.is_empty() {
        return wrong(
            "metadata",
            "at least one member of the metadata group is needed",
        );
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if config.region.is_empty() || !config.region.bytes().all(plain) {
        return wrong(
            "region",
            "a region has lower-case letters, digits and dashes",
        );
    }
    if config.tls.identity().gateway_id() != Some(config.id) {
        return wrong("id", "the certificate is not that of this gateway");
    }
    if config.limits.connections_max == 0 {
        return wrong(
            "limits.connections_max",
            "at least one connection is needed",
        );
    }
    if config.limits.head_bytes_max < 8 * 1024 {
        return wrong("limits.head_bytes_max", "S3 allows heads of 8 KiB");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| GatewayError::Listen { address, source })
}

fn load_https(https: &HttpsListen, rim: &Rim) -> Result<Arc<HttpsMaterial>, GatewayError> {
    let material = HttpsMaterial::load(&https.certificate, &https.key, &["h2", "http/1.1"])
        .map_err(GatewayError::Https)?;
    let stop = rim.stop.clone().cancelled_owned();
    drop(material.spawn_reload(CERTIFICATE_INTERVAL, stop));
    Ok(material)
}

/// Loads the keys and waits for the first map. Fails at once if the cluster is at a level that this
/// program can't run.
async fn first_contact(
    meta: &Arc<dyn Metadata>,
    map: &MapWatch,
    opening: Opening,
) -> Result<Arc<Keys>, GatewayError> {
    let contact = async {
        let keys = load_keys(meta, opening).await?;
        // Without a map every read would fail. A cluster without a leader has no map to give: then
        // requests are refused one by one, and the answers say why.
        let first_map = map.wait_for(|map| map.version > 0);
        if tokio::time::timeout(MAP_WAIT, first_map).await.is_err() {
            tracing::warn!("no cluster map yet; serving without one");
        }
        Ok(keys)
    };
    tokio::select! {
        // First: an answer that can't be read is no news then.
        biased;
        outgrown = map.outgrown() => Err(outgrown.into()),
        keys = contact => keys,
    }
}

/// The names by which S3 clients call this gateway.
struct Names {
    base_domains: Vec<String>,
    region: String,
}

fn face(
    meta: Arc<dyn Metadata>,
    store: Store,
    names: Names,
    limits: &Limits,
) -> Result<Arc<Face>, GatewayError> {
    let mut seed = [0; 8];
    SystemEntropy
        .fill(&mut seed)
        .map_err(|_| GatewayError::Random)?;
    let credentials = Arc::new(Credentials::new(Arc::clone(&meta)));
    let times = meta;
    Ok(Arc::new(Face::new(FaceParts {
        store,
        credentials,
        base_domains: names.base_domains,
        region: names.region,
        body_idle: limits.idle_timeout,
        requests_max: limits.connections_max as u64,
        clock: Arc::new(move || times.now_ms()),
        request_id_seed: u64::from_be_bytes(seed),
    })))
}

/// Takes connections, plain ones and those with TLS.
fn listen_on(
    (http, https): (
        Option<TcpListener>,
        Option<(TcpListener, Arc<HttpsMaterial>)>,
    ),
    face: &Arc<Face>,
    rim: &Rim,
) {
    if let Some(socket) = http {
        listen(socket, TransportSecurity::Plain, face, rim);
    }
    if let Some((socket, material)) = https {
        listen(socket, TransportSecurity::Tls(material), face, rim);
    }
}

fn listen(socket: TcpListener, security: TransportSecurity, face: &Arc<Face>, rim: &Rim) {
    let listening = Listening {
        socket,
        security,
        face: Arc::clone(face),
        rim: rim.clone(),
    };
    rim.tasks.spawn(listening.run());
}

/// Ready means: started, not stopping, keys can be opened, and the cluster's map has come.
fn readiness(
    (started, start): (&Arc<AtomicBool>, &Start),
    (map, meta): (&MapWatch, MetaClient),
    tls: &TlsMaterial,
    rim: &Rim,
) -> health::Ready {
    let (started, maps, stop) = (Arc::clone(started), map.subscribe(), rim.stop.clone());
    let (denials, start) = (tls.denials().clone(), start.clone());
    Arc::new(move || {
        if stop.is_cancelled() {
            Err("the gateway is stopping".to_owned())
        } else if !started.load(Ordering::Acquire) {
            let trouble = start.trouble();
            let waits = trouble.map_or_else(String::new, |why| format!(", and waits: {why}"));
            Err(format!("the gateway is starting{waits}"))
        } else if denials.is_own_denied() {
            Err("the cluster has denied this gateway's certificate".to_owned())
        } else if let Some(why) = meta.given_up() {
            Err(why)
        } else if let Some(why) = start.trouble() {
            Err(why)
        } else if maps.borrow().term == 0 {
            Err("no cluster map yet".to_owned())
        } else {
            Ok(())
        }
    })
}
