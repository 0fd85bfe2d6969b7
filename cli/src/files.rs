//! Small files that the command line writes: synced, never half-written, secrets only for the
//! owner.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
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
    use std::os::unix::fs::PermissionsExt;

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
