//! Files in memory, and damage done to them by a script of bytes.
//!
//! The targets that read files start from good ones and let the fuzzer write such scripts: a
//! checksum covers most bytes of a stored file, so a fuzzer that only sees files would hardly get
//! past the first one.

use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The size of a simulated disk, in bytes.
const CAPACITY: u64 = 64 << 20;
/// The longest piece that one step appends, in bytes.
const APPEND_MAX: usize = 8192;
/// A misdirected write moves a multiple of this.
const SECTOR: usize = 512;
/// Steps beyond this number are ignored.
const STEPS_MAX: usize = 64;

/// Files by path, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(pub Vec<(String, Vec<u8>)>, Vec<PathBuf>);

/// What a script changed in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub file: String,
    /// Bytes that may differ from what they were.
    pub bytes: Range<usize>,
}

/// Takes numbers off the front of an input.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn short(&mut self) -> Option<usize> {
        let bytes = self.take(2)?;
        Some(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    /// Takes a number of three bytes.
    pub fn offset(&mut self) -> Option<usize> {
        let bytes = self.take(3)?;
        let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        Some(number as usize)
    }

    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

impl Folder {
    /// Files and the directories that contain them; a directory stays if its file goes.
    #[must_use]
    pub fn new(mut files: Vec<(String, Vec<u8>)>) -> Self {
        files.sort();
        let paths = files.iter().map(|(path, _)| Path::new(path));
        let dirs = paths.flat_map(|path| path.ancestors().skip(1));
        // A directory sorts before its contents.
        let dirs: BTreeSet<_> = dirs.map(Path::to_owned).collect();
        Self(files, dirs.into_iter().collect())
    }

    /// Reads all files below `dir` of a simulated disk.
    #[must_use]
    pub fn read(fs: &SimFs, dir: &str) -> Self {
        let (mut files, mut open) = (Vec::new(), vec![dir.to_owned()]);
        while let Some(dir) = open.pop() {
            for entry in fs.list(Path::new(&dir)).expect("a directory of ours") {
                let path = format!("{dir}/{}", entry.name);
                if entry.is_dir {
                    open.push(path);
                    continue;
                }
                let file = fs.open(Path::new(&path)).expect("a file of ours");
                let mut bytes = vec![0; file.len().expect("a length") as usize];
                megalith_disk::read_exact_at(file.as_ref(), &mut bytes, 0).expect("readable");
                files.push((path, bytes));
            }
        }
        Self::new(files)
    }

    /// Puts the files on a fresh simulated disk, durably.
    #[must_use]
    pub fn disk(&self) -> SimFs {
        let fs = SimFs::new(CAPACITY);
        for dir in self.1.iter().filter(|dir| *dir != Path::new("/")) {
            fs.create_dir(dir).expect("the one above is there");
        }
        for (path, bytes) in &self.0 {
            let file = fs.create(Path::new(path)).expect("its directory is there");
            file.write_at(&[IoSlice::new(bytes)], 0).expect("room");
            file.sync_data().expect("sync");
        }
        for dir in &self.1 {
            fs.sync_dir(dir).expect("sync");
        }
        fs
    }

    /// Returns the bytes of a file; None if it is gone.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(name, _)| name == path);
        found.map(|(_, bytes)| bytes.as_slice())
    }

    /// Carries out a script, up to its end or its first nonsense.
    pub fn edit(&mut self, script: &[u8]) -> Vec<Touched> {
        let mut script = Script(script);
        let mut touched = Vec::new();
        while touched.len() < STEPS_MAX
            && let Some(step) = self.step(&mut script)
        {
            touched.push(step);
        }
        touched
    }

    /// Takes one step: what to do, to which file, where. Lengths and places are taken modulo the
    /// file's.
    fn step(&mut self, script: &mut Script<'_>) -> Option<Touched> {
        let (what, which) = (script.byte()?, usize::from(script.byte()?));
        let count = self.0.len();
        let (file, bytes) = self.0.get_mut(which.checked_rem(count)?)?;
        let (file, len) = (file.clone(), bytes.len());
        let place = |at: usize| at.checked_rem(len).unwrap_or(0);
        let changed = match what % 6 {
            0 => {
                let (at, mask) = (place(script.offset()?), script.byte()?.max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
                at..(at + 1).min(len)
            }
            1 => {
                let (at, count) = (place(script.offset()?), usize::from(script.byte()?));
                let new = script.take(count.min(script.0.len()))?;
                let end = (at + new.len()).min(len);
                bytes[at..end].copy_from_slice(&new[..end - at]);
                at..end
            }
            2 => {
                let (at, count) = (place(script.offset()?), script.short()?);
                let end = (at + count).min(len);
                bytes[at..end].fill(script.byte()?);
                at..end
            }
            3 => {
                let at = place(script.offset()?);
                bytes.truncate(at);
                at..len
            }
            4 => {
                let (more, count) = (script.short()? % APPEND_MAX, usize::from(script.byte()?));
                let new = script.take(count.min(script.0.len()))?;
                let new = if new.is_empty() { &[0][..] } else { new };
                bytes.extend(new.iter().cycle().take(more));
                len..bytes.len()
            }
            _ => {
                let (from, to) = (place(script.offset()?), place(script.offset()?));
                let sectors = 1 + usize::from(script.byte()? % 16);
                let (from, to) = (from / SECTOR * SECTOR, to / SECTOR * SECTOR);
                let count = (sectors * SECTOR).min(len - from.max(to));
                bytes.copy_within(from..from + count, to);
                to..to + count
            }
        };
        // A file that is cut to nothing may also be removed.
        if what >= 0xf0 && bytes.is_empty() {
            self.0.retain(|(name, _)| *name != file);
        }
        let bytes = changed;
        Some(Touched { file, bytes })
    }
}

/// Returns true if one of `touched` may have changed bytes in that range of a file.
#[must_use]
pub fn is_touched(touched: &[Touched], file: &str, range: &Range<usize>) -> bool {
    let overlaps = |bytes: &Range<usize>| bytes.start < range.end && range.start < bytes.end;
    touched
        .iter()
        .any(|touched| touched.file == file && overlaps(&touched.bytes))
}
