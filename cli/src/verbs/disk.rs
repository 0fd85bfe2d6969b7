//! `megalith disk`: what an operator does about one disk on its own machine.

use crate::args::{DiskVerb, RebuildArgs};
use megalith_server::NodeError;

/// Runs the verb.
pub fn run(verb: &DiskVerb) -> Result<String, NodeError> {
    match verb {
        DiskVerb::RebuildSuperblock(args) => rebuild(args),
    }
}

fn rebuild(RebuildArgs { disk, dry_run }: &RebuildArgs) -> Result<String, NodeError> {
    let found = megalith_server::rebuild_superblock(disk, *dry_run)?;
    let damaged = match found.damaged {
        0 => String::new(),
        count => format!(", {count} others are damaged"),
    };
    let done = match dry_run {
        true => "Nothing was written. To write the superblock: without --dry-run",
        false => "Written: superblock, superblock-2",
    };
    Ok(format!(
        "disk {} of cluster {}, according to {} chunk files{damaged}\n{done}\n",
        found.disk, found.cluster, found.witnesses
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::ClusterId;
    use std::path::Path;

    fn refused(disk: &Path) -> String {
        let args = RebuildArgs {
            disk: disk.to_owned(),
            dry_run: false,
        };
        let error = rebuild(&args).expect_err("refused");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_default()
    }

    #[test]
    fn a_disk_that_has_one_and_a_directory_that_is_none_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = refused(dir.path());
        assert!(told.contains("nothing says which disk it is"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        let disk = dir.path().join("disk");
        let cluster = ClusterId([1; 16]);
        megalith_server::init_disks(cluster, std::slice::from_ref(&disk)).expect("a disk");
        let told = refused(&disk);
        assert!(told.contains("nothing has to be made again"), "{told}");
    }
}
