//! Per-client state for connections that a trusted proxy shares among its clients.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;

/// The extension type `rproxy_server::ClientConnection`: state that lives as long as a client connection.
///
/// A bare type, so that no dependency is needed to name the extension.
type ClientConnection = Arc<Mutex<Extensions>>;

/// The per-client states of one trusted-proxy connection, from the least to the most recently used.
#[derive(Clone, Debug, Default)]
struct Clients(VecDeque<(IpAddr, ClientConnection)>);

impl Clients {
    /// Returns the state of a client, and evicts the least recently used client if the table is full.
    fn state(&mut self, client: IpAddr) -> ClientConnection {
        let state = match self.0.iter().position(|(other, _)| *other == client) {
            Some(index) => self.0.remove(index).map(|(_, state)| state),
            None => None,
        };
        let state = state.unwrap_or_default();
        if self.0.len() >= MAX_CLIENTS {
            self.0.pop_front();
        }
        self.0.push_back((client, Arc::clone(&state)));
        state
    }
}

/// Replaces the connection state of a request with the per-client state of `client` on this connection.
///
/// A trusted proxy can send the requests of many clients over one connection. State such as an authenticated connection to
/// a backend belongs to one of them.
pub(crate) fn separate(extensions: &mut Extensions, client: IpAddr) {
    let Some(connection) = extensions.get::<ClientConnection>() else { return };
    let state = {
        let mut shared = connection.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get_or_insert_default::<Clients>().state(client)
    };
    extensions.insert(state);
}

/// The maximum number of clients per connection for which state is stored.
const MAX_CLIENTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(connection: &ClientConnection, client: [u8; 4]) -> ClientConnection {
        let mut extensions = Extensions::new();
        extensions.insert(ClientConnection::clone(connection));
        separate(&mut extensions, client.into());
        extensions.remove().unwrap()
    }

    #[test]
    fn each_client_behind_a_proxy_connection_has_separate_state() {
        let connection = ClientConnection::default();
        let alice = state(&connection, [192, 0, 2, 1]);
        assert!(!Arc::ptr_eq(&alice, &state(&connection, [192, 0, 2, 2])));
        assert!(Arc::ptr_eq(&alice, &state(&connection, [192, 0, 2, 1])));
        assert!(!Arc::ptr_eq(&alice, &state(&ClientConnection::default(), [192, 0, 2, 1])));
    }

    #[test]
    fn evicts_the_state_of_the_least_recently_used_client() {
        let connection = ClientConnection::default();
        let (first, second) = (state(&connection, [192, 0, 2, 1]), state(&connection, [192, 0, 2, 2]));
        (0..MAX_CLIENTS as u8 - 2).for_each(|number| drop(state(&connection, [192, 0, 3, number])));
        assert!(Arc::ptr_eq(&first, &state(&connection, [192, 0, 2, 1])));
        state(&connection, [192, 0, 4, 1]);
        assert!(Arc::ptr_eq(&first, &state(&connection, [192, 0, 2, 1])));
        assert!(!Arc::ptr_eq(&second, &state(&connection, [192, 0, 2, 2])));
    }

    #[test]
    fn inserts_no_client_connection_if_the_request_has_none() {
        let mut extensions = Extensions::new();
        separate(&mut extensions, [192, 0, 2, 1].into());
        assert!(extensions.is_empty());
    }
}
