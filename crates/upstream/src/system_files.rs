//! The files of the system that affect an upstream.

use std::cell::OnceCell;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::backend::{Backend, Protocol};
use crate::builder::Builder;

/// The files of the system that upstreams read when they are built: name servers, host names, root certificates.
///
/// Each file is read at most once.
///
/// # Examples
///
/// ```
/// use rproxy_upstream::{SystemFiles, Upstream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = Upstream::builder().backend("https://app.internal")?;
/// let before = SystemFiles::default().fingerprint(&builder);
/// // Later: whether to build the same upstream again.
/// let has_changed = SystemFiles::default().fingerprint(&builder) != before;
/// # let _ = has_changed;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct SystemFiles {
    names: OnceCell<u64>,
    roots: OnceCell<u64>,
}

impl SystemFiles {
    /// Returns a hash of the files that `builder` would read, which changes with their content.
    #[must_use]
    pub fn fingerprint(&self, builder: &Builder) -> u64 {
        let reads_names = builder.name_servers.is_empty() && builder.backends.iter().any(Backend::has_name);
        let is_tls = builder.backends.iter().any(|backend| backend.protocol == Protocol::Https);
        let reads_roots = is_tls && builder.tls.roots.is_empty() && builder.tls.pins.is_empty();
        let names = reads_names.then(|| *self.names.get_or_init(|| hash(["/etc/resolv.conf", "/etc/hosts"].map(read))));
        let roots = reads_roots.then(|| {
            let certificates = || rustls_native_certs::load_native_certs().certs;
            *self.roots.get_or_init(|| hash(certificates().iter().map(AsRef::<[u8]>::as_ref).collect::<Vec<_>>()))
        });
        hash((names, roots))
    }
}

fn read(path: &str) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    #[test]
    fn fingerprint_includes_only_the_files_that_an_upstream_reads() {
        let fingerprint = |backend: &str, names: u64, roots: u64| {
            let files = SystemFiles { names: OnceCell::from(names), roots: OnceCell::from(roots) };
            let pinned = backend.starts_with("pinned ");
            let builder = Upstream::builder().backend(backend.trim_start_matches("pinned ")).unwrap();
            let pin = "sha256/RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=".parse().unwrap();
            files.fingerprint(&if pinned { builder.public_key_pins([pin]) } else { builder })
        };
        for (backend, reads_names, reads_roots) in [
            ("10.0.0.1:3000", false, false),
            ("http://app", true, false),
            ("https://10.0.0.1", false, true),
            ("https://app", true, true),
            ("pinned https://app", true, false),
        ] {
            let first = fingerprint(backend, 1, 1);
            assert_eq!(fingerprint(backend, 1, 1), first);
            assert_eq!(fingerprint(backend, 2, 1) != first, reads_names, "{backend}");
            assert_eq!(fingerprint(backend, 1, 2) != first, reads_roots, "{backend}");
        }
    }
}
