//! What the fuzzers call: any bytes, and what must hold of them.

pub use crate::http1::fuzz::{response_body, response_head};

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn response_head_holds_near_its_seeds() {
        run(CRATE, "response_head", response_head);
    }

    #[test]
    fn response_body_holds_near_its_seeds() {
        run(CRATE, "response_body", response_body);
    }
}
