//! The small files of a member's directory: `member` says whose it is and under which id it speaks,
//! `peers` remembers the others for the day that the log is lost.
//!
//! Both are text with a checksum in the last line, replaced whole. A card that doesn't check out is
//! damage, one of another cluster or node is somebody else's: never is one taken for the other.

use super::StartError;
use crate::addresses::AddressBook;
use crate::log::LogIdentity;
use megalith_disk::{FileSystem, read_exact_at, replace_file};
use megalith_model::ids::NodeId;
use std::io;
use std::path::Path;

/// The file that says whose directory it is; written last when one is made.
pub(super) const MEMBER_FILE: &str = "member";
const PEERS_FILE: &str = "peers";
const MEMBER_TITLE: &str = "megalith metadata member, version 2";
const PEERS_TITLE: &str = "megalith metadata peers, version 1";
/// Longer ones are none of ours.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What a member knows of itself beside its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Whose directory it is, in which life.
    pub(super) identity: LogIdentity,
    /// Set from the second life on.
    pub(super) lost: Option<Lost>,
}

/// How the life before ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub reason: String,
    /// The directory to which its files were moved; empty if there were none.
    pub kept: String,
}

/// What is in the place of a card.
pub(super) enum FoundCard {
    Nothing,
    /// A file that doesn't check out.
    Damaged,
    /// The card of another cluster, member or group, with what it says.
    Foreign(String),
    Card(Card),
}

impl Card {
    fn text(&self) -> String {
        let identity = &self.identity;
        let mut text = format!(
            "{MEMBER_TITLE}\ncluster {}\nmember {}\ngroup {}\nincarnation {}\n",
            identity.cluster, identity.member.0, identity.group.0, identity.incarnation
        );
        if let Some(lost) = &self.lost {
            let line = |text: &str| text.replace('\n', " ");
            text.push_str(&format!("lost {}\n", line(&lost.reason)));
            text.push_str(&format!("kept {}\n", line(&lost.kept)));
        }
        text
    }

    fn parse(text: &str, expected: &LogIdentity) -> Option<FoundCard> {
        let mut lines = text.lines();
        if lines.next()? != MEMBER_TITLE {
            return None;
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (cluster, member, group) = (field("cluster")?, field("member")?, field("group")?);
        let ours = cluster == expected.cluster.to_string()
            && member == expected.member.0.to_string()
            && group == expected.group.0.to_string();
        if !ours {
            let whose = format!("cluster {cluster}, member {member}, group {group}");
            return Some(FoundCard::Foreign(whose));
        }
        let incarnation = field("incarnation")?.parse().ok()?;
        let identity = LogIdentity {
            incarnation,
            ..*expected
        };
        let lost = match field("lost") {
            None => None,
            Some(reason) => Some(Lost {
                reason: reason.to_owned(),
                kept: field("kept")?.to_owned(),
            }),
        };
        Some(FoundCard::Card(Self { identity, lost }))
    }

    /// Writes the card in place of the one that is there.
    pub(super) fn write(&self, fs: &dyn FileSystem, dir: &Path) -> Result<(), StartError> {
        let path = dir.join(MEMBER_FILE);
        let written = replace_file(fs, &path, &sealed(&self.text()));
        written.map_err(|source| StartError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Reads the card of a directory that should be `expected`'s, whatever its life.
    pub(super) fn find(
        fs: &dyn FileSystem,
        dir: &Path,
        expected: &LogIdentity,
    ) -> Result<FoundCard, StartError> {
        let path = dir.join(MEMBER_FILE);
        let bytes = match read(fs, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundCard::Nothing),
            Err(error) if is_bad_disk(&error) => return Ok(FoundCard::Damaged),
            Err(source) => {
                return Err(StartError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let found = unsealed(&bytes).and_then(|text| Self::parse(text, expected));
        Ok(found.unwrap_or(FoundCard::Damaged))
    }
}

/// Writes down who the members are. A loss of this file costs nothing as long as the log is there.
pub(super) fn write_peers(fs: &dyn FileSystem, dir: &Path, book: &AddressBook) -> io::Result<()> {
    let mut text = format!("{PEERS_TITLE}\n");
    for (node, address) in book.remembered() {
        text.push_str(&format!("{} {address}\n", node.0));
    }
    let bytes = sealed(&text);
    let path = dir.join(PEERS_FILE);
    if read(fs, &path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    replace_file(fs, &path, &bytes)
}

/// Reads who the members were; no one if that can't be read.
pub(super) fn read_peers(fs: &dyn FileSystem, dir: &Path) -> Vec<(NodeId, String)> {
    let bytes = read(fs, &dir.join(PEERS_FILE)).unwrap_or_default();
    let Some(text) = unsealed(&bytes) else {
        return Vec::new();
    };
    let mut lines = text.lines();
    if lines.next() != Some(PEERS_TITLE) {
        return Vec::new();
    }
    let peer = |line: &str| {
        let (node, address) = line.split_once(' ')?;
        Some((NodeId(node.parse().ok()?), address.to_owned()))
    };
    lines.filter_map(peer).collect()
}

/// True for an error that speaks of the medium, not of the machine's state.
pub(super) fn is_bad_disk(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::UnexpectedEof
}

fn read(fs: &dyn FileSystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let len = file.len()?.min(FILE_LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).expect("bounded")];
    read_exact_at(file.as_ref(), &mut bytes, 0)?;
    Ok(bytes)
}

fn sealed(text: &str) -> Vec<u8> {
    format!("{text}checksum {}\n", blake3::hash(text.as_bytes())).into_bytes()
}

fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let end = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (content, last) = text.split_at(end);
    let checksum = last.trim_end_matches('\n').strip_prefix("checksum ")?;
    (checksum == blake3::hash(content.as_bytes()).to_string()).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::log_identity;
    use megalith_disk::sim::SimFs;
    use std::io::IoSlice;

    fn card() -> Card {
        let identity = LogIdentity {
            incarnation: 77,
            ..log_identity(3)
        };
        let lost = Some(Lost {
            reason: "raft log damaged\nat 5".to_owned(),
            kept: "/meta/kept-1".to_owned(),
        });
        Card { identity, lost }
    }

    #[test]
    fn a_card_is_read_back_and_any_flipped_bit_is_seen() {
        let fs = SimFs::new(1 << 20);
        let dir = Path::new("/meta");
        fs.create_dir(dir).expect("create");
        let find = || Card::find(&fs, dir, &log_identity(3)).expect("read");
        assert!(matches!(find(), FoundCard::Nothing));
        card().write(&fs, dir).expect("write");
        let FoundCard::Card(found) = find() else {
            panic!("no card");
        };
        assert_eq!(found.identity, card().identity);
        assert_eq!(found.lost.expect("lost").reason, "raft log damaged at 5");
        let file = fs.open(&dir.join(MEMBER_FILE)).expect("open");
        let len = file.len().expect("len");
        for bit in 0..len * 8 {
            let (offset, mask) = (bit / 8, 1 << (bit % 8));
            let mut byte = [0];
            read_exact_at(file.as_ref(), &mut byte, offset).expect("read");
            file.write_at(&[IoSlice::new(&[byte[0] ^ mask])], offset)
                .expect("flip");
            assert!(matches!(find(), FoundCard::Damaged), "bit {bit}");
            file.write_at(&[IoSlice::new(&byte)], offset).expect("back");
        }
        for len in (0..len).rev() {
            file.set_len(len).expect("cut");
            assert!(matches!(find(), FoundCard::Damaged), "{len} bytes");
        }
    }

    #[test]
    fn anothers_card_is_not_damage() {
        let fs = SimFs::new(1 << 20);
        let dir = Path::new("/meta");
        fs.create_dir(dir).expect("create");
        let other = megalith_model::ids::ClusterId([1; 16]);
        let mut foreign = card();
        foreign.identity.cluster = other;
        foreign.write(&fs, dir).expect("write");
        let found = Card::find(&fs, dir, &log_identity(3)).expect("read");
        assert!(matches!(found, FoundCard::Foreign(_)));
        card().write(&fs, dir).expect("write");
        let found = Card::find(&fs, dir, &log_identity(4)).expect("read");
        assert!(matches!(found, FoundCard::Foreign(_)));
    }
}
