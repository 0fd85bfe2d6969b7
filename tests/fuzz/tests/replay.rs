//! Runs every target on its corpus, and on random mutations of it.

use megalith_fuzz::mutate::{Random, mutated};
use megalith_fuzz::{TARGETS, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Mutated inputs per target, unless the time is up before.
const MUTATED: usize = 4_000;
/// How long a target may take; on a busy machine it then tries fewer inputs.
const TIME_MAX: Duration = Duration::from_secs(2);

/// How the first inputs get into the corpus.
const WRITE_IT: &str = "cargo build --workspace --example seeds && target/debug/examples/seeds";

/// No input, and nothing that should be made of one, is this long: if more memory is requested at
/// once, an input's claim was believed.
const PIECE_MAX: usize = 4 << 20;

/// The system's allocator; remembers the longest piece that it gave to each thread.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(len: usize) {
    // A thread that is ending has no such record any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(len)));
}

#[expect(unsafe_code, reason = "there is no safe way to be an allocator")]
// SAFETY: every call goes to the system's allocator; besides that only a number is recorded.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(piece, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        note(len);
        // SAFETY: as above.
        unsafe { System.realloc(piece, layout, len) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.expect("a target of that name")
}

fn corpus(target: &Target) -> PathBuf {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    corpus.join(target.name)
}

/// Returns the files of a corpus, sorted by name.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = corpus(target);
    let entries = std::fs::read_dir(&dir).expect("a corpus for each target");
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("plain names");
            (name, std::fs::read(entry.path()).expect("readable"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// Reports the input at which a target failed.
struct Trying<'a>(&'a str, &'a str, &'a [u8]);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Trying(target, name, input) = self;
            eprintln!("{target} fails at {name}: {}", input.escape_ascii());
        }
    }
}

fn run(target: &Target, name: &str, input: &[u8]) {
    let _trying = Trying(target.name, name, input);
    LARGEST.set(0);
    (target.run)(input);
    let largest = LARGEST.get();
    assert!(largest <= PIECE_MAX, "{largest} bytes of memory at once");
}

fn seed() -> u64 {
    let text = std::env::var("MEGALITH_SEED").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn replay(name: &str) {
    let target = target(name);
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for seed in (target.seeds)() {
        let name = &seed.0;
        assert!(
            inputs.contains(&seed),
            "{name} is not in the corpus: {WRITE_IT}"
        );
    }
    for (file, input) in &inputs {
        run(target, file, input);
    }
    let inputs: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    let (seed, begun) = (seed(), Instant::now());
    let mut random = Random(seed);
    for number in 0..MUTATED {
        let input = mutated(&inputs, &mut random);
        run(
            target,
            &format!("MEGALITH_SEED={seed}, number {number}"),
            &input,
        );
        if begun.elapsed() > TIME_MAX {
            println!("{name}: {number} of {MUTATED} inputs");
            break;
        }
    }
}

macro_rules! replays {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            let replayed = [$(stringify!($name)),*];
            let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, replayed);
        }
    };
}

replays![
    aws_chunked,
    backup,
    cells,
    chunk_file,
    commands,
    data_head,
    gate,
    raft_log,
    rows,
    signed_head,
    xml,
];
