//! Request coalescing: one fetch from the origin serves all concurrent requests for the same response.
//!
//! The first request is the leader and goes to the origin. The others are its followers.

pub(crate) mod follower;
pub(crate) mod in_flight;
pub(crate) mod leader;
pub(crate) mod shared_body;
pub(crate) mod shared_fetch;
pub(crate) mod transfer;
