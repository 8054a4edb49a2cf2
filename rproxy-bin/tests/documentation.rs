//! Tests that the documentation agrees with the code. `UPDATE=1` regenerates the tables of settings.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use rproxy::config::{self, ConfigError, Problem, Setting, Sources, settings};

const START: &str = "<!-- settings -->\n";
const END: &str = "<!-- /settings -->";

#[test]
fn reference_page_lists_all_settings() {
    assert_generated("docs/reference/configuration.md", |_| config::reference());
}

#[test]
fn readme_table_matches_the_settings() {
    assert_generated("README.md", |table| {
        let row = |line: &str| {
            let variable = line.split('`').nth(1).filter(|_| line.starts_with("| `RPROXY_"));
            let setting = variable.map(|name| find(name).unwrap_or_else(|| panic!("{name} is not a setting")));
            setting.map_or_else(|| line.to_owned(), config::summary)
        };
        table.lines().map(|line| row(line) + "\n").collect()
    });
}

/// Asserts that the generated part of a documentation page equals the result of `wanted`.
fn assert_generated(page: &str, wanted: impl Fn(&str) -> String) {
    // The package of this crate does not contain the pages.
    let Some(root) = root() else { return };
    let path = root.join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(START).unwrap();
    let (present, after) = rest.split_once(END).unwrap();
    let wanted = wanted(present);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{before}{START}{wanted}{END}{after}")).unwrap();
        return;
    }
    let (present, wanted): (Vec<&str>, Vec<&str>) = (present.lines().collect(), wanted.lines().collect());
    let removed = present.iter().filter(|line| !wanted.contains(line)).map(|line| format!("- {line}"));
    let added = wanted.iter().filter(|line| !present.contains(line)).map(|line| format!("+ {line}"));
    let difference: Vec<String> = removed.chain(added).collect();
    assert!(
        present == wanted,
        "{page} is out of date; UPDATE=1 cargo test -p rproxy-bin --test documentation updates it\n{}",
        difference.join("\n"),
    );
}

#[test]
fn documentation_mentions_only_existing_settings() {
    for (page, text) in pages() {
        for (at, _) in text.match_indices("RPROXY_") {
            let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let name: String = text[at..].chars().take_while(|c| is_part(*c)).collect();
            // `RPROXY_*` stands for all settings.
            assert!(name == "RPROXY_" || find(&name).is_some(), "{}: {name} is not a setting", page.display());
        }
    }
}

#[test]
fn configuration_files_in_the_documentation_are_valid() {
    let mut files = 0;
    for (page, text) in pages() {
        for block in text.split("```toml\n").skip(1) {
            let file = block.split("```").next().unwrap();
            if file.lines().any(|line| line.starts_with("[dependencies") || line.starts_with("[package")) {
                // A Cargo manifest.
                continue;
            }
            files += 1;
            accept(file, &page);
        }
    }
    assert!(files >= 40, "{files} files");
}

#[test]
fn packaged_configuration_file_is_valid_with_and_without_comments() {
    let Some(root) = root() else { return };
    let page = root.join("deploy/rproxy.toml");
    let file = fs::read_to_string(&page).unwrap();
    accept(&file, &page);
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => setting.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = file.lines().map(uncommented).collect();
    assert!(all.iter().filter(|line| line.contains(" = ")).count() >= 6);
    accept(&all.join("\n"), &page);
}

#[test]
fn setting_values_in_the_documentation_are_valid() {
    let mut lines = 0;
    for (page, text) in pages() {
        // Inline code only; the test above covers blocks.
        let spans =
            text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2));
        for span in spans.filter(|span| span.split_once(" = ").is_some_and(|(key, _)| is_key(key))) {
            lines += 1;
            match load(span) {
                // A single setting may need another one.
                Err(error) if !error.problems().iter().all(|problem| matches!(problem, Problem::Conflict { .. })) => {
                    panic!("{}: {error}", page.display());
                }
                _ => {}
            }
        }
    }
    assert!(lines >= 20, "{lines} lines");
}

#[test]
fn links_in_the_documentation_have_existing_targets() {
    let mut links = 0;
    let others = ["deploy/README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"];
    let others = others.map(|page| root().map(|root| root.join(page)));
    let others = others.into_iter().flatten().map(|page| (page.clone(), fs::read_to_string(page).unwrap()));
    for (page, text) in pages().into_iter().chain(others) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if !anchor.is_empty() && !link.contains("://") {
                let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
                let target = fs::read_to_string(target).unwrap_or_else(|_| panic!("{}: {link}", page.display()));
                let is_there = target.lines().any(|line| heading_anchor(line).is_some_and(|heading| heading == anchor));
                assert!(is_there, "{}: no heading for {link}", page.display());
            }
            // Long-running tests write the files in `docs/contributing/reliability/`.
            if path.is_empty() || link.contains("://") || path.starts_with("reliability/") {
                continue;
            }
            links += 1;
            assert!(page.parent().unwrap().join(path).exists(), "{}: {link}", page.display());
        }
    }
    assert!(links >= 40, "{links} links");
}

/// Returns the anchor that GitHub gives to a heading.
fn heading_anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.to_lowercase().replace(' ', "-");
    Some(kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect())
}

/// Checks the package name in install commands, since `rproxy` in the public registry is another project.
#[test]
fn install_commands_name_the_package_rproxy_bin() {
    let Some(root) = root() else { return };
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let readmes = crates.chain([root.join("rproxy-bin"), root.join("deploy")]).map(|folder| folder.join("README.md"));
    let files = readmes.chain([root.join("CHANGELOG.md"), root.join("SECURITY.md")]).filter(|path| path.exists());
    let files = files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).chain(pages());
    let mut correct = 0;
    for (page, text) in files {
        for command in ["cargo install", "cargo add", "cargo binstall"] {
            for (at, _) in text.match_indices(command) {
                let line = text[at..].lines().next().unwrap();
                let names_it = |name: &str| line.split([' ', '`']).any(|word| word.split('@').next() == Some(name));
                assert!(!names_it("rproxy"), "{}: {line}", page.display());
                correct += usize::from(names_it("rproxy-bin"));
            }
        }
    }
    assert!(correct >= 1, "no page shows how to install the binary");
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Loads a configuration file and builds everything that it configures, as `--check` does.
fn accept(file: &str, page: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let with_files = create_files(file, directory.path());
    if let Err(error) = load_in(directory.path(), &with_files) {
        panic!("{}: {error}\n{file}", page.display());
    }
    if let Err(error) = load_in(directory.path(), &with_files).unwrap().try_build() {
        panic!("{}: {error}\n{file}", page.display());
    }
}

fn load(text: &str) -> Result<config::Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    load_in(directory.path(), text)
}

fn load_in(directory: &Path, text: &str) -> Result<config::Config, ConfigError> {
    let path = directory.join("rproxy.toml");
    fs::write(&path, text).unwrap();
    let loaded = Sources::new().file(path).load();
    let warnings = loaded.as_ref().map(config::Config::warnings).unwrap_or_default();
    let deprecated: Vec<&String> = warnings.iter().filter(|warning| warning.contains("deprecated")).collect();
    assert!(deprecated.is_empty(), "{deprecated:?}\n{text}");
    loaded
}

/// Returns the configuration with a temporary directory in place of `/etc/rproxy/` and of the folders below `/srv/`.
///
/// Creates the files that the pages name: certificates, private keys, users, address lists and error pages.
fn create_files(file: &str, directory: &Path) -> String {
    const TLS: &str = "/etc/rproxy/tls/";
    let pair = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    for (at, _) in file.match_indices(TLS) {
        let name: String = file[at + TLS.len()..].chars().take_while(|c| !matches!(c, '"' | ',' | ' ')).collect();
        let content = if name.ends_with(".key") { pair.signing_key.serialize_pem() } else { pair.cert.pem() };
        fs::write(directory.join(name), content).unwrap();
    }
    fs::create_dir_all(directory.join("pages")).unwrap();
    for (name, content) in [
        ("index.html", ""),
        ("office.txt", "198.51.100.0/24\n"),
        ("pages/404.html", "not found"),
        ("users", "alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n"),
    ] {
        fs::write(directory.join(name), content).unwrap();
    }
    let replaced = format!("{}/", directory.display());
    let file = [TLS, "/etc/rproxy/"].iter().fold(file.to_owned(), |file, place| file.replace(place, &replaced));
    // The folders of static files.
    ["/srv/www", "/srv/private"].iter().fold(file, |file, place| file.replace(place, directory.to_str().unwrap()))
}

fn find(variable: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.variable() == variable)
}

/// Returns the text of the README and of all pages in `docs/`.
fn pages() -> Vec<(PathBuf, String)> {
    let Some(root) = root() else { return Vec::new() };
    let folders = ["docs", "docs/guide", "docs/reference", "docs/contributing"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension() == Some(OsStr::new("md"))).chain([root.join("README.md")]);
    pages.map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect()
}

fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("docs").is_dir().then(|| root.to_owned())
}
