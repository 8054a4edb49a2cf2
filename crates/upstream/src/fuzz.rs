//! The functions that the fuzz targets call. Each one accepts any bytes and panics if an invariant is violated.

pub use crate::http1::fuzz::{response_body, response_head};

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn parses_response_heads_of_the_corpus() {
        run(CRATE, "response_head", response_head);
    }

    #[test]
    fn decodes_response_bodies_of_the_corpus() {
        run(CRATE, "response_body", response_body);
    }
}
