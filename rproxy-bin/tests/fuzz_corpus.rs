//! Runs the fuzz target of the whole stack on its corpus and on mutations of the corpus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::field_reassign_with_default)]

#[path = "../fuzz/fuzz_targets/stack/harness.rs"]
mod harness;

#[test]
fn whole_stack_preserves_invariants_for_mutated_seeds() {
    rproxy_seeds::run_rounds(env!("CARGO_MANIFEST_DIR"), "stack", 100, harness::stack);
}
