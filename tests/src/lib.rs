//! Tests that no single crate can hold. The rules of the tree are in `tests/tidy`; the tests of the
//! running product are in Python, beside this crate.
