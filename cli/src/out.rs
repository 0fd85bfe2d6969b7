//! What the command prints: its answer to standard output, remarks to standard error.
//!
//! Owns every write to the two. If the reader goes away, as in `megalith status | head -1`, the
//! command ends without a message. Must never panic because the reader is gone.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// The exit code that a shell shows for a program ended by SIGPIPE, 128 + 13: the answer did not
/// arrive.
const READER_GONE: u8 = 141;
const FAILED: u8 = 1;

/// What a command prints at its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Whole lines for standard output.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self { text, code: 0 }
    }
}

impl From<()> for Output {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// Prints the output and returns the command's exit code.
pub fn end(output: &Output) -> ExitCode {
    let mut stdout = io::stdout().lock();
    let given = stdout
        .write_all(output.text.as_bytes())
        .and_then(|()| stdout.flush());
    ExitCode::from(code(given, output.code))
}

/// Prints what is wrong with the arguments, or the requested help, and returns the exit code: 2 or
/// 0.
pub fn usage(told: &clap::Error) -> ExitCode {
    let wanted = u8::try_from(told.exit_code()).unwrap_or(FAILED);
    let printed = told.print();
    ExitCode::from(if told.use_stderr() {
        wanted
    } else {
        code(printed, wanted)
    })
}

fn code(given: io::Result<()>, wanted: u8) -> u8 {
    match given {
        Ok(()) => wanted,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => READER_GONE,
        Err(error) => {
            remark(format_args!("megalith: write the answer: {error}"));
            FAILED
        }
    }
}

/// Prints a message for a person while the command goes on. If it can't be written, it is lost.
pub fn announce(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Writes a line to standard error. If it can't be written, it is lost; the exit code still says
/// how the command ended.
pub fn remark(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_from_a_full_disk() {
        assert_eq!(code(Ok(()), 2), 2);
        assert_eq!(code(Err(ErrorKind::BrokenPipe.into()), 0), READER_GONE);
        assert_eq!(code(Err(ErrorKind::BrokenPipe.into()), 2), READER_GONE);
        assert_eq!(code(Err(ErrorKind::StorageFull.into()), 0), FAILED);
    }
}
