//! The cluster's settings: a row that every process sees, changed by an operator's command.
//!
//! What all processes must agree on is here; a process's file says only how it finds the cluster
//! and what is its own. A new setting is a field behind the others: the kind gets its next version
//! ([`crate::kinds`]), and its default is what older rows mean. It also needs a line in
//! [`Settings::named`] and one in [`Settings::set`].

use serde::{Deserialize, Serialize};

/// The settings of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How often they were changed. A change names the revision that it makes, so that two
    /// operators don't undo each other's.
    pub revision: u64,
    /// A volume with this many ciphertext bytes, parity not counted, is full: it is closed once
    /// another takes over. 1 MiB to 1 TiB, default 32 GiB.
    pub volume_bytes: u64,
    /// A multipart upload that was begun this many days ago, and is neither completed nor aborted,
    /// is aborted. 0: never. At most 36,500, default 7.
    pub upload_days: u32,
}

/// Smaller volumes would be made and closed all the time.
const VOLUME_BYTES_MIN: u64 = 1 << 20;
const VOLUME_BYTES_MAX: u64 = 1 << 40;
const UPLOAD_DAYS_MAX: u32 = 36_500;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

impl Default for Settings {
    /// What a cluster without the row has.
    fn default() -> Self {
        Self {
            revision: 0,
            volume_bytes: 32 << 30,
            upload_days: 7,
        }
    }
}

/// Why a setting can't be changed like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("there is no setting `{0}`")]
    Unknown(String),
    #[error("`{0}` must be a whole number")]
    NoNumber(String),
    #[error("`{name}` must be from {least} to {most}")]
    OutOfRange {
        name: &'static str,
        least: u64,
        most: u64,
    },
}

impl Settings {
    /// Every setting with its name, its value, and what it is.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64, &'static str); 2] {
        [
            (
                "volume_bytes",
                self.volume_bytes,
                "a volume is full at this many bytes",
            ),
            (
                "upload_days",
                self.upload_days.into(),
                "uploads begun so many days ago are aborted; 0: never",
            ),
        ]
    }

    /// Sets the one with that name, in its own unit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let number: u64 = value
            .parse()
            .map_err(|_| SettingError::NoNumber(name.to_owned()))?;
        match name {
            "volume_bytes" => self.volume_bytes = number,
            // One that is too large for its type is out of range as well.
            "upload_days" => self.upload_days = u32::try_from(number).unwrap_or(u32::MAX),
            _ => return Err(SettingError::Unknown(name.to_owned())),
        }
        self.check()
    }

    /// Fails if a setting is out of its range.
    pub fn check(&self) -> Result<(), SettingError> {
        let ranges = [
            (
                "volume_bytes",
                self.volume_bytes,
                VOLUME_BYTES_MIN,
                VOLUME_BYTES_MAX,
            ),
            (
                "upload_days",
                self.upload_days.into(),
                0,
                UPLOAD_DAYS_MAX.into(),
            ),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingError::OutOfRange { name, least, most });
            }
        }
        Ok(())
    }

    /// Uploads that were begun before this time are aborted, in milliseconds since 1970; None if
    /// none is.
    #[must_use]
    pub fn uploads_end_before_ms(&self, now_ms: u64) -> Option<u64> {
        let days_ms = u64::from(self.upload_days) * DAY_MS;
        (days_ms > 0).then(|| now_ms.saturating_sub(days_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_set_by_its_name_within_its_range() {
        let mut settings = Settings::default();
        for (name, value, _) in settings.named() {
            settings
                .set(name, &value.to_string())
                .expect("its own value");
        }
        assert_eq!(settings, Settings::default());
        settings.set("upload_days", "0").expect("never");
        assert_eq!(settings.uploads_end_before_ms(1 << 50), None);
        for (name, value) in [
            ("volume_bytes", "1000"),
            ("volume_bytes", "x"),
            ("upload_days", "5000000000"),
            ("colour", "1"),
        ] {
            assert!(settings.clone().set(name, value).is_err(), "{name}={value}");
        }
    }
}
