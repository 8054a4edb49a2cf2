//! A request that is not rejected causes no allocation by the layer, and a rejection one for its reason.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use rproxy_problem::{ProblemLayer, Rejection};
use rproxy_test_support::{CountingAllocator, allocations};
use tower::{Layer, Service};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// An inner service that returns a prepared response.
struct Prepared(Option<Response<Full<Bytes>>>);

impl Service<Request<()>> for Prepared {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(self.0.take().unwrap()))
    }
}

/// Returns the allocations of the layer for a request of a browser.
fn allocations_for(response: Response<Full<Bytes>>) -> usize {
    let mut request = Request::new(());
    let accept = HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8");
    request.headers_mut().insert(header::ACCEPT, accept);
    let mut service = ProblemLayer::new().layer(Prepared(Some(response)));
    let mut response = None;
    let count = allocations(|| {
        let mut future = pin!(service.call(request));
        let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("the inner service is ready")
        };
        response = Some(ready);
    });
    drop(response);
    count
}

#[test]
fn forwarded_request_causes_no_allocation() {
    assert_eq!(allocations_for(Response::new(Full::from("hello"))), 0);
    let missing = Response::builder().status(404).body(Full::from("missing")).unwrap();
    assert_eq!(allocations_for(missing), 0, "an error of the application");
    // The counter works: a page is formatted.
    let rejection = Rejection::new("test", "closed", StatusCode::FORBIDDEN);
    assert!(allocations_for(rejection.into_response(Full::from("Forbidden\n"))) > 0);
}

#[test]
fn rejection_is_created_without_allocation_and_inserted_with_one() {
    let mut response = Response::new(());
    // The map of the extensions exists, as after any other layer.
    response.extensions_mut().insert(0_u8);
    let mut rejection = None;
    let create = || {
        rejection = Some(Rejection::new("test", "closed", StatusCode::FORBIDDEN).with_message("Open from 9 to 17."));
    };
    assert_eq!(allocations(create), 0);
    assert_eq!(allocations(|| drop(response.extensions_mut().insert(rejection.unwrap()))), 1);
}
