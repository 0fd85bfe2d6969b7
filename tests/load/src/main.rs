//! Loads an S3 endpoint, as well-behaved clients do or as attackers do, and prints what came of it.
//!
//! `load WHAT NAME=VALUE…`, with at least `endpoint=host:port access_key=… secret=…` and
//! `seconds=…`. Prints one line of JSON. Everything is bounded, in number and in time. Knows
//! nothing of the cluster behind the endpoint.
//!
//! - `capacity`: `clients` one after the other, for the rate that the endpoint can bear;
//! - `open`: requests at a fixed `rate`, whatever becomes of them, each timed from when it should
//!   have begun;
//! - `chunks`, `slow-puts`, `slow-gets`, `heads`, `keys`: attackers (`attack`).
//!
//! Next: `open` (the measured clients), `attack`, `client` (one connection).

mod attack;
mod client;
mod heads;
mod latency;
mod open;
mod settings;

use settings::Settings;
use std::error::Error;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let what = args.next().ok_or("usage: load WHAT NAME=VALUE…")?;
    let settings = Settings::read(args)?;
    let printed = match what.as_str() {
        "capacity" => open::capacity(settings).await?,
        "open" => open::open(settings).await?,
        "chunks" => attack::run(attack::chunks, settings).await?,
        "slow-puts" => attack::run(attack::slow_put, settings).await?,
        "slow-gets" => {
            attack::prepare(&settings).await?;
            attack::run(attack::slow_get, settings).await?
        }
        "heads" => attack::run(heads::heads, settings).await?,
        "keys" => attack::keys(settings).await?,
        other => return Err(format!("no such load: {other}").into()),
    };
    println!("{printed}");
    Ok(())
}
