//! Times and memory, as they are printed.

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Times of one kind of operation.
#[derive(Default)]
pub struct Timings(Vec<f64>);

impl Timings {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = (sorted.len() as f64 * part) as usize;
            1e3 * sorted
                .get(place.min(sorted.len().max(1) - 1))
                .copied()
                .unwrap_or(0.0)
        };
        write!(
            f,
            "p50 {:.2} p99 {:.2} p999 {:.2} max {:.2} ms of {}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            sorted.len()
        )
    }
}

/// The times of the member's apply thread.
static APPLY: OnceLock<Arc<Times>> = OnceLock::new();

#[derive(Default)]
struct Times(Mutex<Timings>);

impl HistogramFn for Times {
    fn record(&self, seconds: f64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.0.push(seconds);
    }
}

/// The times of all batches applied since the last call.
pub fn apply_times() -> Timings {
    let times = APPLY.get_or_init(Arc::default);
    std::mem::take(&mut *times.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps one histogram, drops everything else.
struct OneHistogram;

impl Recorder for OneHistogram {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn register_counter(&self, _key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        match key.name() {
            "megalith_meta_apply_seconds" => {
                Histogram::from_arc(APPLY.get_or_init(Arc::default).clone())
            }
            _other => Histogram::noop(),
        }
    }
}

/// Begins to take the member's times.
pub fn install() {
    metrics::set_global_recorder(OneHistogram).expect("the only recorder");
}

/// Bytes of memory that the kernel counts for this process.
pub fn resident_bytes() -> u64 {
    status_line("VmRSS:")
}

/// The most that [`resident_bytes`] ever was.
pub fn resident_bytes_max() -> u64 {
    status_line("VmHWM:")
}

fn status_line(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) << 10
}
