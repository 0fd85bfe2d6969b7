//! File descriptors: connections and chunk files are one each, and a process that has none left
//! can neither accept nor open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a process that serves does not start.
const NEEDED: u64 = 256;

/// What the default limits of a gateway or a node come to: 4,096 connections of clients or peers,
/// with as many again for connections to nodes, chunk files and tables.
const WANTED: u64 = 8192;

/// Why a process could not start: it may open too few files.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may open {given} files, connections included; it needs {NEEDED} at least, and \
     {WANTED} for its default limits: raise the hard limit (`ulimit -Hn`, or systemd's LimitNOFILE)"
)]
pub struct TooFew {
    given: u64,
}

/// Raises the process's limit to the most that it may have, and warns if that is little.
///
/// # Errors
/// [`TooFew`] if the process can't work with it.
pub fn raise() -> Result<(), TooFew> {
    let most = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files can't be raised");
    }
    if let Some(limit) = judge(getrlimit(Resource::Nofile).current)? {
        let message = "few files and connections may be open at a time: clients may have to wait";
        tracing::warn!(limit, wanted = WANTED, message);
    }
    Ok(())
}

/// Judges a limit; None is without limit. Returns it if it is little.
fn judge(given: Option<u64>) -> Result<Option<u64>, TooFew> {
    match given {
        Some(given) if given < NEEDED => Err(TooFew { given }),
        little => Ok(little.filter(|given| *given < WANTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_enough_or_little_or_too_little() {
        assert_eq!(judge(None), Ok(None));
        assert_eq!(judge(Some(8192)), Ok(None));
        assert_eq!(judge(Some(8191)), Ok(Some(8191)));
        assert_eq!(judge(Some(256)), Ok(Some(256)));
        assert_eq!(judge(Some(255)), Err(TooFew { given: 255 }));
    }
}
