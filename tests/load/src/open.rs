//! Well-behaved clients: small and medium PUTs and GETs.
//!
//! The open loop begins each request when its time has come, whatever became of those before it,
//! and counts its latency from that time. So a server that stands still for a second is seen as
//! long as clients would see it.

use super::Failure;
use super::client::{Connection, Order, head};
use super::latency::{FAILED, Outcomes};
use super::settings::Settings;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

/// The sizes of the objects, as often as they stand here.
const SIZES: [usize; 8] = [
    4 << 10,
    4 << 10,
    4 << 10,
    4 << 10,
    64 << 10,
    64 << 10,
    64 << 10,
    1 << 20,
];
/// Requests that are under way at a time, at most: more count as failed.
const UNDER_WAY_MAX: u64 = 2_000;

/// The clients, and the connections that none of them uses now.
struct Clients {
    settings: Settings,
    idle: Mutex<Vec<Connection>>,
    body: Vec<u8>,
    under_way: AtomicU64,
}

impl Clients {
    fn new(settings: Settings) -> Self {
        let mut state = 1_u64;
        let body = (0..1 << 20).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        });
        Self {
            settings,
            idle: Mutex::default(),
            body: body.collect(),
            under_way: AtomicU64::new(0),
        }
    }

    async fn connection(&self) -> std::io::Result<Connection> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.settings.endpoint, None).await,
        }
    }

    /// Sends a request; the status, or why there is none.
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<(), String> {
        let order = Order::new(method, path);
        let (head, _) = head(&self.settings, order, body.len() as u64);
        let sent = async {
            let mut connection = self.connection().await?;
            let (answer, lives) = connection.call(&head, body).await?;
            if lives {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(connection);
            }
            Ok::<_, std::io::Error>(answer.status)
        };
        match timeout(FAILED, sent).await {
            Ok(Ok(200)) => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
            Ok(Err(error)) => Err(format!("broken: {}", error.kind())),
            Err(_) => Err("no answer".into()),
        }
    }

    /// The request of a number: every second one reads what the preparation wrote.
    async fn request(&self, number: u64) -> Result<(), String> {
        let size = (number / 2 * 5 % SIZES.len() as u64) as usize;
        let bucket = &self.settings.bucket;
        match number % 2 {
            0 => {
                let path = format!("/{bucket}/put-{}", number % 4_096);
                self.send("PUT", &path, &self.body[..SIZES[size]]).await
            }
            _odd => {
                let path = format!("/{bucket}/get-{size}");
                self.send("GET", &path, &[]).await
            }
        }
    }

    async fn prepare(&self) -> Result<(), Failure> {
        if self.settings.prepared {
            return Ok(());
        }
        for (at, size) in SIZES.iter().enumerate() {
            let path = format!("/{}/get-{at}", self.settings.bucket);
            self.send("PUT", &path, &self.body[..*size]).await?;
        }
        Ok(())
    }
}

/// Runs `clients` one request after the other.
///
/// # Errors
/// If the objects to read can't be written.
pub async fn capacity(settings: Settings) -> Result<Value, Failure> {
    let clients = Arc::new(Clients::new(settings));
    clients.prepare().await?;
    let (begun, seconds) = (Instant::now(), clients.settings.seconds);
    let end = begun + Duration::from_secs(seconds);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..clients.settings.clients {
        let (clients, next) = (Arc::clone(&clients), Arc::clone(&next));
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                let done = clients.request(next.fetch_add(1, Ordering::Relaxed)).await;
                outcomes.push(done.map(|()| begun.elapsed()));
            }
            outcomes
        });
    }
    let mut outcomes = Outcomes::default();
    for done in tasks.join_all().await {
        done.into_iter().for_each(|outcome| outcomes.note(outcome));
    }
    let rate = outcomes.count() as f64 / begun.elapsed().as_secs_f64();
    let mut told = outcomes.told();
    told["rate"] = json!(rate);
    Ok(told)
}

/// Sends `rate` requests a second for so many seconds.
///
/// # Errors
/// If the objects to read can't be written.
pub async fn open(settings: Settings) -> Result<Value, Failure> {
    let clients = Arc::new(Clients::new(settings));
    clients.prepare().await?;
    let Settings { rate, seconds, .. } = clients.settings;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..(rate * seconds as f64) as u64 {
        let intended = begun + Duration::from_secs_f64(number as f64 / rate);
        sleep_until(intended.into()).await;
        let clients = Arc::clone(&clients);
        tasks.spawn(async move {
            if clients.under_way.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
                clients.under_way.fetch_sub(1, Ordering::Relaxed);
                return Err("too many under way".to_owned());
            }
            let done = clients.request(number).await;
            clients.under_way.fetch_sub(1, Ordering::Relaxed);
            done.map(|()| intended.elapsed())
        });
    }
    let mut outcomes = Outcomes::default();
    for outcome in tasks.join_all().await {
        outcomes.note(outcome);
    }
    Ok(outcomes.told())
}
