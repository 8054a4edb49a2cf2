//! The layers that sites and routes with the same settings share.

use std::collections::HashMap;
use std::sync::Arc;

use rproxy_access::AddressFilterLayer;
use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_client_cert::ClientCertificateLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::PathFilterLayer;
use rproxy_request_guard::RequestGuardLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_static_files::{SendFileLayer, StaticFilesError, StaticFilesLayer};
use rproxy_target_rules::TargetRulesLayer;
use rproxy_ws_passthrough::WsPassthroughLayer;

use crate::config::Config;

/// The layers that have been built, by the [identifiers](crate::config::Shared) of their settings.
///
/// The configuration must exist for as long as this does.
pub(super) struct Layers {
    /// The layer without settings of a site.
    base: WsPassthroughLayer,
    security_headers: HashMap<usize, SecurityHeadersLayer>,
    address_filters: HashMap<usize, Option<AddressFilterLayer>>,
    guards: HashMap<usize, RequestGuardLayer>,
    path_filters: HashMap<FilterKey, Option<PathFilterLayer>>,
    target_rules: HashMap<usize, Option<TargetRulesLayer>>,
    ws_passthrough: HashMap<(usize, u8), WsPassthroughLayer>,
    forward_headers: HashMap<(usize, usize), ForwardHeadersLayer>,
    client_certificates: HashMap<usize, ClientCertificateLayer>,
    caches: HashMap<(usize, usize, bool), CacheLayer>,
    static_files: HashMap<(usize, bool), StaticFilesLayer>,
    send_files: HashMap<usize, SendFileLayer>,
}

/// The settings that a path filter depends on: those of the filter, the prefix to strip, and those with rewrites.
type FilterKey = (usize, Option<Arc<str>>, Option<usize>);

impl Layers {
    pub(super) fn new(base: WsPassthroughLayer) -> Self {
        Self {
            base,
            security_headers: HashMap::new(),
            address_filters: HashMap::new(),
            guards: HashMap::new(),
            path_filters: HashMap::new(),
            target_rules: HashMap::new(),
            ws_passthrough: HashMap::new(),
            forward_headers: HashMap::new(),
            client_certificates: HashMap::new(),
            caches: HashMap::new(),
            static_files: HashMap::new(),
            send_files: HashMap::new(),
        }
    }

    pub(super) fn security_headers(&mut self, config: &Config) -> SecurityHeadersLayer {
        let settings = &config.security_headers;
        self.security_headers.entry(settings.id()).or_insert_with(|| settings.layer()).clone()
    }

    pub(super) fn address_filter(&mut self, config: &Config) -> Option<AddressFilterLayer> {
        let settings = &config.access;
        self.address_filters.entry(settings.id()).or_insert_with(|| settings.address_filter()).clone()
    }

    pub(super) fn guard(&mut self, config: &Config) -> RequestGuardLayer {
        let settings = &config.request_guard;
        self.guards.entry(settings.id()).or_insert_with(|| settings.layer()).clone()
    }

    pub(super) fn path_filter(&mut self, config: &Config) -> Option<PathFilterLayer> {
        let (settings, prefix) = (&config.path_filter, &config.routing.strip_prefix);
        let has_rewrites = !config.routing.rewrites.is_empty();
        let rewrites = self.target_rules(config).filter(|_| has_rewrites);
        let key = (settings.id(), prefix.clone(), has_rewrites.then(|| config.routing.id()));
        self.path_filters.entry(key).or_insert_with(|| settings.layer(prefix.as_ref(), rewrites)).clone()
    }

    pub(super) fn target_rules(&mut self, config: &Config) -> Option<TargetRulesLayer> {
        let settings = &config.routing;
        self.target_rules.entry(settings.id()).or_insert_with(|| settings.target_rules()).clone()
    }

    pub(super) fn ws_passthrough(&mut self, config: &Config) -> WsPassthroughLayer {
        let (settings, prefix) = (&config.websocket, config.rate_limit.ipv6_prefix);
        let new = || settings.apply(self.base.clone(), prefix);
        self.ws_passthrough.entry((settings.id(), prefix)).or_insert_with(new).clone()
    }

    pub(super) fn forward_headers(&mut self, config: &Config) -> ForwardHeadersLayer {
        let (settings, clients) = (&config.forward_headers, &config.client_ip);
        self.forward_headers.entry((settings.id(), clients.id())).or_insert_with(|| settings.layer(clients)).clone()
    }

    pub(super) fn client_certificate(&mut self, config: &Config) -> ClientCertificateLayer {
        let settings = &config.tls;
        self.client_certificates.entry(settings.id()).or_insert_with(|| settings.client_certificate_layer()).clone()
    }

    pub(super) fn static_files(&mut self, config: &Config) -> Result<StaticFilesLayer, StaticFilesError> {
        let (settings, files_only) = (&config.static_files, config.serves_files_only());
        let key = (settings.id(), files_only);
        if let Some(layer) = self.static_files.get(&key) {
            return Ok(layer.clone());
        }
        let layer = settings.static_files(files_only)?;
        self.static_files.insert(key, layer.clone());
        Ok(layer)
    }

    pub(super) fn send_file(&mut self, config: &Config) -> Result<SendFileLayer, StaticFilesError> {
        let settings = &config.static_files;
        if let Some(layer) = self.send_files.get(&settings.id()) {
            return Ok(layer.clone());
        }
        let layer = settings.send_file()?;
        self.send_files.insert(settings.id(), layer.clone());
        Ok(layer)
    }

    /// Returns the layer over `store`, if the cache is enabled and stores other responses than files of the root.
    pub(super) fn cache(&mut self, config: &Config, store: Option<&CacheStore>) -> Option<CacheLayer> {
        let store = store.filter(|_| config.cache.enabled && !config.serves_files_only())?;
        let has_upgrades = config.websocket.upgrades.is_some();
        let (settings, clients) = (&config.cache, &config.client_ip);
        let new = || settings.layer(store.clone(), clients.uncacheable_fields(), has_upgrades);
        Some(self.caches.entry((settings.id(), clients.id(), has_upgrades)).or_insert_with(new).clone())
    }
}
