#!/bin/sh
# Runs each fuzz target for FUZZ_SECONDS (20) on the stable toolchain, or only those named as arguments.
# Inputs found are kept in fuzz/corpus; a crash leaves its input in fuzz/crashes and fails the script.
set -eu
cd "$(dirname "$0")"
seconds="${FUZZ_SECONDS:-20}"
target="$(rustc -vV | sed -n 's/^host: //p')"
# What cargo-fuzz passes, without a sanitizer: those need a nightly compiler.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
flags="$flags --cfg fuzzing -Ccodegen-units=1 -Cforce-frame-pointers"
RUSTFLAGS="$flags" cargo build --quiet --release --target "$target"
[ $# -gt 0 ] || set -- command reply data session report policy
for name in "$@"; do
    echo "fuzzing $name for $seconds s"
    mkdir -p "corpus/$name" crashes
    "target/$target/release/$name" "corpus/$name" "seeds/$name" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 \
        -max_len=4096 -artifact_prefix="crashes/$name-" -print_final_stats=1 -verbosity=0 2>"crashes/$name.log" ||
        { tail -40 "crashes/$name.log"; exit 1; }
    grep -E '^stat::number_of_executed_units' "crashes/$name.log"
done
