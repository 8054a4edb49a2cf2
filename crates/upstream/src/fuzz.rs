//! The entry points of the fuzz targets. Each one accepts any bytes and panics if an invariant is violated.

pub use crate::http1::fuzz::{response_body, response_head};

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn response_heads_in_the_fuzz_corpus_satisfy_the_invariants() {
        run(CRATE, "response_head", response_head);
    }

    #[test]
    fn response_bodies_in_the_fuzz_corpus_satisfy_the_invariants() {
        run(CRATE, "response_body", response_body);
    }
}
