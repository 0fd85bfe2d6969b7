//! Checks the Python tests: none is skipped silently, and none waits for a fixed time.

use crate::none;
use crate::tree::texts;

/// The only file that may sleep: it waits for a state, with a deadline.
const MAY_SLEEP: &str = "tests/harness/process.py";

#[test]
fn a_skipped_test_says_why() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&["py"]) {
        for (number, line) in text.lines().enumerate() {
            let marked = line.trim_start().starts_with("@pytest.mark.skip");
            let silent = line.contains("pytest.skip()") || (marked && !line.contains("reason="));
            if silent || line.contains("pytest.mark.xfail") {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    none(
        &wrong,
        "Give the reason on the same line; a wrong result is asserted and explained, not expected \
         to fail.",
    );
}

#[test]
fn tests_wait_for_a_state_and_not_for_a_time() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&["py"]) {
        for (number, line) in text.lines().enumerate() {
            if line.contains("sleep(") && path.to_string_lossy() != MAY_SLEEP {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    none(
        &wrong,
        "Use `wait_until` of the harness: it waits for a state, with a deadline.",
    );
}
