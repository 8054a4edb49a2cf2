//! Tables of what came out, for `docs/contributing/reliability`.

use std::fmt::Write;

use crate::http2::Run;
use crate::makes::Make;

/// What became of the requests of one corpus.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    /// Broken off by the client.
    pub(crate) cut: usize,
    pub(crate) passed: usize,
    /// Passed, and refused by the backend.
    pub(crate) by_backend: usize,
    /// Seen by the backend, and framed by nobody.
    pub(crate) beyond: usize,
    pub(crate) failures: Vec<String>,
}

/// The requests of HTTP/1.1, by corpus and make of backend.
pub(crate) fn requests(corpora: &[&str], tallies: &[(Make, Vec<Tally>)]) {
    let mut text = String::from(
        "| Corpus | Backend | Refused by rproxy | Broken off by the client | Understood as sent | Refused by the backend | \
         Understood otherwise |\n|---|---|--:|--:|--:|--:|--:|\n",
    );
    for (number, corpus) in corpora.iter().enumerate() {
        for (make, tallies) in tallies {
            let Tally { refused, cut, passed, by_backend, beyond, failures } = &tallies[number];
            let otherwise = failures.len().max(*beyond);
            let name = make.name();
            let _ = writeln!(text, "| {corpus} | {name} | {refused} | {cut} | {passed} | {by_backend} | {otherwise} |");
        }
    }
    write("smuggling-http1.md", &text);
}

/// Writes a table where the environment says.
pub(crate) fn write(name: &str, table: &str) {
    let Some(folder) = std::env::var_os("RPROXY_HOSTILE_REPORT") else { return };
    // Tests run in the folder of their package.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let note = "<!-- Written by `RPROXY_HOSTILE_REPORT=docs/contributing/reliability cargo nextest run -p rproxy-bin --test hostile`. -->\n\n";
    std::fs::write(folder.join(name), format!("{note}{table}")).unwrap();
}

/// The requests of HTTP/2, by make of backend.
pub(crate) fn http2(runs: &[(Make, Run)]) {
    let mut text = String::from(
        "| Backend | Stream reset or connection ended | Refused with a status | Understood as sent | Understood otherwise |\n\
         |---|--:|--:|--:|--:|\n",
    );
    for (make, Run { reset, refused, passed, failures }) in runs {
        let _ = writeln!(text, "| {} | {reset} | {refused} | {passed} | {} |", make.name(), failures.len());
    }
    write("smuggling-http2.md", &text);
}

/// What the client got of a backend's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An error of the proxy.
    Refused,
    /// What was good of it, and then the end of the connection in place of the end of the content.
    BrokenOff,
    Passed,
}

pub(crate) fn responses(outcomes: &[Outcome]) {
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (refused, broken, passed) = (count(Outcome::Refused), count(Outcome::BrokenOff), count(Outcome::Passed));
    let text = format!(
        "| Responses | 502 with `Proxy-Status` | Broken off towards the client | Passed, in one reading | Taken for another's |\n\
         |--:|--:|--:|--:|--:|\n| {} | {refused} | {broken} | {passed} | 0 |\n",
        outcomes.len()
    );
    write("smuggling-responses.md", &text);
}

/// Ways in which a backend breaks, and what the client gets.
pub(crate) fn broken(outcomes: &[(&str, String)]) {
    let mut text = String::from("| A backend that | Client gets |\n|---|---|\n");
    for (name, gets) in outcomes {
        let _ = writeln!(text, "| {name} | {gets} |");
    }
    write("broken-backends.md", &text);
}
