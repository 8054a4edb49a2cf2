//! Futures and responses are handed from layer to layer by value: what is large is copied a dozen times per request.

use http::Request;
use rproxy_server::RequestBody;
use tower::Service;

/// The sizes of the future and of the response.
fn sizes<S: Service<Request<RequestBody>>>(_: &S) -> (usize, usize) {
    (size_of::<S::Future>(), size_of::<S::Response>())
}

#[test]
fn what_layers_hand_on_is_small() {
    let stack = rproxy::stack(&rproxy::Config::default()).unwrap();
    let (future, response) = sizes(&stack.service());
    assert!(future <= 768, "the future takes {future} bytes");
    assert!(response <= 320, "the response takes {response} bytes");
}
