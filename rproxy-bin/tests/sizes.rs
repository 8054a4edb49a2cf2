//! Tests the sizes of futures and responses, which are moved from layer to layer a dozen times per request.

use http::Request;
use rproxy_server::RequestBody;
use tower::Service;

/// Returns the sizes of the future and of the response of a service.
fn sizes<S: Service<Request<RequestBody>>>(_: &S) -> (usize, usize) {
    (size_of::<S::Future>(), size_of::<S::Response>())
}

#[test]
fn stack_future_and_response_stay_below_their_maximum_sizes() {
    let stack = rproxy::stack(&rproxy::Config::default()).unwrap();
    let (future, response) = sizes(&stack.service());
    assert!(future <= 768, "the future takes {future} bytes");
    assert!(response <= 320, "the response takes {response} bytes");
}
