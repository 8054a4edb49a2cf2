//! Result tables for `docs/contributing/reliability`.

use std::fmt::Write;

use crate::backends::BackendKind;
use crate::http2::Run;

/// The outcomes of the requests of one corpus.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    /// Aborted by the client.
    pub(crate) cut: usize,
    pub(crate) passed: usize,
    /// Forwarded, and rejected by the backend.
    pub(crate) by_backend: usize,
    /// Received by the backend, and not framed by the client.
    pub(crate) beyond: usize,
    pub(crate) failures: Vec<String>,
}

/// Writes the table of the HTTP/1.1 requests, by corpus and backend.
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

/// Writes a table into the folder that the environment names.
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

/// Writes the table of the HTTP/2 requests, by backend.
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

/// The outcome of a backend's response for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An error response of the proxy.
    Refused,
    /// The valid beginning, then the end of the connection in place of the end of the content.
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

/// Writes the table of backend failures and their outcomes for the client.
pub(crate) fn broken(outcomes: &[(&str, String)]) {
    let mut text = String::from("| The backend | The client gets |\n|---|---|\n");
    for (name, gets) in outcomes {
        let _ = writeln!(text, "| {name} | {gets} |");
    }
    write("broken-backends.md", "Broken backends", BROKEN, &text);
}
