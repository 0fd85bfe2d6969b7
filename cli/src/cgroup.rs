//! How much memory this process may use: what its control groups allow, or the machine has.
//!
//! Owns finding the limit in what the system says, as a pure value. A process that does not know it
//! is ended by the system when it passes it.

use std::path::{Path, PathBuf};

/// Returns the lowest limit in bytes of the process's control groups, versions 1 and 2, or the
/// machine's memory if that is less; None if nothing can be read.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let machine = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let groups = lowest_limit(&groups, &mounts, read);
    groups.into_iter().chain(total(&machine)).min()
}

/// Reads the machine's memory in bytes from the text of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let text = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = text.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// A version of control groups, as far as memory is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The file of a group that holds its limit.
    fn file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }
}

/// Judges the text of `/proc/self/cgroup` and of `/proc/self/mountinfo`. A group is also bound by
/// the limits of those above it.
fn lowest_limit(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = groups.lines().filter_map(group);
    let dirs = groups.flat_map(|(version, path)| {
        let mounts = mounts.lines().filter_map(mount);
        let fitting = mounts.filter(move |mount| mount.version == version);
        fitting.flat_map(move |mount| {
            let dirs = dirs_of(&mount, path);
            dirs.into_iter().map(move |dir| dir.join(version.file()))
        })
    });
    // Version 2 says "max" where there is no limit, version 1 a very large number.
    dirs.filter_map(|file| read(&file)?.trim().parse().ok())
        .min()
}

/// Reads a line of `/proc/self/cgroup`: `4:memory:/a/b` of version 1, or `0::/a/b` of version 2.
fn group(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.split(',').any(|name| name == "memory") {
        Some((Version::One, path))
    } else if number == "0" && controllers.is_empty() {
        Some((Version::Two, path))
    } else {
        None
    }
}

struct Mount {
    version: Version,
    /// The group that is seen at `point`.
    root: String,
    point: String,
}

/// Reads a line of `/proc/self/mountinfo`; None if no groups of memory are mounted there.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (file_system, options) = (kind.next()?, kind.nth(1)?);
    let version = match file_system {
        "cgroup2" => Version::Two,
        "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
        _other => return None,
    };
    // A space in a path is written so.
    let path = |text: &str| text.replace("\\040", " ");
    Some(Mount {
        version,
        root: path(root),
        point: path(point),
    })
}

/// Returns the directories of a group and of those above it, as far as they are seen at a mount.
/// A group that isn't below what is mounted is a container's: its own group is at the mount.
fn dirs_of(mount: &Mount, group: &str) -> Vec<PathBuf> {
    let point = Path::new(&mount.point);
    let below = Path::new(group).strip_prefix(&mount.root);
    let below = below.unwrap_or(Path::new(""));
    let dirs = below.ancestors().map(|above| point.join(above));
    dirs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";

    /// `files` are the directory below `/sys/fs/cgroup`, the file's name and its text.
    fn check(groups: &str, mounts: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let found = lowest_limit(groups, mounts, |path| {
            let path = path.strip_prefix("/sys/fs/cgroup").expect("a mount");
            let file = files.iter().find(|(name, _)| path == Path::new(name));
            file.map(|(_, text)| (*text).to_owned())
        });
        assert_eq!(found, expected, "{groups:?} {files:?}");
    }

    #[test]
    fn a_group_of_version_2_and_those_above_it() {
        let own = ("a/b/memory.max", "536870912\n");
        check("0::/a/b\n", V2, &[own], Some(512 << 20));
        check(
            "0::/a/b\n",
            V2,
            &[("a/memory.max", "1000\n"), own],
            Some(1000),
        );
        check(
            "0::/a/b\n",
            V2,
            &[("a/memory.max", "max\n"), own],
            Some(512 << 20),
        );
        check("0::/a/b\n", V2, &[("a/b/memory.max", "max\n")], None);
        check("0::/a\n", V2, &[own], None);
        check("0::/\n", V2, &[("memory.max", "7")], Some(7));
    }

    #[test]
    fn a_group_of_version_1_and_those_above_it() {
        let groups = "3:cpuset:/\n4:memory:/a/b\n1:cpu:/c\n0::/\n";
        let own = ("memory/a/b/memory.limit_in_bytes", "1000\n");
        let above = ("memory/a/memory.limit_in_bytes", "500\n");
        check(groups, V1, &[own], Some(1000));
        check(groups, V1, &[own, above], Some(500));
        check("5:cpu,memory:/a/b", V1, &[own], Some(1000));
        check("5:cpu:/a/b", V1, &[own], None);
        check(groups, V2, &[own], None);
    }

    #[test]
    fn both_versions_at_a_time() {
        let mounts = format!("{V1}\n{V2}");
        let one = ("memory/a/memory.limit_in_bytes", "9223372036854771712");
        check(
            "4:memory:/a\n0::/b",
            &mounts,
            &[one, ("b/memory.max", "9")],
            Some(9),
        );
        check(
            "4:memory:/a\n0::/b",
            &mounts,
            &[one],
            Some(9_223_372_036_854_771_712),
        );
    }

    /// A container sees its own group at the mount, under whatever name the host knows it.
    #[test]
    fn a_group_of_a_container() {
        let mount = "35 31 0:32 /docker/x /sys/fs/cgroup ro - cgroup cgroup rw,memory";
        let own = ("memory.limit_in_bytes", "1000");
        check("4:memory:/docker/x", mount, &[own], Some(1000));
        check(
            "4:memory:/docker/x/y",
            mount,
            &[("y/memory.limit_in_bytes", "5"), own],
            Some(5),
        );
        check("4:memory:/other", mount, &[own], Some(1000));
        check("0::/../x", V2, &[("memory.max", "1000")], Some(1000));
    }

    #[test]
    fn the_machines_memory_is_a_limit() {
        let meminfo = "MemFree:  1 kB\nMemTotal:       24683520 kB\nMemAvailable: 2 kB\n";
        assert_eq!(total(meminfo), Some(24_683_520 << 10));
        for other in ["", "MemTotal: many kB", "MemTotal: 1 MB", "MemFree: 1 kB"] {
            assert_eq!(total(other), None, "{other}");
        }
        let all = std::fs::read_to_string("/proc/meminfo").expect("a machine");
        assert!(memory_limit() <= total(&all));
    }

    #[test]
    fn what_can_t_be_read_is_no_limit() {
        check("", "", &[], None);
        check(
            "nonsense\n4:memory",
            "nonsense\n - \na b c d e - cgroup2",
            &[],
            None,
        );
        check("0::/a", V2, &[("a/memory.max", "many")], None);
    }
}
