//! Attackers: what they send costs them little, and is to cost the others nothing.
//!
//! Each attack has so many connections for so long. One that is answered or broken off begins
//! again a moment later; the answers are counted.

use super::Failure;
use super::client::{Connection, Order, head};
use super::settings::Settings;
use megalith_sigv4::{STREAMING_SIGNED, UNSIGNED_PAYLOAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};

/// The wait before an attacker begins again.
const AGAIN: Duration = Duration::from_secs(2);
/// The length that a slow body announces.
const ANNOUNCED: u64 = 5 << 30;
/// The length of a chunk.
const CHUNK: usize = 16 << 20;
/// How often a connection of `chunks` sends a piece of its chunk, in a second.
const PIECES_PER_S: usize = 4;
/// Slow readers let the kernel take so much for them.
const SMALL_WINDOW: u32 = 4096;

/// What an attack shares among its connections.
pub struct Attack {
    pub settings: Settings,
    /// How often each outcome occurred.
    outcomes: Mutex<BTreeMap<String, u64>>,
    sent: AtomicU64,
}

impl Attack {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            outcomes: Mutex::default(),
            sent: AtomicU64::new(0),
        }
    }

    /// Counts an outcome.
    pub fn note(&self, outcome: String) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry(outcome).or_default() += 1;
    }

    fn told(&self) -> Value {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "connections": self.settings.clients,
            "sent_bytes": self.sent.load(Ordering::Relaxed),
            "outcomes": *outcomes,
        })
    }

    async fn connect(&self, window: Option<u32>) -> io::Result<Connection> {
        Connection::open(&self.settings.endpoint, window).await
    }
}

/// Runs an attack on so many connections for so many seconds.
///
/// # Errors
/// If one of them fails in its own code.
pub async fn run<F>(
    once: impl Fn(Arc<Attack>, usize) -> F,
    settings: Settings,
) -> Result<Value, Failure>
where
    F: Future<Output = io::Result<u16>> + Send + 'static,
{
    let end = Instant::now() + Duration::from_secs(settings.seconds);
    let clients = settings.clients;
    let attack = Arc::new(Attack::new(settings));
    let mut under_way = JoinSet::new();
    let begin = |number: usize| {
        let once = once(Arc::clone(&attack), number);
        let attack = Arc::clone(&attack);
        async move {
            attack.note(match once.await {
                Ok(status) => status.to_string(),
                Err(error) => format!("broken: {}", error.kind()),
            });
            sleep(AGAIN).await;
            number
        }
    };
    for number in 0..clients {
        under_way.spawn(begin(number));
    }
    while let Ok(Some(ended)) = timeout_at(end.into(), under_way.join_next()).await {
        under_way.spawn(begin(ended?));
    }
    for _ in 0..under_way.len() {
        attack.note("held to the end".into());
    }
    under_way.shutdown().await;
    Ok(attack.told())
}

/// Writes the object that slow readers read.
///
/// # Errors
/// If it can't be written.
pub async fn prepare(settings: &Settings) -> Result<(), Failure> {
    let path = format!("/{}/large", settings.bucket);
    let (head, _) = head(
        settings,
        Order::new("PUT", &path),
        settings.object_bytes as u64,
    );
    let mut connection = Connection::open(&settings.endpoint, None).await?;
    let body = vec![7; settings.object_bytes];
    let (answer, _) = connection.call(&head, &body).await?;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("the object was not written: {status}").into()),
    }
}

/// Sends a body in signed chunks of 16 MiB that says it is one byte long.
pub async fn chunks(attack: Arc<Attack>, number: usize) -> io::Result<u16> {
    let path = format!("/{}/chunk-{number}", attack.settings.bucket);
    let order = Order {
        headers: &[("x-amz-decoded-content-length", "1")],
        payload: STREAMING_SIGNED,
        ..Order::new("PUT", &path)
    };
    let (head, _) = head(&attack.settings, order, CHUNK as u64 + 200);
    let mut connection = attack.connect(None).await?;
    connection.send(head.as_bytes()).await?;
    let line = format!("{CHUNK:x};chunk-signature={}\r\n", "0".repeat(64));
    connection.send(line.as_bytes()).await?;
    let piece = vec![0; attack.settings.bytes_per_s / PIECES_PER_S];
    let mut left = CHUNK;
    while left > piece.len() {
        connection.send(&piece).await?;
        attack.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        left -= piece.len();
        let pause = Duration::from_millis(1_000 / PIECES_PER_S as u64);
        if let Ok(answer) = timeout(pause, connection.answer()).await {
            return Ok(answer?.status);
        }
    }
    Ok(connection.answer().await?.status)
}

/// Announces 5 GiB, sends the first bytes at once and then one at a time.
pub async fn slow_put(attack: Arc<Attack>, number: usize) -> io::Result<u16> {
    let Settings {
        ref bucket,
        first_bytes,
        every,
        ..
    } = attack.settings;
    let path = format!("/{bucket}/slow-{number}");
    let (head, _) = head(&attack.settings, Order::new("PUT", &path), ANNOUNCED);
    let mut connection = attack.connect(None).await?;
    connection.send(head.as_bytes()).await?;
    connection.send(&vec![1; first_bytes]).await?;
    loop {
        if let Ok(answer) = timeout(every, connection.answer()).await {
            return Ok(answer?.status);
        }
        connection.send(b".").await?;
        attack.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for a large object and reads a byte at a time.
pub async fn slow_get(attack: Arc<Attack>, _number: usize) -> io::Result<u16> {
    let path = format!("/{}/large", attack.settings.bucket);
    let order = Order {
        payload: UNSIGNED_PAYLOAD,
        ..Order::new("GET", &path)
    };
    let (head, _) = head(&attack.settings, order, 0);
    let mut connection = attack.connect(Some(SMALL_WINDOW)).await?;
    connection.send(head.as_bytes()).await?;
    let answer = connection.answer().await?;
    if answer.status != 200 {
        return Ok(answer.status);
    }
    loop {
        sleep(attack.settings.every).await;
        connection.byte().await?;
    }
}

/// Sends requests of access keys that do not exist, at a fixed rate.
///
/// # Errors
/// If nobody listens.
pub async fn keys(settings: Settings) -> Result<Value, Failure> {
    let attack = Arc::new(Attack::new(settings));
    let Settings {
        clients,
        rate,
        seconds,
        ..
    } = attack.settings;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let attack = Arc::clone(&attack);
        tasks.spawn(async move {
            let mut connection = None;
            let each = rate / clients as f64;
            for count in 0..(each * seconds as f64) as u64 {
                let at = begun + Duration::from_secs_f64(count as f64 / each);
                sleep_until(at.into()).await;
                let settings = attack.strange(count * clients as u64 + number as u64);
                let (head, _) = head(&settings, Order::new("GET", "/"), 0);
                let called = async {
                    let mut used = match connection.take() {
                        Some(used) => used,
                        None => attack.connect(None).await?,
                    };
                    let (answer, lives) = used.call(&head, &[]).await?;
                    connection = lives.then_some(used);
                    Ok::<_, io::Error>(answer.status)
                };
                attack.note(match called.await {
                    Ok(status) => status.to_string(),
                    Err(error) => format!("broken: {}", error.kind()),
                });
            }
        });
    }
    tasks.join_all().await;
    let mut told = attack.told();
    told["took_s"] = json!(begun.elapsed().as_secs_f64());
    Ok(told)
}

impl Attack {
    /// The settings of somebody with a made-up access key, one of `ids`.
    fn strange(&self, number: u64) -> Settings {
        let id = number % self.settings.ids.max(1);
        let mut letters = String::new();
        let mut left = id;
        // The form of ids that carry no check: anybody may make one up.
        for _ in 0..17 {
            letters.push(char::from(b'A' + (left % 26) as u8));
            left /= 26;
        }
        let access_key = match self.settings.malformed {
            true => format!("AKIA-{id}"),
            false => format!("MGL{letters}"),
        };
        Settings {
            access_key,
            ..self.settings.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_keys_are_made_up_as_asked_for() {
        let count = |ids, malformed| {
            let attack = Attack::new(Settings {
                ids,
                malformed,
                ..Settings::default()
            });
            let made = (0..1_000).map(|number| attack.strange(number).access_key);
            let made: std::collections::BTreeSet<String> = made.collect();
            assert!(malformed || made.iter().all(|id| id.len() == 20));
            made.len()
        };
        assert_eq!(count(7, false), 7);
        assert_eq!(count(700, false), 700);
        assert_eq!(count(7, true), 7);
    }
}
