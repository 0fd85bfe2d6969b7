//! Log lines to standard error.

use crate::config::{LogFormat, LogSection};
use tracing_subscriber::EnvFilter;

/// Starts logging. Fails if a filter makes no sense.
pub fn start(settings: &LogSection) -> Result<(), String> {
    // The database logs every file that it opens; our own lines say what matters. A filter that
    // names one of these crates shows its lines.
    let quiet: String = [("fjall", "warn"), ("lsm_tree", "warn")]
        .into_iter()
        .filter(|(library, _)| !settings.level.contains(&format!("{library}=")))
        .map(|(library, level)| format!(",{library}={level}"))
        .collect();
    let filter = EnvFilter::try_new(format!("{}{quiet}", settings.level))
        .map_err(|error| format!("log level `{}`: {error}", settings.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that can't be written is lost; reporting that would panic for the same reason.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match settings.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
