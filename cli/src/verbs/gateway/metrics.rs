//! What `/metrics` shows: the process's recorder, and the task that keeps it small.

use crate::verbs::role::RoleError;
use megalith_gateway::run::MetricsText;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusRecorder};
use std::sync::Arc;
use std::time::Duration;

/// The upper bounds of all histograms, in seconds: all that is measured is a time. A sync takes a
/// millisecond or less, and no request waits for longer than a minute for its answer to begin.
const BUCKETS_S: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// How often the samples of histograms are counted and dropped. Until then each is kept, also if
/// nobody asks for the metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts collecting metrics; returns the function that renders them.
pub(super) fn start() -> Result<MetricsText, RoleError> {
    let wrong = |error: String| RoleError::Metrics(error);
    let recorder = recorder().map_err(|error| wrong(error.to_string()))?;
    let text = recorder.handle();
    let upkeep = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| wrong(error.to_string()))?;
    tokio::spawn(each(UPKEEP_INTERVAL, move || upkeep.run_upkeep()));
    Ok(Arc::new(move || {
        #[cfg(feature = "count-allocations")]
        crate::allocator::tell();
        text.render()
    }))
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    Ok(PrometheusBuilder::new()
        .set_buckets(&BUCKETS_S)?
        .build_recorder())
}

/// Does some work again and again, as long as the process runs.
async fn each(interval: Duration, work: impl Fn()) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::channel;
    use tokio::time::timeout;

    #[test]
    fn histograms_have_the_same_buckets_always() {
        let recorder = recorder().expect("a recorder");
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("megalith_s3_first_byte_seconds").record(0.002);
            metrics::histogram!("megalith_s3_first_byte_seconds").record(0.2);
        });
        let text = recorder.handle().render();
        assert!(
            text.contains("# TYPE megalith_s3_first_byte_seconds histogram"),
            "{text}"
        );
        assert!(text.contains("megalith_s3_first_byte_seconds_bucket{le=\"0.001\"} 0"));
        assert!(text.contains("megalith_s3_first_byte_seconds_bucket{le=\"0.0025\"} 1"));
        assert!(text.contains("megalith_s3_first_byte_seconds_bucket{le=\"0.25\"} 2"));
    }

    /// Samples are dropped by it, though nobody asks for the metrics.
    #[tokio::test]
    async fn the_upkeep_goes_on() {
        let (done, mut seen) = channel(1);
        let upkeep = tokio::spawn(each(Duration::from_millis(1), move || {
            // Nobody may have looked at the last one yet.
            let _ = done.try_send(());
        }));
        for _ in 0..3 {
            let next = timeout(Duration::from_secs(30), seen.recv()).await;
            next.expect("it goes on").expect("it has not ended");
        }
        upkeep.abort();
    }
}
