//! Rules about the store's own source.

use std::path::Path;

/// No write path may bypass the file-system trait: the power-cut tests would not see it.
#[test]
fn nothing_in_the_store_touches_the_file_system_directly() {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut seen = 0;
    for entry in std::fs::read_dir(store).expect("source folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            seen += 1;
            let text = std::fs::read_to_string(&path).expect("source");
            for banned in [
                "std::fs",
                "tokio::fs",
                "rustix::",
                "OpenOptions",
                "fs::File::",
            ] {
                assert!(!text.contains(banned), "{} uses {banned}", path.display());
            }
        }
    }
    assert!(seen > 15, "the source was not where the test looks");
}
