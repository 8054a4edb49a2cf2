//! Proxies from PyPI, in a virtual environment that later runs use again.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

/// The maximum duration of one installation step.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A Python virtual environment.
#[derive(Debug)]
pub(crate) struct Environment(pub(crate) PathBuf);

impl Environment {
    /// Returns the path of a package's program, and installs the package if the program is missing.
    ///
    /// `program` is relative to the environment if it starts with `bin`, else to the folder of the packages.
    pub(crate) async fn program(&self, package: &str, program: &str) -> Result<PathBuf> {
        if let Some(path) = self.installed(program) {
            return Ok(path);
        }
        if !self.0.join("bin/pip").exists() {
            run("python3", [OsStr::new("-m"), OsStr::new("venv"), self.0.as_os_str()]).await?;
        }
        eprintln!("installing {package}");
        let arguments = ["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", package];
        run(self.0.join("bin/pip"), arguments).await?;
        self.installed(program).with_context(|| format!("the package {package} has no {program}"))
    }

    fn installed(&self, program: &str) -> Option<PathBuf> {
        let path = match program.starts_with("bin/") {
            true => self.0.join(program),
            // `lib` has one folder, which is named after the version of Python.
            false => fs::read_dir(self.0.join("lib")).ok()?.next()?.ok()?.path().join("site-packages").join(program),
        };
        path.exists().then_some(path)
    }
}

async fn run<A: AsRef<OsStr>>(program: impl AsRef<Path>, arguments: impl IntoIterator<Item = A>) -> Result<()> {
    let program = program.as_ref();
    let name = program.file_name().unwrap_or_default().display();
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(TIMEOUT, output).await.with_context(|| format!("{name} timed out"))??;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{name} failed: {}", error.lines().last().unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uses_an_installed_program_without_another_installation() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment(folder.path().to_owned());
        for (program, path) in [("bin/caddy", "bin/caddy"), ("envoy/envoy", "lib/python3/site-packages/envoy/envoy")] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(environment.program("package", program).await.unwrap(), path);
        }
    }
}
