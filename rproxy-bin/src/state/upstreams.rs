//! The upstreams of sites and routes, with their connections and the health of their backends.

use std::collections::HashMap;
use std::sync::Arc;

use rproxy_upstream::{Backends, SystemFiles};

use super::Name;
use crate::layers::{StackError, UpstreamSettings};
use crate::setting::SettingValues;

/// The upstreams of all sites and routes. Those with equal settings are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstreams {
    by_origin: HashMap<Arc<UpstreamOrigin>, Backends>,
    by_name: HashMap<Name, (Arc<UpstreamOrigin>, Backends)>,
}

/// The settings and files that an upstream is built from.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UpstreamOrigin {
    settings: SettingValues,
    system_files: u64,
}

impl Upstreams {
    /// Adds the upstream of a site or route, and returns its backends.
    ///
    /// An upstream with equal settings and files is reused. Otherwise, the new one continues the health of the backends
    /// that the site or route had before.
    pub(super) fn add(
        &mut self,
        name: Name,
        settings: &UpstreamSettings,
        previous: &Self,
        system_files: &SystemFiles,
    ) -> Result<Backends, StackError> {
        let builder = settings.builder()?;
        let values = SettingValues::of(settings);
        let origin = UpstreamOrigin { settings: values, system_files: system_files.fingerprint(&builder) };
        let reused = self.by_origin.get_key_value(&origin).or_else(|| previous.by_origin.get_key_value(&origin));
        let (origin, backends) = match reused {
            Some((origin, backends)) => (Arc::clone(origin), backends.clone()),
            None => {
                let before = previous.by_name.get(&name).map(|(_, backends)| backends.clone());
                (Arc::new(origin), builder.previous(before).build_backends()?)
            }
        };
        self.by_origin.insert(Arc::clone(&origin), backends.clone());
        self.by_name.insert(name, (origin, backends.clone()));
        Ok(backends)
    }

    /// Adds the upstream of `other` for a site or route as well, and returns its backends.
    pub(super) fn share(&mut self, name: Name, other: &Name) -> Option<Backends> {
        let shared = self.by_name.get(other)?.clone();
        let backends = shared.1.clone();
        self.by_name.insert(name, shared);
        Some(backends)
    }

    /// Returns whether the upstream of a site or route has the same settings as before, but other content in its files.
    pub(super) fn has_changed_files(&self, name: &Name, previous: &Self) -> bool {
        let (Some((now, _)), Some((before, _))) = (self.by_name.get(name), previous.by_name.get(name)) else {
            return false;
        };
        now != before && now.settings.has_same_text(&before.settings)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use crate::config::Config;
    use crate::state::ProcessState;

    fn certificate() -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["app.internal".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }

    #[test]
    fn upstream_is_reused_until_its_settings_or_files_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, ca) = (folder.path().join("rproxy.toml"), folder.path().join("ca.pem"));
        fs::write(&ca, certificate()).unwrap();
        let state = ProcessState::without_files();
        let upstream = format!("upstream = 'https://10.0.0.1'\nupstream_ca = '{}'", ca.display());
        let site = |name: &str, more: &str| format!("[[site]]\nhosts = '{name}'\n{upstream}\n{more}\n");
        // Keeps the backends, so that no other ones have the same identifier.
        let mut stacks = Vec::new();
        // Returns the identifiers of the upstreams of the sites, and the sites with changed files.
        let mut reload = |text: String| {
            fs::write(&file, text).unwrap();
            let planned = state.plan_stack(&Config::from_file(&file).unwrap()).unwrap();
            let ids: Vec<usize> = planned.stack.backends.iter().map(|backends| backends.id()).collect();
            let changed: Vec<String> = planned.changed_files.into_iter().map(|(site, _)| site).collect();
            stacks.push(planned.stack);
            state.commit(planned.configured);
            (ids, changed)
        };
        let (first, _) = reload(site("a.example", ""));
        assert_eq!(first.len(), 2, "the stack that rejects unknown hosts, and the site");
        let (second, _) =
            reload(format!("hsts = false\n{}{}", site("b.example", ""), site("a.example", "max_body = 9")));
        assert_eq!(second, first, "sites with equal settings share an upstream");
        let (third, changed) = reload(site("a.example", "upstream_timeout = 9"));
        assert!(third[0] == first[0] && third[1] != first[1] && changed.is_empty(), "{changed:?}");
        let (fourth, _) = reload(site("a.example", ""));
        assert_ne!(fourth[1], third[1]);
        fs::write(&ca, certificate()).unwrap();
        let (fifth, changed) = reload(site("a.example", ""));
        assert!(fifth[1] != fourth[1] && changed == ["a.example"], "{changed:?}");
        let (sixth, changed) = reload(site("a.example", ""));
        assert!(sixth == fifth && changed.is_empty(), "{changed:?}");
    }
}
