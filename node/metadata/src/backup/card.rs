//! The card of a backup: whose rows, of which point of the log, and what their file must be.

use super::{BackupError, io_error};
use crate::log::Mark;
use megalith_model::ids::{ClusterId, GroupId};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const CARD_FILE: &str = "backup";
const TITLE: &str = "megalith metadata backup, version 1";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupCard {
    pub cluster: ClusterId,
    pub group: GroupId,
    /// The place of the log that the rows stand for.
    pub mark: Mark,
    /// Records in the rows' file; a row that changed while it was written has several.
    pub records: u64,
    /// The file's length in bytes.
    pub len: u64,
    pub digest: blake3::Hash,
}

impl BackupCard {
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{TITLE}\ncluster {}\ngroup {}\nindex {}\nterm {}\nrecords {}\nlength {}\nrows {}\n",
            self.cluster,
            self.group.0,
            self.mark.index,
            self.mark.term,
            self.records,
            self.len,
            self.digest.to_hex(),
        );
        let checksum = blake3::hash(text.as_bytes());
        writeln!(text, "checksum {}", checksum.to_hex()).expect("a string takes everything");
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let titled = lines.next() == Some(TITLE);
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let card = Self {
            cluster: value("cluster")?.parse().ok()?,
            group: GroupId(value("group")?.parse().ok()?),
            mark: Mark {
                index: value("index")?.parse().ok()?,
                term: value("term")?.parse().ok()?,
            },
            records: value("records")?.parse().ok()?,
            len: value("length")?.parse().ok()?,
            digest: blake3::Hash::from_hex(value("rows")?).ok()?,
        };
        // Whatever differs in one character is no card of ours.
        (titled && card.text() == text).then_some(card)
    }

    /// Writes the card of a backup whose rows are durable: now it is whole.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let (path, beside) = (dir.join(CARD_FILE), dir.join("backup.new"));
        fs::write(&beside, self.text()).map_err(io_error("write", &beside))?;
        super::sync(&beside)?;
        fs::rename(&beside, &path).map_err(io_error("make", &path))?;
        super::sync(dir)
    }

    /// Reads the card of a backup of `cluster`.
    pub fn read(dir: &Path, cluster: ClusterId) -> Result<Self, BackupError> {
        let path = dir.join(CARD_FILE);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        Self::decode(&bytes, path, cluster)
    }

    /// Reads a card's bytes; `path` is where they come from.
    pub(super) fn decode(
        bytes: &[u8],
        path: PathBuf,
        cluster: ClusterId,
    ) -> Result<Self, BackupError> {
        let card = std::str::from_utf8(bytes).ok().and_then(Self::parse);
        let Some(card) = card else {
            let what = "it is no card of a metadata backup of version 1".to_owned();
            return Err(BackupError::Damaged { path, what });
        };
        if card.cluster != cluster {
            let found = card.cluster.to_string();
            return Err(BackupError::Foreign { path, found });
        }
        Ok(card)
    }
}
