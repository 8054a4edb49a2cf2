//! The entry points of the fuzz targets. Each one accepts any bytes and panics if an invariant is violated.

pub use crate::http1::fuzz::{response_body, response_head};

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn response_head_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "response_head", response_head);
    }

    #[test]
    fn response_body_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "response_body", response_body);
    }
}
