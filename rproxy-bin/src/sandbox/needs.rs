//! The files, folders and ports that a configuration needs.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;
use rproxy_server::ListenAddr;

use crate::config::{Config, RateLimitStorage, Reload, find, settings};
use crate::startup_log::backends;

/// A resource that a setting names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The key of the setting.
    pub(crate) key: &'static str,
    /// The setting as its source spells it.
    pub(crate) setting: String,
    pub(crate) resource: Resource,
}

/// A resource of this machine or its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A file to read, or a folder with such files.
    Read(PathBuf),
    /// A folder in which files are created.
    Write(PathBuf),
    /// A TCP port to listen on.
    Bind(u16),
    /// A TCP port to connect to.
    Connect(u16),
}

/// Formats the resource as the subject of a sentence.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) | Self::Write(path) => path.display().fmt(f),
            Self::Bind(port) | Self::Connect(port) => write!(f, "port {port}"),
        }
    }
}

impl Need {
    /// Returns whether a reload applies a changed value of the setting.
    pub(crate) fn is_live(&self) -> bool {
        find(self.key).is_some_and(|setting| setting.reload == Reload::Live)
    }
}

/// Returns the resources that the settings of the process, of all sites and of all routes name.
pub(crate) fn needs(config: &Config) -> Vec<Need> {
    let mut needs = Needs { config, all: Vec::new() };
    needs.add_process();
    let used = backends(config);
    for config in config.configurations() {
        needs.config = config;
        needs.add_site();
        for backend in config.upstream.backends.iter().filter(|backend| used.contains(backend)) {
            needs.connect("upstream", port_of(&backend.origin()));
        }
    }
    needs.all
}

struct Needs<'c> {
    /// The configuration of the process, a site or a route.
    config: &'c Config,
    all: Vec<Need>,
}

impl Needs<'_> {
    fn add_process(&mut self) {
        let config = self.config;
        if let Some(file) = config.file() {
            self.read("config", file);
        }
        let (tls, process) = (&config.tls, &config.process);
        tls.cert.iter().for_each(|file| self.read("tls_cert", file));
        tls.key.iter().for_each(|file| self.read("tls_key", file));
        tls.ocsp.iter().flatten().for_each(|file| self.read("tls_ocsp", file));
        for (key, folder) in writable_folders(config) {
            self.add(key, Resource::Write(folder.to_owned()));
        }
        // New files in these folders: a socket and the key log.
        for (key, file) in [("handover_socket", &process.handover_socket), ("tls_key_log", &tls.key_log)] {
            if let Some(folder) = file.as_deref().and_then(Path::parent) {
                self.add(key, Resource::Write(folder.to_owned()));
            }
        }
        if !tls.acme_domains().is_empty() {
            self.connect("acme_directory", tls.acme_directory.port_u16().or(Some(443)));
            let redis = tls.acme_redis.as_ref();
            self.connect("acme_redis", redis.and_then(|url| redis_port(url.expose())));
        }
        self.bind("listen", &config.listeners());
        self.bind("http_port", &config.redirect_listeners());
        self.bind("admin_listen", process.admin_listen.as_slice());
    }

    fn add_site(&mut self) {
        let config = self.config;
        for setting in settings().filter(|setting| setting.is_file()) {
            if let Some(file) = config.show(setting) {
                self.read(setting.key, Path::new(&file));
            }
        }
        let (static_files, access) = (&config.static_files, &config.access);
        static_files.root.iter().for_each(|folder| self.read("root", folder));
        static_files.sendfile_root.iter().for_each(|folder| self.read("sendfile_root", folder));
        config.error_pages.pages.iter().for_each(|pages| self.read("error_pages", Path::new(pages.text())));
        let lists =
            [("allow", &access.allow), ("deny", &access.deny), ("maintenance_allow", &config.maintenance.allow)];
        for (key, list) in lists {
            // As in `AddressList::parse`.
            let entries = list.iter().flat_map(|list| list.text().split(',')).map(str::trim);
            entries.filter(|entry| entry.starts_with(['/', '.'])).for_each(|file| self.read(key, Path::new(file)));
        }
        let forward_auth = access.forward_auth.as_ref();
        self.connect("forward_auth", forward_auth.and_then(|url| port_of(&url.backend().origin())));
        if let RateLimitStorage::Redis(url) = &config.rate_limit.store {
            self.connect("rate_limit_store", redis_port(url.expose()));
        }
    }

    fn read(&mut self, key: &'static str, path: &Path) {
        self.add(key, Resource::Read(path.to_owned()));
    }

    fn bind(&mut self, key: &'static str, listeners: &[ListenAddr]) {
        for listener in listeners {
            if let ListenAddr::Tcp(address) = listener {
                self.add(key, Resource::Bind(address.port()));
            }
        }
    }

    fn connect(&mut self, key: &'static str, port: Option<u16>) {
        if let Some(port) = port {
            self.add(key, Resource::Connect(port));
        }
    }

    fn add(&mut self, key: &'static str, resource: Resource) {
        if !self.all.iter().any(|need| need.key == key && need.resource == resource) {
            let setting = self.config.value_source(key).locate(key).to_string();
            self.all.push(Need { key, setting, resource });
        }
    }
}

/// Returns the folders in which the process stores files, with their settings.
pub(crate) fn writable_folders(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let stores_certificates = config.tls.local || !config.tls.acme_domains().is_empty();
    let certificates = stores_certificates.then_some(("tls_cache_dir", config.tls.cache_dir.as_path()));
    // Opened also if no site has a cache, because a reload can turn it on.
    let cache = config.cache.disk.as_deref().map(|folder| ("cache_disk", folder));
    certificates.into_iter().chain(cache)
}

/// Returns the port in the origin of a backend; a Unix socket has none.
pub(super) fn port_of(origin: &str) -> Option<u16> {
    let (_, authority) = origin.split_once("://")?;
    authority.rsplit_once(':')?.1.parse().ok()
}

/// Returns the port of a Redis URL; a Unix socket has none.
fn redis_port(url: &str) -> Option<u16> {
    const DEFAULT: u16 = 6379;
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.starts_with("redis") {
        return None;
    }
    // A password may contain characters that a URI must encode.
    let authority = rest.rsplit_once('@').map_or(rest, |(_, authority)| authority);
    let uri: Option<Uri> = format!("redis://{authority}").parse().ok();
    Some(uri.and_then(|uri| uri.port_u16()).unwrap_or(DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "redis")]
    fn lists_files_folders_and_ports_of_all_sites_and_routes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("office"), "192.0.2.1").unwrap();
        let users = "alice:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";
        std::fs::write(path("users"), users).unwrap();
        std::fs::create_dir(path("www")).unwrap();
        let text = "admin_listen = '127.0.0.1:9000'\nlisten = '127.0.0.1:8001'\ntls_local = true\nhttp_port = 8002\n\
            tls_cache_dir = 'F/certs'\ncache_disk = 'F/disk'\nhandover_socket = 'F/run/handover'\n\
            rate_limit_store = 'redis://:p@ss@127.0.0.1/1'\n[[site]]\nhosts = 'a.example'\n\
            upstream = '127.0.0.1:3001, unix:/run/app'\nbasic_auth = 'F/users'\n[[site.route]]\npaths = '/x'\n\
            upstream = 'https://app.example'\nallow = 'loopback, F/office'\nforward_auth = 'http://127.0.0.1:9091/a'\n\
            [[site]]\nhosts = 'b.example'\nroot = 'F/www'\n";
        let text = text.replace("'F/", &format!("'{}/", folder.path().display()));
        let text = text.replace(" F/", &format!(" {}/", folder.path().display()));
        std::fs::write(path("rproxy.toml"), text).unwrap();
        let found = needs(&Config::from_file(path("rproxy.toml")).unwrap());
        let has = |key, resource| found.iter().any(|need| need.key == key && need.resource == resource);
        for (key, resource) in [
            ("config", Resource::Read(path("rproxy.toml"))),
            ("basic_auth", Resource::Read(path("users"))),
            ("allow", Resource::Read(path("office"))),
            ("root", Resource::Read(path("www"))),
            ("tls_cache_dir", Resource::Write(path("certs"))),
            ("cache_disk", Resource::Write(path("disk"))),
            ("handover_socket", Resource::Write(path("run"))),
            ("upstream", Resource::Connect(3001)),
            ("upstream", Resource::Connect(443)),
            ("forward_auth", Resource::Connect(9091)),
            ("rate_limit_store", Resource::Connect(6379)),
            ("listen", Resource::Bind(8001)),
            ("http_port", Resource::Bind(8002)),
            ("admin_listen", Resource::Bind(9000)),
        ] {
            assert!(has(key, resource.clone()), "{key} {resource:?} in {found:?}");
        }
        // The default upstream, which no site uses.
        assert!(!has("upstream", Resource::Connect(3000)), "{found:?}");
    }
}
