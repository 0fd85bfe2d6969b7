//! The shard store of one disk: keeps shards in append-only chunk files, survives power cuts, and
//! says what it lost.
//!
//! - Owns everything below a disk's directory. Keys of users never come here; paths are made of
//!   volume and file numbers.
//! - `record`, `index` and `superblock` are the stored forms (`docs/formats/disk.md`), `scan`
//!   and `recover` read them back, `core`, `stage` and `round` are the one writer, `finish` and
//!   `idle` close files, `tidy` and `empty` give space back, `catalog` and `read` serve readers,
//!   `trash` lists what may be deleted one day, `worker`, `pool`, `stream` and `handle` put threads
//!   and an asynchronous face on it.
//! - Must never acknowledge before the sync, retry a failed sync, cut anything but a torn tail,
//!   hand out a byte that was not checked, or touch the file system but through [`megalith_disk`].
//! - Knows nothing of objects, erasure coding, encryption or the network, and reads no clock but
//!   to pace commits.

mod catalog;
mod core;
mod disks;
mod empty;
mod error;
mod file_cache;
mod files;
mod filter;
mod finish;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod growing;
mod handle;
mod health;
mod idle;
mod index;
mod inspect;
mod list_file;
mod op;
mod pace;
mod pool;
mod read;
mod rebuild;
mod record;
mod recover;
mod round;
mod scan;
mod scrub;
mod second_look;
mod settings;
mod shard;
mod stage;
mod stream;
mod superblock;
#[cfg(test)]
mod tests;
mod tidy;
mod trash;
mod worker;

pub use disks::Disks;
pub use error::StoreError;
pub use handle::{CommitCounts, DiskHandle, DiskSpace};
pub use health::DiskHealth;
pub use megalith_disk::crc32c::crc32c;
pub use pace::{DiskPace, PACE_WINDOW};
pub use rebuild::{LostSuperblock, RebuildError};
pub use record::{BLOCK_LEN, CELL_LEN, Cell, RECORD_CELLS_MAX};
pub use scrub::{ScrubSettings, ScrubStatus};
pub use settings::StoreSettings;
pub use stream::ShardWriter;
pub use superblock::Superblock;
pub use trash::{TRASH_MAX, Trash, TrashedShard};
