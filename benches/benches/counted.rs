//! What `rproxy-benches instructions` runs under callgrind: one case, so many requests. Without arguments, the names
//! of the cases.
//!
//! As many requests are made beforehand, and none is dropped unasked, so that two runs which ask for different numbers
//! of them differ by the calls alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may panic")]

mod cases;

use std::env;
use std::hint::black_box;
use std::process::exit;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tower::Service;

/// How many requests are made, and the most that can be asked for.
const PREPARED: usize = 4000;

/// The case, and the number of its requests.
struct Counted(Option<(String, usize)>);

impl cases::Measure for Counted {
    fn measure<S: Service<Request<Empty<Bytes>>>>(&mut self, name: &str, mut service: S) {
        match &self.0 {
            None => println!("{name}"),
            Some((case, _)) if case != name => {}
            Some((_, count)) => {
                let prepared: Vec<_> = (0..PREPARED).map(|_| cases::request()).collect();
                let mut prepared = prepared.into_iter();
                for request in prepared.by_ref().take(*count) {
                    black_box(cases::ask(&mut service, request));
                }
                exit(0);
            }
        }
    }
}

fn main() {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().map(|case| (case, arguments.next().unwrap().parse().unwrap()));
    cases::all(&mut Counted(case));
}
