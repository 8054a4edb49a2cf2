//! What `rproxy-benches instructions` runs under callgrind, which counts within [`counted`]: one case, so many
//! requests. Without arguments, the names of the cases.
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

/// The case, and the number of its requests.
struct Counted(Option<(String, usize)>);

impl cases::Measure for Counted {
    fn measure<S: Service<Request<Empty<Bytes>>>>(&mut self, name: &str, mut service: S) {
        match &self.0 {
            None => println!("{name}"),
            Some((case, _)) if case != name => {}
            Some((_, count)) => {
                let requests = |count| (0..count).map(|_| cases::request()).collect::<Vec<_>>().into_iter();
                // What is allocated once and for all is not counted.
                for request in requests(100) {
                    black_box(cases::ask(&mut service, request));
                }
                counted(&mut service, requests(*count));
                exit(0);
            }
        }
    }
}

/// Callgrind finds it by its name.
#[inline(never)]
fn counted<S: Service<Request<Empty<Bytes>>>>(service: &mut S, requests: Requests) {
    for request in requests {
        black_box(cases::ask(service, request));
    }
}

fn main() {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().map(|case| (case, arguments.next().unwrap().parse().unwrap()));
    cases::all(&mut Counted(case));
}
