//! Fuzzes what strangers and damaged disks can hand us: one file per target.
//!
//! A target takes any bytes and asserts what must hold for them. The ordinary tests replay each
//! target's corpus (`tests/replay.rs`); `just fuzz` runs libFuzzer. `README.md` says how to run a
//! target and how to add one.

pub mod aws_chunked;
pub mod backup;
pub mod cells;
pub mod chunk_file;
pub mod commands;
pub mod data_head;
pub mod edit;
pub mod gate;
pub mod http_text;
pub mod mutate;
pub mod raft_log;
pub mod rows;
pub mod world;

/// The first inputs, by name.
pub type Seeds = Vec<(String, Vec<u8>)>;

fn named(seeds: Vec<(&str, Vec<u8>)>) -> Seeds {
    let owned = |(name, input): (&str, Vec<u8>)| (name.to_owned(), input);
    seeds.into_iter().map(owned).collect()
}

/// A target.
pub struct Target {
    /// The name of its source file, of its corpus and of its program.
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Seeds,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        &[$(Target {
            name: stringify!($name),
            run: $name::target,
            seeds: $name::seeds,
        }),*]
    };
}

/// All targets.
pub const TARGETS: &[Target] = targets![
    aws_chunked,
    backup,
    cells,
    chunk_file,
    commands,
    data_head,
    gate,
    raft_log,
    rows,
];
