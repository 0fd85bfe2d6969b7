//! Checks that every public item has a doc comment.

use crate::code::code_of;
use crate::none;
use crate::tree::sources;
use std::path::Path;

/// Words after `pub` that need a doc comment. Fields, variants and `pub use` need none.
const ITEMS: &[&str] = &[
    "async", "const", "enum", "extern", "fn", "static", "struct", "trait", "type", "union",
    "unsafe",
];

fn is_example_or_test(path: &Path) -> bool {
    path.iter()
        .any(|part| part == "tests" || part == "examples")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Returns true if the item that begins at line `index` has a doc comment, above its attributes.
fn is_documented(lines: &[&str], code: &[&str], index: usize) -> bool {
    // Attributes may span lines: `open` counts brackets that were opened further up.
    let mut open = 0_isize;
    for above in (0..index).rev() {
        let line = lines[above].trim();
        if open == 0
            && (["///", "#[doc", "$(#["]
                .iter()
                .any(|mark| line.starts_with(mark)))
        {
            return true;
        }
        let count = |bracket: char| code[above].matches(bracket).count() as isize;
        let inside = open > 0;
        open += count(']') - count('[');
        let comment = line.starts_with("//");
        if !(inside || comment || line.starts_with("#[") || open > 0) {
            return false;
        }
    }
    false
}

#[test]
fn what_is_public_says_what_it_is() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if is_example_or_test(path) {
            continue;
        }
        let code = code_of(text);
        let (lines, code): (Vec<_>, Vec<_>) = (text.lines().collect(), code.lines().collect());
        for (index, line) in code.iter().enumerate() {
            let mut words = line.split_whitespace();
            let public = words.next() == Some("pub");
            let word = words.next().unwrap_or_default();
            // A module in a file of its own has its `//!` there.
            let item = ITEMS.contains(&word) || (word == "mod" && line.contains('{'));
            if public && item && !is_documented(&lines, &code, index) {
                let place = path.display();
                wrong.push(format!("{place}:{}: {}", index + 1, lines[index].trim()));
            }
        }
    }
    none(
        &wrong,
        "Write a `///` sentence that says what the caller gets.",
    );
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let opens = |text: &str| text.trim_start().starts_with("//!");
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| !opens(text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    none(
        &wrong,
        "Open the file with `//!`: what it owns and what it must never do.",
    );
}
