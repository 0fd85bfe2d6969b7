//! Reads and writes the few small files of this crate. No file is ever half-written.

use crate::error::IdentityError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The most bytes a certificate or key file may have: room for hundreds of certificates.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// For files that only their owner may read.
pub(crate) const MODE_SECRET: u32 = 0o600;
/// For files that anyone may read.
pub(crate) const MODE_PUBLIC: u32 = 0o644;

/// Reads a text file of at most [`FILE_LEN_MAX`] bytes.
pub(crate) fn read_text(path: &Path) -> Result<String, IdentityError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?
            .take(FILE_LEN_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > FILE_LEN_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "more than 1 MiB",
            ));
        }
        Ok(text)
    };
    read().map_err(failed("read", path))
}

/// Warns if anyone but the owner may read or change a private key.
pub(crate) fn warn_if_exposed(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let mode = format!("{mode:03o}");
        tracing::warn!(path = %path.display(), mode, "private key is open to other users");
    }
}

/// Makes a directory with its parents; only the owner can use what it makes.
pub(crate) fn make_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed("create directory", dir))
}

/// One file to write.
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) content: &'a str,
    pub(crate) mode: u32,
}

/// Writes files into `dir`: writes and syncs all of them under other names, then renames them into
/// place in the given order, then syncs the directory. Each file is old or new, never in between;
/// after a power cut the first files may be new and the last ones old.
pub(crate) fn write_files(dir: &Path, files: &[NewFile<'_>]) -> Result<(), IdentityError> {
    for file in files {
        let path = aside(dir, file.name);
        write_aside(&path, file).map_err(failed("write", &path))?;
    }
    for file in files {
        let path = dir.join(file.name);
        fs::rename(aside(dir, file.name), &path).map_err(failed("rename into place", &path))?;
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync directory", dir))
}

fn aside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.new"))
}

fn write_aside(path: &Path, file: &NewFile<'_>) -> io::Result<()> {
    // A crash left it. It is removed, not reopened, because an old file keeps its old mode and
    // readers.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?;
    out.write_all(file.content.as_bytes())?;
    out.sync_all()
}

/// Builds an error that names the file.
pub(crate) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> IdentityError + use<> {
    let path = path.to_owned();
    move |source| IdentityError::File {
        action,
        path,
        source,
    }
}
