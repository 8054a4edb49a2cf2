//! Helpers that the tests of several crates share.

mod allocator;
mod ports;

pub use allocator::{CountingAllocator, allocations, memory_in_use};
pub use ports::free_port;
