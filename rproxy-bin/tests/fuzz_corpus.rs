//! The fuzz target of the whole stack, run with its corpus and mutations of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::field_reassign_with_default)]

#[path = "../fuzz/fuzz_targets/stack/harness.rs"]
mod harness;

#[test]
fn stack_handles_mutated_corpus() {
    rproxy_seeds::run_rounds(env!("CARGO_MANIFEST_DIR"), "stack", 100, harness::stack);
}
