//! Small files that the command line writes: synced, never half-written, secrets only for the
//! owner.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A secret that others than its owner may read or write.
    #[error(
        "{path} holds a secret, and its mode {mode:04o} lets others than its owner read or change \
         it: `chmod 600 {path}`, and if it was so for long, somebody may have the key"
    )]
    NotSecret {
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
}

impl FileError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Public,
    /// Only its owner (mode 0600).
    Secret,
}

/// Makes a directory and its parents.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::new("make directory", path))
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(FileError::new("read", path))
}

/// Reads the text of a secret, at most `bytes_max` bytes: the buffer is wiped, and never moved.
///
/// # Errors
/// [`FileError::NotSecret`] if others than its owner may read or write the file.
pub fn read_secret(path: &Path, bytes_max: u64) -> Result<Zeroizing<String>, FileError> {
    let failed = |source| FileError::new("read", path)(source);
    let file = File::open(path).map_err(failed)?;
    if let Some(mode) = open_to_others(&file.metadata().map_err(failed)?) {
        let path = path.to_owned();
        return Err(FileError::NotSecret { path, mode });
    }
    let room = usize::try_from(bytes_max).expect("a short file") + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    // A longer one is cut, and is no key then either.
    let read = file.take(bytes_max + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    Ok(text)
}

/// Returns the permission bits if others than its owner may read or change a file.
fn open_to_others(file: &Metadata) -> Option<u32> {
    let mode = file.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Returns what is wrong with the mode of a certificate's key, for the log. Such keys are renewed,
/// often by tools that share them with a group, so that this is no reason not to start.
pub fn key_is_open(path: &Path) -> Option<FileError> {
    let mode = open_to_others(&std::fs::metadata(path).ok()?)?;
    let path = path.to_owned();
    Some(FileError::NotSecret { path, mode })
}

/// Writes a file beside its final place, syncs it, renames it and syncs the directory: after a
/// crash either the old or the new content is there, whole.
pub fn write(path: &Path, text: &str, access: Access) -> Result<(), FileError> {
    write_bytes(path, text.as_bytes(), access).map_err(FileError::new("write", path))
}

fn write_bytes(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mode = match access {
        Access::Public => 0o644,
        Access::Secret => 0o600,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// Returns `path` as an absolute path, so that a file that contains it may be moved.
pub fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    std::path::absolute(path).map_err(FileError::new("find", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_their_owner_and_writing_replaces_whole() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("root.key");
        write(&path, "first, and rather long", Access::Secret).expect("write");
        write(&path, "second", Access::Secret).expect("write again");
        assert_eq!(read(&path).expect("read"), "second");
        let mode = std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_secret_that_others_may_read_or_change_is_refused_with_the_way_to_mend_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("root.key");
        let secret = "0123456789abcdef".repeat(4);
        write(&path, &secret, Access::Secret).expect("write");
        let with = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("mode");
            read_secret(&path, 256)
        };
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o610] {
            let text = with(mode).expect_err("refused").to_string();
            assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
            let mended = format!("`chmod 600 {}`", path.display());
            assert!(text.contains(&mended), "{text}");
        }
        for mode in [0o600, 0o400] {
            assert_eq!(*with(mode).expect("its owner's"), secret);
        }
        assert_eq!(read_secret(&path, 10).expect("cut").len(), 11);
        assert!(key_is_open(&path).is_none(), "mode 0400");
        with(0o640).expect_err("refused");
        assert!(key_is_open(&path).is_some());
    }

    #[test]
    fn what_is_public_may_be_read_by_all_and_written_by_its_owner() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("node.toml");
        write(&path, "text", Access::Public).expect("write");
        let mode = std::fs::metadata(&path).expect("metadata").permissions();
        assert_eq!(mode.mode() & 0o777 & !0o022, 0o644);
    }

    #[test]
    fn a_secret_does_not_inherit_the_mode_of_what_a_crash_left_behind() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("root.key");
        let left = dir.path().join("root.key.new");
        std::fs::write(&left, "half").expect("left behind");
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o666)).expect("mode");
        write(&path, "whole", Access::Secret).expect("write");
        let mode = std::fs::metadata(&path).expect("metadata").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(!left.exists());
        assert_eq!(read(&path).expect("read"), "whole");
    }

    #[test]
    fn an_error_names_the_file_and_what_was_tried() {
        let error = read(Path::new("/nowhere/at/all")).expect_err("missing");
        assert_eq!(error.to_string(), "read /nowhere/at/all");
        let error = write(Path::new("/nowhere/f"), "", Access::Public).expect_err("no directory");
        assert_eq!(error.to_string(), "write /nowhere/f");
    }
}
