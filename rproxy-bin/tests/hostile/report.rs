//! Writes the result tables in `docs/contributing/reliability`.

use std::fmt::Write;

use crate::backends::BackendKind;
use crate::http2::Run;

/// The number of requests of one corpus with each outcome.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    /// The number of requests that the client aborted.
    pub(crate) cut: usize,
    pub(crate) passed: usize,
    /// The number of requests that were forwarded and rejected by the backend.
    pub(crate) by_backend: usize,
    /// The number of unexpected requests that the backend received, such as smuggled requests.
    pub(crate) beyond: usize,
    pub(crate) failures: Vec<String>,
}

/// Writes the result table of HTTP/1.1 requests, by corpus and backend.
pub(crate) fn requests(corpora: &[&str], tallies: &[(BackendKind, Vec<Tally>)]) {
    let mut text = String::from(
        "| Corpus | Backend | Rejected by rproxy | Aborted by the client | Understood as sent | Rejected by the backend | \
         Misunderstood |\n|---|---|--:|--:|--:|--:|--:|\n",
    );
    for (number, corpus) in corpora.iter().enumerate() {
        for (kind, tallies) in tallies {
            let Tally { refused, cut, passed, by_backend, beyond, failures } = &tallies[number];
            let otherwise = failures.len().max(*beyond);
            let name = kind.name();
            let _ = writeln!(text, "| {corpus} | {name} | {refused} | {cut} | {passed} | {by_backend} | {otherwise} |");
        }
    }
    write("smuggling-http1.md", "HTTP/1.1 request smuggling", REQUESTS, &text);
}

/// Writes a table to the directory in the environment variable `RPROXY_HOSTILE_REPORT`.
fn write(name: &str, title: &str, introduction: &str, table: &str) {
    let Some(folder) = std::env::var_os("RPROXY_HOSTILE_REPORT") else { return };
    // Tests run in the folder of their package.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let note = "<!-- Written by `RPROXY_HOSTILE_REPORT=docs/contributing/reliability cargo nextest run -p rproxy-bin --test hostile`. -->\n\n";
    std::fs::write(folder.join(name), format!("{note}# {title}\n\n{introduction}\n\n{table}")).unwrap();
}

const REQUESTS: &str = "Number of requests of each corpus by outcome. *Misunderstood* counts requests that the backend framed \
     differently from the client.";
const STREAMS: &str = "Number of streams by outcome, sent over HTTP/2 and forwarded over HTTP/1.1.";
const RESPONSES: &str = "Number of ambiguous or malformed backend responses by what the client received.";
const BROKEN: &str = "Response that the client gets if the backend fails in this way.";

/// Writes the result table of HTTP/2 requests, by backend.
pub(crate) fn http2(runs: &[(BackendKind, Run)]) {
    let mut text = String::from(
        "| Backend | Stream reset or connection closed | Rejected with a status | Understood as sent | Misunderstood |\n\
         |---|--:|--:|--:|--:|\n",
    );
    for (kind, Run { reset, refused, passed, failures }) in runs {
        let _ = writeln!(text, "| {} | {reset} | {refused} | {passed} | {} |", kind.name(), failures.len());
    }
    write("smuggling-http2.md", "HTTP/2 request smuggling", STREAMS, &text);
}

/// The response that the client gets after a malformed response of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client gets an error response from the proxy.
    Refused,
    /// The client gets the valid beginning of the response, and then the connection closes.
    Aborted,
    Passed,
}

pub(crate) fn responses(outcomes: &[Outcome]) {
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (refused, broken, passed) = (count(Outcome::Refused), count(Outcome::Aborted), count(Outcome::Passed));
    let text = format!(
        "| Responses | 502 with `Proxy-Status` | Aborted | Forwarded, unambiguous | Taken for the response to another request |\n\
         |--:|--:|--:|--:|--:|\n| {} | {refused} | {broken} | {passed} | 0 |\n",
        outcomes.len()
    );
    write("smuggling-responses.md", "Response smuggling", RESPONSES, &text);
}

/// Writes the result table of backend failures.
pub(crate) fn broken(outcomes: &[(&str, String)]) {
    let mut text = String::from("| The backend | The client gets |\n|---|---|\n");
    for (name, gets) in outcomes {
        let _ = writeln!(text, "| {name} | {gets} |");
    }
    write("broken-backends.md", "Responses to failing backends", BROKEN, &text);
}
