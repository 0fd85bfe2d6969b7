//! How files look: short, finished, within the columns, tests in the expected place.

use crate::none;
use crate::tree::{files, sources, texts};
use std::path::Path;

const LINES_MAX: usize = 700;
const COLUMNS_MAX: usize = 100;

/// Marks of an unfinished or hidden thing, and what to do instead.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("#[ig", "nore"), "run the test, or take it out"),
    (concat!("#[pa", "th"), "put the module where its name says"),
];

#[test]
fn files_are_short_and_finished() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let place = path.display();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{place}: {lines} lines, look for the seam"));
        }
        for (number, line) in text.lines().enumerate() {
            let marks = UNFINISHED.iter().filter(|(mark, _)| line.contains(mark));
            wrong.extend(marks.map(|(_, instead)| format!("{place}:{}: {instead}", number + 1)));
        }
    }
    none(&wrong, "");
}

#[test]
fn tests_live_beside_what_they_test() {
    let named = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let wrong: Vec<_> = files()
        .iter()
        .filter(|path| named(path).ends_with("_tests.rs"))
        .map(|path| path.display().to_string())
        .collect();
    none(
        &wrong,
        "The tests of `x.rs` are in `x/tests.rs`, short ones inline.",
    );
}

/// Returns true if a line has only one word after indentation and list mark: a link, a path.
fn is_one_word(line: &str) -> bool {
    let text = line
        .trim_start()
        .trim_start_matches(['-', '*', '/', '!', '#', ' ']);
    !text.trim_end().contains(' ')
}

fn is_table(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['/', '!']);
    text.trim_start().starts_with('|')
}

/// Returns the lines of a file that are too long and could be wrapped.
fn too_long(path: &Path, text: &str) -> Vec<String> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let mut fenced = false;
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fence = ending == "md" && line.trim_start().starts_with("```");
        fenced ^= fence;
        let columns = line.chars().count();
        // The formatter keeps Rust's code within the columns, but can't break texts.
        let looked_at = match &*ending {
            "rs" => line.trim_start().starts_with("//"),
            "md" => !fenced && !fence,
            _other => true,
        };
        if looked_at && columns > COLUMNS_MAX && !is_table(line) && !is_one_word(line) {
            let place = path.display();
            wrong.push(format!("{place}:{}: {columns} columns", number + 1));
        }
    }
    wrong
}

#[test]
fn lines_stop_at_the_columns() {
    let texts = texts(&["rs", "md", "py", "proto"]);
    let wrong: Vec<_> = texts
        .iter()
        .flat_map(|(path, text)| too_long(path, text))
        .collect();
    none(
        &wrong,
        "Wrap them at 100; tables, code in fences and single words may be longer.",
    );
}
