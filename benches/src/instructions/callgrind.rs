//! Runs a program under callgrind, and reads the number of instructions.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const REQUESTS: u64 = 2000;

/// The function that callgrind counts, including its callees. The code before it varies from run to run, because hash
/// maps are seeded at random.
const COUNTED: &str = "--toggle-collect=counted::counted*";

pub(super) fn per_request(program: &Path, case: &str) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", COUNTED]).arg(program).arg(case);
    let output = command.arg(REQUESTS.to_string()).output().context("starting valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case}: {text}");
    let collected = parse(&text).with_context(|| format!("callgrind printed no count: {text}"))?;
    ensure!(collected > 0, "{case}: callgrind did not find the function to count");
    Ok(collected / REQUESTS)
}

/// Parses the count in a line such as `==812== Collected : 123456`.
fn parse(output: &str) -> Option<u64> {
    let count = output.lines().find_map(|line| line.split_once("Collected :"))?.1;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_instruction_count_of_callgrind() {
        let output = "==812== Callgrind, a call-graph generating cache profiler\n==812== \n\
                      ==812== Events    : Ir\n==812== Collected : 7135722\n==812== \n";
        assert_eq!(parse(output), Some(7_135_722));
        assert_eq!(parse("==812== Command: counted none\n"), None);
    }
}
