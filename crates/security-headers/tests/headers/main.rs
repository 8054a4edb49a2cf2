//! Tests of the layer with responses of an inner service.
#![allow(clippy::unwrap_used)]

mod embedding;
mod hsts;
mod in_axum;
mod nonces;
mod owasp;
mod precedence;
mod profiles;
