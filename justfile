# `just` alone lists the recipes. Everything here also works as the plain command it shows.

default:
    @just --list

# A whole cluster in one process, shown working.
demo:
    ./demo

# All tests, installing what they need.
test:
    ./test

# Formatting and lints, as CI wants them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# PUT and GET at four sizes: rates, latencies, server CPU, bytes on disk.
bench *ARGS:
    cargo build --release --bin megalith
    tests/venv python tests/bench/s3_bench.py {{ARGS}}
