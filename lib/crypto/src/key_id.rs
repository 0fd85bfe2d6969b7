//! Ids of access keys: public names, which only who can open the cluster's KEKs can make.
//!
//! Anybody may send any id, and a gateway must ask the metadata group for one that it doesn't know.
//! So an id carries a check: one that was made up is told from a made one without a question.
//!
//! ```text
//! id    = "MGL" ‖ 13 letters, random ‖ 8 letters: 40 bits of check
//! check = HKDF-Expand(key, 16 cluster ‖ the random letters, 5)
//!   key = HKDF(first root key, "access-key-id"), or random for a cluster that began with a service
//! ```
//! Letters are those of base32. The key hangs on no KEK, because ids must outlive the rotation of
//! KEKs; every KEK carries it to the next, and from one root to another. The check is no proof of
//! anything but that: a secret signs.

use crate::derive::{AccessKeyIds, Subkey};
use crate::keys::{IdKey, RootKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Random bytes that one id is made of.
pub const ID_RANDOM_LEN: usize = 13;

const PREFIX: &str = "MGL";
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const CHECK_LEN: usize = 5;
const CHECK_LETTERS: usize = 8;
/// Letters after the prefix of ids that were made before ids had a check.
const UNCHECKED_LETTERS: usize = 17;

/// What an id tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdForm {
    /// It was made by who can open the cluster's KEKs.
    Made,
    /// It has the form of before there was a check: anybody may have made it up.
    Unchecked,
    /// No key ever had it.
    MadeUp,
}

/// Makes and judges the ids of one cluster.
pub struct KeyIds {
    key: Subkey<AccessKeyIds>,
    cluster: [u8; 16],
}

impl KeyIds {
    /// Derives the key of a cluster's ids from the root key that it began with.
    #[must_use]
    pub fn new(root: &RootKey, cluster: [u8; 16]) -> Self {
        Self::of_key(&root.id_key(), cluster)
    }

    /// Takes the key of a cluster's ids, as its KEKs carry it.
    #[must_use]
    pub fn of_key(key: &IdKey, cluster: [u8; 16]) -> Self {
        Self {
            key: key.subkey(),
            cluster,
        }
    }

    /// Makes an id from random bytes.
    #[must_use]
    pub fn make(&self, random: &[u8; ID_RANDOM_LEN]) -> String {
        // 32 letters divide 256, so every letter is equally likely.
        let letters: String = random.iter().map(|byte| letter(byte % 32)).collect();
        let check: String = self.check(&letters).into_iter().map(letter).collect();
        format!("{PREFIX}{letters}{check}")
    }

    /// Judges an id.
    #[must_use]
    pub fn judge(&self, id: &str) -> IdForm {
        let of_base32 = |text: &str| text.bytes().all(|byte| LETTERS.contains(&byte));
        match id.strip_prefix(PREFIX) {
            Some(rest) if !of_base32(rest) => IdForm::MadeUp,
            Some(rest) if rest.len() == UNCHECKED_LETTERS => IdForm::Unchecked,
            Some(rest) if rest.len() == ID_RANDOM_LEN + CHECK_LETTERS => {
                let (letters, claimed) = rest.split_at(ID_RANDOM_LEN);
                let check: String = self.check(letters).into_iter().map(letter).collect();
                match verify_slices_are_equal(check.as_bytes(), claimed.as_bytes()) {
                    Ok(()) => IdForm::Made,
                    Err(_) => IdForm::MadeUp,
                }
            }
            Some(_) | None => IdForm::MadeUp,
        }
    }

    /// Returns the check of an id's random letters, five bits in each byte.
    fn check(&self, letters: &str) -> [u8; CHECK_LETTERS] {
        let mut bytes = [0; CHECK_LEN];
        self.key
            .expand(&[&self.cluster, letters.as_bytes()], &mut bytes)
            .expect("a few bytes are within HKDF's output limit");
        let bits = bytes
            .iter()
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        std::array::from_fn(|place| (bits >> (5 * place)) as u8 & 31)
    }
}

fn letter(number: u8) -> char {
    char::from(LETTERS[usize::from(number)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(cluster: u8) -> KeyIds {
        // A key of one repeated byte would be refused.
        let root = RootKey::parse(&("01".repeat(31) + "02")).expect("a key");
        KeyIds::new(&root, [cluster; 16])
    }

    #[test]
    fn an_id_is_made_by_its_cluster_alone() {
        let id = ids(1).make(&[7; ID_RANDOM_LEN]);
        assert_eq!(id.len(), 24);
        assert_eq!(ids(1).judge(&id), IdForm::Made);
        assert_eq!(ids(2).judge(&id), IdForm::MadeUp);
        let other = RootKey::generate().expect("a key");
        assert_eq!(KeyIds::new(&other, [1; 16]).judge(&id), IdForm::MadeUp);
    }

    /// The form of ids is part of what is stored: keys that were given out must go on working.
    #[test]
    fn an_id_stays_as_it_is() {
        assert_eq!(ids(1).make(&[7; ID_RANDOM_LEN]), "MGLHHHHHHHHHHHHHKEDXLHUC");
    }

    #[test]
    fn an_id_with_any_letter_changed_is_made_up() {
        let ids = ids(1);
        let id = ids.make(&std::array::from_fn(|place| place as u8));
        for place in 0..id.len() {
            for letter in LETTERS {
                let mut changed = id.clone().into_bytes();
                changed[place] = *letter;
                let changed = String::from_utf8(changed).expect("letters");
                let made = if changed == id {
                    IdForm::Made
                } else {
                    IdForm::MadeUp
                };
                assert_eq!(ids.judge(&changed), made, "{changed}");
            }
        }
    }

    #[test]
    fn what_has_no_form_of_ours_is_made_up() {
        let ids = ids(1);
        assert_eq!(
            ids.judge(&format!("MGL{}", "A2".repeat(8) + "Z")),
            IdForm::Unchecked
        );
        for id in [
            "",
            "MGL",
            "AKIAIOSFODNN7EXAMPLE",
            "MGLAAAAAAAAAAAAAAAA1",
            "mglAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(ids.judge(id), IdForm::MadeUp, "{id}");
        }
        for length in (0..200).filter(|length| *length != UNCHECKED_LETTERS) {
            assert_eq!(
                ids.judge(&format!("MGL{}", "A".repeat(length))),
                IdForm::MadeUp
            );
        }
        assert_eq!(ids.judge("MGLÄÄÄÄÄÄÄÄÄÄÄÄ"), IdForm::MadeUp);
    }
}
