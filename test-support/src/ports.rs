//! Ports for external programs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Returns a loopback port that is free for TCP and UDP, for a program that does not accept port 0.
///
/// The port is below the range from which the system selects ports for clients and for port 0 (32768 and above on
/// Linux), so no other socket takes it before the program starts. Tests that run at the same time, in this process or in
/// others, get different ports.
///
/// # Panics
///
/// Panics if no port of the range is free.
pub fn free_port() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // Process IDs of tests that run at the same time are close to each other, so their blocks of ports differ.
    let first = (process::id() % BLOCKS) * BLOCK;
    for _ in 0..COUNT {
        let call = u32::from(CALLS.fetch_add(1, Relaxed));
        let port = FIRST + ((first + call) % COUNT) as u16;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}

/// The first port that is returned.
const FIRST: u16 = 10_000;

/// The number of ports that can be returned.
const COUNT: u32 = 22_000;

/// The number of consecutive ports for the calls of one process.
const BLOCK: u32 = 20;

/// The number of blocks.
const BLOCKS: u32 = COUNT / BLOCK;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn free_ports_differ_and_are_outside_the_range_of_the_system() {
        let ports: Vec<_> = (0..30).map(|_| free_port()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|&port| (FIRST..32_768).contains(&port)));
    }

    #[test]
    fn port_in_use_is_not_returned() {
        // The next port, which the next call would return.
        let port = free_port() + 1;
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        assert!((0..10).all(|_| free_port() != port));
    }
}
