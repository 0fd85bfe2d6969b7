//! The deny list: certificates that nobody in the cluster speaks to any more, although the
//! authority has signed them.
//!
//! It is one row, changed by an operator's command and pushed to every process with the map. An
//! entry names a role and an id, and so all certificates of that member, or one of them by its
//! serial number. A certificate with several roles is denied as a whole if one of them is.

use crate::role::Role;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The most entries of the list. Certificates that have expired need none.
pub const DENIED_MAX: usize = 256;
/// The most bytes of a serial number (RFC 5280).
const SERIAL_LEN: usize = 20;

/// The serial number of a certificate: unique among those of one authority.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial([u8; SERIAL_LEN]);

/// A text or number that is no serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 40 hexadecimal digits, and not 0")]
pub struct NoSerial;

impl Serial {
    /// Takes the bytes of a number, the highest first; None if it has more than 20.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let begin = bytes.iter().position(|byte| *byte != 0);
        let digits = &bytes[begin.unwrap_or(bytes.len())..];
        let mut serial = [0; SERIAL_LEN];
        let place = SERIAL_LEN.checked_sub(digits.len())?;
        serial[place..].copy_from_slice(digits);
        Some(Self(serial))
    }
}

impl fmt::Display for Serial {
    /// Writes hexadecimal digits, without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.trim_start_matches('0');
        f.write_str(if digits.is_empty() { "0" } else { digits })
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = NoSerial;

    /// Reads hexadecimal digits, which may have colons in between as other programs print them.
    fn from_str(text: &str) -> Result<Self, NoSerial> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|letter| *letter != ':')
            .map(|letter| {
                letter
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect::<Option<_>>()
            .ok_or(NoSerial)?;
        let bytes: Vec<u8> = digits
            .rchunks(2)
            .rev()
            .map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit))
            .collect();
        let serial = Self::from_bytes(&bytes).filter(|serial| *serial != Self::default());
        serial.ok_or(NoSerial)
    }
}

/// Certificates that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeniedCertificate {
    pub role: Role,
    pub id: u32,
    /// Only the one with this number; None for all of that role and id.
    pub serial: Option<Serial>,
}

impl DeniedCertificate {
    /// Returns true if a certificate with these roles and that number is denied by this entry.
    #[must_use]
    pub fn covers(&self, grants: &[(Role, u32)], serial: Serial) -> bool {
        grants.contains(&(self.role, self.id)) && self.serial.is_none_or(|denied| denied == serial)
    }
}

impl fmt::Display for DeniedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.serial {
            Some(serial) => write!(f, "{} {} serial {serial}", self.role, self.id),
            None => write!(f, "{} {}", self.role, self.id),
        }
    }
}

/// The deny list of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyList {
    /// How often it was changed. A change names the revision that it makes, so that two operators
    /// don't undo each other's.
    pub revision: u64,
    /// In order, none twice. At most [`DENIED_MAX`].
    pub denied: Vec<DeniedCertificate>,
}

/// Why a deny list can't be like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DenyListError {
    #[error("the deny list has {0} entries, and may have {DENIED_MAX}: allow what has expired")]
    TooMany(usize),
    #[error("the entries of the deny list are not in order, or one is there twice")]
    Order,
}

impl DenyList {
    /// Fails if the list is too long or out of order.
    pub fn check(&self) -> Result<(), DenyListError> {
        if self.denied.len() > DENIED_MAX {
            return Err(DenyListError::TooMany(self.denied.len()));
        }
        if !self.denied.is_sorted_by(|one, next| one < next) {
            return Err(DenyListError::Order);
        }
        Ok(())
    }

    /// Returns the entry that denies a certificate with these roles and that number, if one does.
    #[must_use]
    pub fn find(&self, grants: &[(Role, u32)], serial: Serial) -> Option<&DeniedCertificate> {
        self.denied
            .iter()
            .find(|denied| denied.covers(grants, serial))
    }

    /// Adds an entry; false if it was there.
    pub fn deny(&mut self, certificate: DeniedCertificate) -> bool {
        match self.denied.binary_search(&certificate) {
            Ok(_) => false,
            Err(place) => {
                self.denied.insert(place, certificate);
                true
            }
        }
    }

    /// Takes an entry away; false if it was not there.
    pub fn allow(&mut self, certificate: &DeniedCertificate) -> bool {
        let place = self.denied.binary_search(certificate);
        place.map(|place| self.denied.remove(place)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(text: &str) -> Serial {
        text.parse().expect("a serial number")
    }

    fn gateway(id: u32, number: Option<&str>) -> DeniedCertificate {
        DeniedCertificate {
            role: Role::Gateway,
            id,
            serial: number.map(serial),
        }
    }

    #[test]
    fn a_serial_number_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("7", "7"),
            ("0A:0b", "a0b"),
            ("abc", "abc"),
            ("00ffFF", "ffff"),
            (&"f".repeat(40), &"f".repeat(40)),
        ] {
            assert_eq!(serial(text).to_string(), shown);
            assert_eq!(serial(shown), serial(text));
        }
        for bad in ["", "0", "x", "-1", " 1", &"1".repeat(41)] {
            assert_eq!(bad.parse::<Serial>(), Err(NoSerial), "{bad}");
        }
        assert_eq!(Serial::from_bytes(&[0, 0x8f, 1]), Some(serial("8f01")));
        assert_eq!(Serial::from_bytes(&[1; 21]), None);
    }

    #[test]
    fn an_entry_denies_one_certificate_or_all_of_a_member() {
        let mut list = DenyList::default();
        assert!(list.deny(gateway(1, Some("7"))));
        assert!(!list.deny(gateway(1, Some("7"))));
        let denied = |list: &DenyList, role, id, number| {
            let grants = [(Role::Storage, 9), (role, id)];
            list.find(&grants, serial(number)).is_some()
        };
        assert!(denied(&list, Role::Gateway, 1, "7"));
        assert!(!denied(&list, Role::Gateway, 1, "8"));
        assert!(!denied(&list, Role::Gateway, 2, "7"));
        assert!(!denied(&list, Role::Metadata, 1, "7"));
        assert!(list.deny(gateway(1, None)));
        assert!(denied(&list, Role::Gateway, 1, "8"));
        assert!(list.check().is_ok());
        assert!(list.allow(&gateway(1, None)));
        assert!(!list.allow(&gateway(1, None)));
        assert!(!denied(&list, Role::Gateway, 1, "8"));
    }

    #[test]
    fn a_list_is_short_and_in_order() {
        let mut list = DenyList::default();
        for id in (0..256).rev() {
            assert!(list.deny(gateway(id, None)));
        }
        assert_eq!(list.check(), Ok(()));
        assert!(list.deny(gateway(256, None)));
        assert_eq!(list.check(), Err(DenyListError::TooMany(257)));
        list.denied.truncate(2);
        list.denied.swap(0, 1);
        assert_eq!(list.check(), Err(DenyListError::Order));
        list.denied[0] = list.denied[1];
        assert_eq!(list.check(), Err(DenyListError::Order));
    }
}
