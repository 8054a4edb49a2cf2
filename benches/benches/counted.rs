//! The program that `rproxy-benches instructions` runs under callgrind: `counted CASE REQUESTS`.
//!
//! callgrind counts the instructions of [`counted`]. Without arguments the program lists the cases.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may panic")]

mod cases;

use std::env;
use std::hint::black_box;
use std::process::exit;
use std::vec;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tower::Service;

type Requests = vec::IntoIter<Request<Empty<Bytes>>>;

/// The selected benchmark case, and the number of requests to run.
struct Counted(Option<(String, usize)>);

impl cases::Measure for Counted {
    fn measure<S: Service<Request<Empty<Bytes>>>>(&mut self, name: &str, mut service: S) {
        match &self.0 {
            None => println!("{name}"),
            Some((case, _)) if case != name => {}
            Some((_, count)) => {
                let requests = |count| (0..count).map(|_| cases::request()).collect::<Vec<_>>().into_iter();
                // Allocations of the first requests are not counted.
                for request in requests(100) {
                    black_box(cases::call(&mut service, request));
                }
                counted(&mut service, requests(*count));
                exit(0);
            }
        }
    }
}

/// Runs the benchmark case in a function that callgrind identifies by name.
#[inline(never)]
fn counted<S: Service<Request<Empty<Bytes>>>>(service: &mut S, requests: Requests) {
    for request in requests {
        black_box(cases::call(service, request));
    }
}

fn main() {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().map(|case| (case, arguments.next().unwrap().parse().unwrap()));
    cases::all(&mut Counted(case));
}
