//! What a load is asked to do: `NAME=VALUE` on the command line.

use super::Failure;
use std::time::Duration;

/// The settings of all loads; each reads those that concern it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port`.
    pub endpoint: String,
    pub access_key: String,
    pub secret: String,
    /// It must be there.
    pub bucket: String,
    pub seconds: u64,
    /// Clients, or connections of an attack.
    pub clients: usize,
    /// Whether the objects that well-behaved clients read are there already.
    pub prepared: bool,
    /// Requests a second, of all clients together.
    pub rate: f64,
    /// How many different access keys are made up.
    pub ids: u64,
    /// Whether a made-up access key has the form of none of ours.
    pub malformed: bool,
    /// Bytes a second that a connection of `chunks` sends.
    pub bytes_per_s: usize,
    /// Bytes that a slow body begins with, at once.
    pub first_bytes: usize,
    /// The pause before each further byte.
    pub every: Duration,
    /// Requests of one HTTP/2 connection, and the bytes of each one's head.
    pub streams: usize,
    pub head_bytes: usize,
    /// Bytes of an object that slow readers read.
    pub object_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            access_key: String::new(),
            secret: String::new(),
            bucket: "load".into(),
            seconds: 10,
            clients: 16,
            prepared: false,
            rate: 50.0,
            ids: 100,
            malformed: false,
            bytes_per_s: 128 << 10,
            first_bytes: 0,
            every: Duration::from_secs(5),
            streams: 32,
            head_bytes: 48 << 10,
            object_bytes: 64 << 20,
        }
    }
}

impl Settings {
    /// Reads `NAME=VALUE` arguments.
    ///
    /// # Errors
    /// An unknown name, or a value that makes no sense.
    pub fn read(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut settings = Self::default();
        for arg in args {
            let (name, value) = arg
                .split_once('=')
                .ok_or_else(|| format!("not NAME=VALUE: {arg}"))?;
            settings.set(name, value)?;
        }
        if settings.endpoint.is_empty() {
            return Err("endpoint=host:port is needed".into());
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match name {
            "endpoint" => self.endpoint = value.into(),
            "access_key" => self.access_key = value.into(),
            "secret" => self.secret = value.into(),
            "bucket" => self.bucket = value.into(),
            "seconds" => self.seconds = value.parse()?,
            "clients" => self.clients = value.parse()?,
            "prepared" => self.prepared = value.parse()?,
            "rate" => self.rate = value.parse()?,
            "ids" => self.ids = value.parse()?,
            "malformed" => self.malformed = value.parse()?,
            "bytes_per_s" => self.bytes_per_s = value.parse()?,
            "first_bytes" => self.first_bytes = value.parse()?,
            "every_ms" => self.every = Duration::from_millis(value.parse()?),
            "streams" => self.streams = value.parse()?,
            "head_bytes" => self.head_bytes = value.parse()?,
            "object_bytes" => self.object_bytes = value.parse()?,
            _unknown => return Err(format!("no such setting: {name}").into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Settings, Failure> {
        Settings::read(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let settings = read(&["endpoint=a:1", "every_ms=250", "rate=1.5"]).expect("known");
        assert_eq!(settings.every, Duration::from_millis(250));
        assert!((settings.rate - 1.5).abs() < 1e-9);
        for wrong in [&["endpoint=a:1", "pace=1"][..], &["rate=2"], &["endpoint"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
