//! The upstreams of sites and routes, with their connections and the health of their backends.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rproxy_upstream::{Backend, Backends, BuildError, RemovedBackends, SystemFiles};

use super::Name;
use crate::layers::{StackError, UpstreamSettings};
use crate::setting::SettingValues;
use crate::switch::SwitchableUpstream;
use crate::values::value::joined;

/// The upstreams of all sites and routes. Those with equal settings are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstreams {
    by_origin: HashMap<Arc<UpstreamOrigin>, Backends>,
    by_name: HashMap<Name, NamedUpstream>,
}

/// The upstream of a site or route.
#[derive(Clone, Debug)]
struct NamedUpstream {
    origin: Arc<UpstreamOrigin>,
    backends: Backends,
    /// Whether the site or route forwards requests.
    is_used: bool,
}

/// The settings and files that an upstream is built from.
#[derive(Debug)]
struct UpstreamOrigin {
    settings: SettingValues,
    system_files: u64,
    /// Whether the backends are other ones than those of the settings.
    is_switched: AtomicBool,
}

impl PartialEq for UpstreamOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.system_files == other.system_files
    }
}

impl Eq for UpstreamOrigin {}

impl Hash for UpstreamOrigin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.settings, self.system_files).hash(state);
    }
}

impl UpstreamOrigin {
    /// Returns the value of the setting `upstream`.
    fn setting(&self) -> Option<&str> {
        self.settings.text::<UpstreamSettings>("upstream")
    }
}

impl Upstreams {
    /// Adds the upstream of a site or route, and returns its backends.
    ///
    /// An upstream with equal settings and files is reused. Otherwise, the new one continues the health of the backends
    /// that the site or route had before. Backends that were switched stay as long as the setting `upstream` is the same.
    pub(super) fn add(
        &mut self,
        name: Name,
        settings: &UpstreamSettings,
        previous: &Self,
        system_files: &SystemFiles,
    ) -> Result<Backends, StackError> {
        let builder = settings.builder()?;
        let values = SettingValues::of(settings);
        let system_files = system_files.fingerprint(&builder);
        let origin = UpstreamOrigin { settings: values, system_files, is_switched: AtomicBool::new(false) };
        let reused = self.by_origin.get_key_value(&origin).or_else(|| previous.by_origin.get_key_value(&origin));
        let (origin, backends) = match reused {
            Some((origin, backends)) => (Arc::clone(origin), backends.clone()),
            None => {
                let before = previous.by_name.get(&name);
                let is_switched = |before: &&NamedUpstream| {
                    before.origin.is_switched.load(Relaxed) && before.origin.setting() == origin.setting()
                };
                let builder = match before.filter(is_switched) {
                    Some(before) => {
                        origin.is_switched.store(true, Relaxed);
                        let current: Vec<Backend> =
                            before.backends.status().into_iter().map(|status| status.backend).collect();
                        settings.builder_for(&current)?
                    }
                    None => builder,
                };
                let before = before.map(|before| before.backends.clone());
                (Arc::new(origin), builder.previous(before).build_backends()?)
            }
        };
        self.by_origin.insert(Arc::clone(&origin), backends.clone());
        self.by_name.insert(name, NamedUpstream { origin, backends: backends.clone(), is_used: false });
        Ok(backends)
    }

    /// Adds the upstream of `other` for a site or route as well, and returns its backends.
    pub(super) fn share(&mut self, name: Name, other: &Name) -> Option<Backends> {
        let shared = NamedUpstream { is_used: false, ..self.by_name.get(other)?.clone() };
        let backends = shared.backends.clone();
        self.by_name.insert(name, shared);
        Some(backends)
    }

    /// Records that a site or route forwards requests to its upstream.
    pub(super) fn set_used(&mut self, name: &Name) {
        if let Some(upstream) = self.by_name.get_mut(name) {
            upstream.is_used = true;
        }
    }

    /// Returns the upstreams to which sites and routes forward requests, in the order of their names.
    pub(super) fn switchable(&self) -> Vec<SwitchableUpstream> {
        let mut used: Vec<_> = self.by_name.iter().filter(|(_, upstream)| upstream.is_used).collect();
        used.sort_by_key(|(name, _)| *name);
        let mut index_by_id = HashMap::new();
        let mut upstreams: Vec<SwitchableUpstream> = Vec::new();
        for (name, upstream) in used {
            let index = *index_by_id.entry(upstream.backends.id()).or_insert(upstreams.len());
            match upstreams.get_mut(index) {
                Some(known) => known.names.push(name.clone()),
                None => upstreams.push(SwitchableUpstream {
                    names: vec![name.clone()],
                    backends: upstream.backends.clone(),
                    switched_from: upstream.switched_from(),
                }),
            }
        }
        upstreams
    }

    /// Replaces the backends of the upstream with this identifier. Returns `None` if no site or route has it any more.
    pub(super) fn replace_backends(
        &self,
        id: usize,
        backends: &[Backend],
    ) -> Option<Result<RemovedBackends, BuildError>> {
        let upstream = self.by_name.values().find(|upstream| upstream.backends.id() == id)?;
        let removed = upstream.backends.replace(backends.iter().cloned());
        if removed.is_ok() {
            let is_setting = joined(backends).as_deref() == upstream.origin.setting();
            upstream.origin.is_switched.store(!is_setting, Relaxed);
        }
        Some(removed)
    }

    /// Logs for each switched upstream of `previous` whether it stays.
    pub(super) fn log_switched(&self, previous: &Self) {
        for upstream in previous.switchable().iter().filter(|upstream| upstream.switched_from.is_some()) {
            let Some(name) = upstream.names.iter().find(|name| self.by_name.contains_key(*name)) else { continue };
            let now = &self.by_name[name];
            let backends = now.backends.status().iter().map(|status| status.backend.to_string()).collect::<Vec<_>>();
            let (site, backends) = (&name.0, backends.join(", "));
            match now.switched_from() {
                Some(_) => tracing::info!(site, "keeping the switched upstream {backends}"),
                None => tracing::info!(site, "the setting replaces the switched upstream: {backends}"),
            }
        }
    }

    /// Returns whether the upstream of a site or route has the same settings as before, but other content in its files.
    pub(super) fn has_changed_files(&self, name: &Name, previous: &Self) -> bool {
        let (Some(now), Some(before)) = (self.by_name.get(name), previous.by_name.get(name)) else {
            return false;
        };
        now.origin != before.origin && now.origin.settings.has_same_text(&before.origin.settings)
    }
}

impl NamedUpstream {
    /// Returns the value of the setting `upstream`, if the backends were switched.
    fn switched_from(&self) -> Option<String> {
        self.origin.setting().filter(|_| self.origin.is_switched.load(Relaxed)).map(str::to_owned)
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
