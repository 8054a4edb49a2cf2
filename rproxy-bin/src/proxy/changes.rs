//! The changes that a reload applied, for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{Config, Reload, RouteConfig, find, settings};
use crate::state::Name;

/// The differences between two configurations that a reload has applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    added: BTreeSet<String>,
    changed: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// The changed settings of the process, which sites inherit.
    settings: BTreeSet<String>,
    /// The sites whose files have other content, for the same settings.
    files: BTreeSet<String>,
}

impl Changes {
    /// Compares two configurations. The settings in `waiting` need a restart, and `files` names the sites and routes whose
    /// files have other content.
    pub(super) fn between(before: &Config, after: &Config, waiting: &[String], files: Vec<Name>) -> Self {
        let applied = settings().filter(|setting| setting.reload == Reload::Live || setting.key == "tls_domains");
        let changed = applied.filter(|setting| before.show(setting) != after.show(setting));
        let settings = changed.map(|setting| setting.variable()).filter(|name| !waiting.contains(name)).collect();
        let mut changes = Self { settings, ..Self::default() };
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (sites(before).collect(), sites(after).collect());
        changes.removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        for (name, site) in new {
            match old.get(&name) {
                None => changes.added.insert(name),
                Some(before) if *before != site => changes.changed.insert(name),
                Some(_) => continue,
            };
        }
        changes.files = files.into_iter().map(|(site, _)| site).filter(|site| !changes.added.contains(site)).collect();
        changes
    }
}

/// A site without the settings that it inherits.
#[derive(PartialEq, Eq)]
struct Site {
    hosts: Vec<String>,
    settings: OwnSettings,
    routes: Vec<(String, OwnSettings)>,
}

/// The keys and values of the settings of a site or route that it does not inherit.
type OwnSettings = Vec<(&'static str, Option<String>)>;

/// Returns all sites with their names, including the default site.
fn sites(config: &Config) -> impl Iterator<Item = (String, Site)> {
    let default = config.has_default_site().then(|| {
        let site = Site { hosts: Vec::new(), settings: Vec::new(), routes: routes(config, &config.default_routes) };
        ("default".to_owned(), site)
    });
    let sites = config.sites.iter().map(|site| {
        let hosts = site.hosts.iter().map(ToString::to_string).collect();
        let settings = own_settings(&site.config, config);
        (site.name(), Site { hosts, settings, routes: routes(&site.config, &site.routes) })
    });
    default.into_iter().chain(sites)
}

fn routes(parent: &Config, routes: &[RouteConfig]) -> Vec<(String, OwnSettings)> {
    routes.iter().map(|route| (route.route.to_string(), own_settings(&route.config, parent))).collect()
}

fn own_settings(config: &Config, parent: &Config) -> OwnSettings {
    let settings = config.own_keys(parent).filter_map(find);
    settings.map(|setting| (setting.key, config.show(setting))).collect()
}

/// Formats the changes as the end of a sentence.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, changed, removed, settings, files } = self;
        let lists = [
            ("added sites", added),
            ("changed sites", changed),
            ("removed sites", removed),
            ("changed settings", settings),
            ("changed files of", files),
        ];
        let mut separator = ": ";
        for (title, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let shown: Vec<&str> = names.iter().take(MAX_SHOWN).map(String::as_str).collect();
            write!(f, "{separator}{title} {}", shown.join(", "))?;
            if names.len() > MAX_SHOWN {
                write!(f, " and {} more", names.len() - MAX_SHOWN)?;
            }
            separator = "; ";
        }
        match separator {
            ": " => f.write_str(", nothing has changed"),
            _ => Ok(()),
        }
    }
}

/// The maximum number of names in a list.
const MAX_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rproxy.toml");
        std::fs::write(&file, text).unwrap();
        Config::from_file(&file).unwrap()
    }

    #[test]
    fn names_the_sites_and_settings_that_a_reload_changed() {
        let site = |name: &str, more: &str| format!("[[site]]\nhosts = '{name}'\nupstream = '127.0.0.1:1'\n{more}\n");
        let sites = format!("{}{}", site("a.example", ""), site("b.example", "max_body = 5"));
        let secret = "upstream_balance_secret";
        for (before, after, expected) in [
            (sites.clone(), sites.clone(), ", nothing has changed"),
            (sites.clone(), format!("# a comment\n\n{sites}"), ", nothing has changed"),
            (sites.clone(), format!("max_body = 5\n{sites}"), ": changed settings RPROXY_MAX_BODY"),
            (sites.clone(), site("a.example", ""), ": removed sites b.example"),
            (site("a.example", ""), sites.clone(), ": added sites b.example"),
            (
                sites.clone(),
                format!("{}{}", site("a.example", "hsts = false"), site("c.example", "")),
                ": added sites c.example; changed sites a.example; removed sites b.example",
            ),
            (
                sites.clone(),
                format!("{sites}[[site.route]]\npaths = '/a'\nupstream = '127.0.0.1:2'"),
                ": changed sites b.example",
            ),
            (sites.clone(), sites.replace("'a.example'", "'a.example, d.example'"), ": changed sites a.example"),
            (
                format!("workers = 1\n{sites}"),
                format!("workers = 2\nhsts = false\n{sites}"),
                ": changed settings RPROXY_HSTS",
            ),
            (sites.clone(), String::new(), ": added sites default; removed sites a.example, b.example"),
            (String::new(), "[[route]]\npaths = '/a'\nupstream = '127.0.0.1:2'".to_owned(), ": changed sites default"),
            (
                format!("{secret} = '0123456789abcdef'\n"),
                format!("{secret} = '0123456789abcdeg'\n"),
                ": changed settings RPROXY_UPSTREAM_BALANCE_SECRET",
            ),
        ] {
            let changes = Changes::between(&load(&before), &load(&after), &[], Vec::new());
            assert_eq!(changes.to_string(), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn lists_at_most_ten_names_and_omits_settings_that_wait_for_a_restart() {
        let hosts: String = (10..22).map(|number| format!("[[site]]\nhosts = 's{number}.example'\n")).collect();
        let (before, after) = (load("upstream = '127.0.0.1:1'"), load(&format!("upstream = '127.0.0.1:1'\n{hosts}")));
        let text = Changes::between(&before, &after, &[], Vec::new()).to_string();
        assert!(text.starts_with(": added sites s10.example, ") && text.ends_with("s19.example and 2 more"), "{text}");
        let moved = load("upstream = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:9'");
        let waiting = ["RPROXY_ADMIN_LISTEN".to_owned()];
        assert_eq!(Changes::between(&before, &moved, &waiting, Vec::new()), Changes::default());
        let files = vec![("default".to_owned(), String::new()), ("default".to_owned(), "/a".to_owned())];
        let text = Changes::between(&before, &before, &[], files).to_string();
        assert_eq!(text, ": changed files of default");
    }
}
