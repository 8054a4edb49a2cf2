//! Reference models: slow, literal implementations of the RFCs, which property tests compare with the real code.

mod freshness;
mod selection;
