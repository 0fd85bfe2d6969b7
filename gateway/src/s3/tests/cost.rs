//! What the front door costs: microseconds of processor time per request, over a cluster in memory.
//!
//! `MEGALITH_ROUNDS=20000 cargo test -p megalith-gateway --lib cost -- --nocapture` prints them.
//! Requests are signed once and sent repeatedly, so that the client's work doesn't count.

use super::client::call;
use super::with_bucket;
use http_body_util::BodyExt as _;

#[tokio::test]
async fn cost_of_a_request() {
    let rounds = std::env::var("MEGALITH_ROUNDS").ok();
    let rounds: u32 = rounds.and_then(|text| text.parse().ok()).unwrap_or(20);
    let world = with_bucket().await;
    let put = call("PUT", "/box/k").header("content-type", "text/plain");
    let put = put.body(vec![7_u8; 4096]).sign(&world.ann);
    let get = call("GET", "/box/k").sign(&world.ann);
    let head = call("HEAD", "/box/k").sign(&world.ann);
    let list = call("GET", "/box?list-type=2").sign(&world.ann);
    for (name, signed) in [
        ("put", &put),
        ("get", &get),
        ("head", &head),
        ("list", &list),
    ] {
        let start = cpu_nanos();
        for _ in 0..rounds {
            let response = world.face.answer(signed.request(|builder| builder)).await;
            assert_eq!(response.status(), 200, "{name}");
            response.into_body().collect().await.expect("a body");
        }
        let micros = (cpu_nanos() - start) as f64 / 1000.0 / f64::from(rounds);
        println!("{name}: {micros:.1} µs");
    }
}

/// Returns the processor time of this thread, on which the whole test runs. Zero if it isn't
/// available.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}
