//! The whole stack near the seeds of its fuzz target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::field_reassign_with_default)]

#[path = "../fuzz/fuzz_targets/stack/harness.rs"]
mod harness;

#[test]
fn the_stack_holds_near_its_seeds() {
    rproxy_seeds::run_rounds(env!("CARGO_MANIFEST_DIR"), "stack", 100, harness::stack);
}
