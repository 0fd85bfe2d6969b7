//! Keeps the keys in a process's memory from reaching a disk: no core dumps, no swap.
//!
//! Keys are in many places of the memory of a gateway, so all of it is locked, not single pages.
//! Whoever is root on the machine, or may look into the process, still reads them.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use std::io;

/// The bit of `CAP_IPC_LOCK` in the kernel's sets of capabilities.
const CAP_IPC_LOCK: u32 = 14;

/// Makes sure that this process leaves no core dump, and that only root may trace it.
///
/// The limit alone is not enough: where the kernel hands dumps to a program, it ignores a limit
/// of 0.
///
/// # Errors
/// What the kernel says; keys must not be read then.
pub fn no_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// What keeps a process's pages from swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swap {
    /// All pages are to be locked: nothing limits how many.
    Lock,
    /// They can't all be locked, but the machine has no swap now.
    None,
    /// They can't all be locked, and the machine swaps.
    Open,
}

/// Locks all memory of this process, now and later, where the machine allows it; says in the log
/// what holds.
pub fn no_swap() {
    let limit = getrlimit(Resource::Memlock).maximum;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Where this can't be read, the worst is assumed.
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or("?\n?".to_owned());
    let limit_bytes = limit.unwrap_or(u64::MAX);
    match judged(limit, may_lock(&status), &swaps) {
        Swap::Lock => match lock_all() {
            Ok(()) => tracing::info!("memory is locked: keys are not swapped out"),
            Err(error) => tracing::warn!(
                %error,
                "memory could not be locked: keys may be swapped out if the machine swaps"
            ),
        },
        Swap::None => tracing::info!(
            limit_bytes,
            "memory is not locked, and the machine has no swap: keys are not swapped out"
        ),
        Swap::Open => tracing::warn!(
            limit_bytes,
            "keys may be swapped out: turn swap off, or encrypt it, or let this process lock its \
             memory (systemd: LimitMEMLOCK=infinity; containers: the capability IPC_LOCK)"
        ),
    }
}

/// Locks pages as they come into use. Locking also what is only reserved would take memory that
/// nobody needs.
fn lock_all() -> io::Result<()> {
    // Without it the limit in force is the lower, soft one.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if getrlimit(Resource::Memlock).maximum.is_none() {
        setrlimit(Resource::Memlock, unlimited)?;
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(mlockall(flags)?)
}

/// `limit`: the most bytes that may be locked, None for any number. Under a limit nothing is
/// locked: the process would fail to get memory as soon as it reached it.
fn judged(limit: Option<u64>, may_lock: bool, swaps: &str) -> Swap {
    // A line of titles, then one for each.
    let swapping = swaps.lines().skip(1).any(|line| !line.trim().is_empty());
    match (limit, may_lock) {
        (None, _) | (_, true) => Swap::Lock,
        (Some(_), false) if swapping => Swap::Open,
        (Some(_), false) => Swap::None,
    }
}

/// Reads from the kernel's text on this process whether no limit binds it.
fn may_lock(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    capabilities.is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SWAP: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    const SWAP: &str = "Filename Type Size Used Priority\n/swapfile file 1000 0 -2\n";

    #[test]
    fn pages_are_locked_only_where_nothing_limits_their_number() {
        assert_eq!(judged(None, false, SWAP), Swap::Lock);
        assert_eq!(judged(Some(65_536), true, SWAP), Swap::Lock);
        assert_eq!(judged(Some(65_536), false, NO_SWAP), Swap::None);
        assert_eq!(judged(Some(1 << 40), false, SWAP), Swap::Open);
        assert_eq!(judged(Some(0), false, "?\n?"), Swap::Open, "not known");
    }

    #[test]
    fn the_capability_is_read_from_the_set_in_force() {
        let of = |effective: &str| format!("Name:\tx\nCapPrm:\tffffffff\nCapEff:\t{effective}\n");
        assert!(may_lock(&of("000001ffffffffff")));
        assert!(may_lock(&of("0000000000004000")));
        assert!(!may_lock(&of("0000000000003fff")));
        assert!(!may_lock(&of("nonsense")));
        assert!(!may_lock(""));
    }
}
