//! Profiles (k data + m parity) and the choice of one by the number of failure domains.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The most shards a stripe may have; the owed bitmask has one bit for each.
pub const SHARDS_MAX: usize = 32;

/// An erasure-coding profile: k data shards and m parity shards. Never invalid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Profile {
    data: u8,
    parity: u8,
}

/// Why a profile can't exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("profile {data}+{parity}: needs at least one data shard and at most {SHARDS_MAX} shards")]
pub struct ProfileError {
    data: u8,
    parity: u8,
}

impl Profile {
    /// Builds a profile of `data` (k ≥ 1) and `parity` (m) shards, k+m ≤ [`SHARDS_MAX`].
    pub fn new(data: u8, parity: u8) -> Result<Self, ProfileError> {
        if data == 0 || usize::from(data) + usize::from(parity) > SHARDS_MAX {
            return Err(ProfileError { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// Returns k, the number of data shards.
    #[must_use]
    pub fn data(self) -> usize {
        usize::from(self.data)
    }

    /// Returns m, the number of parity shards: how many slots may be lost.
    #[must_use]
    pub fn parity(self) -> usize {
        usize::from(self.parity)
    }

    /// Returns n = k+m.
    #[must_use]
    pub fn shards(self) -> usize {
        self.data() + self.parity()
    }

    /// Returns the fewest receipts that acknowledge a write: n−1 if m ≥ 2, else n.
    #[must_use]
    pub fn write_quorum(self) -> usize {
        if self.parity() >= 2 {
            self.shards() - 1
        } else {
            self.shards()
        }
    }

    /// Returns the profile for new volumes of this class while only `domains` failure domains live.
    /// k shrinks and m stays, so every write is fully protected but takes more space. None below
    /// m+1 domains.
    #[must_use]
    pub fn shrunk_to(self, domains: usize) -> Option<Self> {
        if domains >= self.shards() {
            return Some(self);
        }
        let data = domains.checked_sub(self.parity())?;
        let data = u8::try_from(data).ok()?;
        Self::new(data, self.parity).ok()
    }

    /// Returns the default profile for a number of failure domains: nodes, or disks if there are
    /// too few nodes. None if there is no domain.
    #[must_use]
    pub fn default_for(domains: usize, zones: usize) -> Option<Self> {
        let (data, parity) = match domains {
            0 => return None,
            1 => (1, 0),
            2 => (1, 1),
            3 => (1, 2),
            4 => (2, 2),
            5 => (3, 2),
            6..=11 => (4, 2),
            _ if zones >= 3 => (8, 4),
            _ => (8, 3),
        };
        Some(Self { data, parity })
    }
}

impl TryFrom<(u8, u8)> for Profile {
    type Error = ProfileError;

    fn try_from((data, parity): (u8, u8)) -> Result<Self, ProfileError> {
        Self::new(data, parity)
    }
}

impl From<Profile> for (u8, u8) {
    fn from(profile: Profile) -> Self {
        (profile.data, profile.parity)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_number_of_domains() {
        let shown: Vec<String> = [1, 2, 3, 4, 5, 6, 11, 12, 40]
            .into_iter()
            .map(|n| {
                Profile::default_for(n, 1)
                    .expect("at least one domain")
                    .to_string()
            })
            .collect();
        assert_eq!(
            shown,
            [
                "1+0", "1+1", "1+2", "2+2", "3+2", "4+2", "4+2", "8+3", "8+3"
            ]
        );
        assert_eq!(
            Profile::default_for(12, 3).map(|p| p.to_string()),
            Some("8+4".into())
        );
        assert_eq!(Profile::default_for(0, 0), None);
    }

    #[test]
    fn shrinking_keeps_parity_and_stops_below_one_data_shard() {
        let profile = Profile::new(4, 2).expect("valid");
        let shrunk = |n| profile.shrunk_to(n).map(|p| p.to_string());
        assert_eq!(shrunk(9).as_deref(), Some("4+2"));
        assert_eq!(shrunk(5).as_deref(), Some("3+2"));
        assert_eq!(shrunk(3).as_deref(), Some("1+2"));
        assert_eq!(shrunk(2), None);
        assert_eq!(shrunk(0), None);
    }

    #[test]
    fn impossible_profiles_are_refused() {
        assert!(Profile::new(0, 2).is_err());
        assert!(Profile::new(31, 2).is_err());
        assert!(Profile::new(30, 2).is_ok());
    }
}
