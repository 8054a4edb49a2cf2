//! Slow models of what the RFCs say, word by word, for the quick code to agree with.

mod freshness;
mod selection;
