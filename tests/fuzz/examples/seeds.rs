//! Writes each target's first inputs into its corpus. Leaves other inputs there alone.
//!
//! `cargo run -p megalith-fuzz --example seeds`

use megalith_fuzz::TARGETS;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let dir = corpus.join(target.name);
        std::fs::create_dir_all(&dir)?;
        for (name, input) in (target.seeds)() {
            std::fs::write(dir.join(name), input)?;
        }
    }
    Ok(())
}
