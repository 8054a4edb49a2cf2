//! Literal reference implementations of the RFCs, with which property tests compare the production code.

mod freshness;
mod selection;
