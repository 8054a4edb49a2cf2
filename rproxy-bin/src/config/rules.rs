//! Rules for combinations of settings.

use std::collections::BTreeSet;

use super::error::Problem;
use super::source::ValueSource;
use super::{Config, SandboxMode};
use crate::setting::RuleContext;

/// Adds a problem to `problems` for each rule that `config` violates.
///
/// Rules about a setting in `invalid` are skipped, since its value was reported already. For a site or route, only the
/// rules about the `keys` that it sets are checked.
pub(super) fn check(
    config: &Config,
    invalid: &BTreeSet<&str>,
    keys: Option<&BTreeSet<&str>>,
    problems: &mut Vec<Problem>,
) {
    let mut reported = Vec::new();
    let mut add =
        |config: &Config, about: &'static [&'static str], broken: &super::RuleCheck<'_>, context: &Context| {
            // Reports the setting that was set, not the default that it conflicts with.
            let set = |key: &&&str| config.value_source(key) != ValueSource::Default;
            let Some(blamed) = about.iter().find(set).or(about.first()) else { return };
            let location = config.value_source(blamed).locate(blamed);
            if let Some(reason) = context.with(&config.value_source(blamed), broken)
                && !reported.contains(&(location.to_string(), reason.clone()))
            {
                reported.push((location.to_string(), reason.clone()));
                problems.push(Problem::Conflict { location, reason });
            }
        };
    let is_valid = |about: &[&str]| !about.iter().any(|key| invalid.contains(key));
    // The listeners of the process are known when all sites are: certificates of a site change the default.
    let is_of_listeners = |about: &[&str]| about.contains(&"listen");
    let context = Context::of(config);
    config.visit_rules(&mut |about, broken| {
        let is_checked = match keys {
            Some(keys) => about.iter().any(|key| keys.contains(key)) && !is_of_listeners(about),
            None => true,
        };
        if is_checked && is_valid(about) {
            add(config, about, broken, &context);
        }
    });
    if keys.is_some() {
        return;
    }
    let routes = config.default_routes.iter().chain(config.sites.iter().flat_map(|site| &site.routes));
    let sites = config.sites.iter().map(|site| &site.config).chain(routes.map(|route| &route.config));
    for site in sites {
        site.visit_rules(&mut |about, broken| {
            let differs = |key: &&str| site.value_source(key) != config.value_source(key);
            if is_of_listeners(about) && is_valid(about) && about.iter().any(differs) {
                add(site, about, broken, &context);
            }
        });
    }
}

/// Returns warnings about settings that have no effect or an unexpected effect.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = config.deprecations.clone();
    warnings.extend(idle_settings(config));
    warnings.extend(config.default_upstream_warnings());
    if config.tls.is_enabled() && config.tls.key_log.is_some() {
        warnings.push("tls_key_log is set: anyone who can read that file can decrypt all traffic".to_owned());
    }
    if config.security_headers.is_preloadable() && config.tls.is_enabled() {
        if config.redirect_port().is_none() {
            warnings
                .push("hsts_policy: preload lists require a redirect from port 80, and http_port is off".to_owned());
        }
        if config.tls.local {
            warnings.push(
                "hsts_policy: preload lists require a certificate that browsers trust, and tls_local is on".to_owned(),
            );
        }
    }
    warnings
}

/// Returns a warning for each setting that has no effect in any site or route that has its value.
fn idle_settings(config: &Config) -> Vec<String> {
    let context = Context::of(config);
    let routes = config.default_routes.iter().chain(config.sites.iter().flat_map(|site| &site.routes));
    let sites = config.sites.iter().map(|site| &site.config);
    let mut found: Vec<(usize, &str, ValueSource, Option<String>)> = Vec::new();
    for config in std::iter::once(config).chain(sites).chain(routes.map(|route| &route.config)) {
        let mut rule = 0;
        config.visit_idle(&mut |keys, because| {
            rule += 1;
            let set = keys.iter().map(|key| (*key, config.value_source(key)));
            for (key, source) in set.filter(|(_, source)| *source != ValueSource::Default) {
                let because = context.with(&source, because);
                match found.iter_mut().find(|found| (found.0, found.1) == (rule, key) && found.2 == source) {
                    // Inherited, and used here.
                    Some(found) if because.is_none() => found.3 = None,
                    Some(_) => {}
                    None => found.push((rule, key, source, because)),
                }
            }
        });
    }
    let idle = found.into_iter().filter_map(|(_, key, source, because)| because.map(|because| (key, source, because)));
    idle.map(|(key, source, because)| format!("{} has no effect: {because}", source.locate(key))).collect()
}

/// The facts that rules need about the process.
struct Context {
    listeners: Vec<super::ListenAddr>,
    redirect_listeners: Vec<super::ListenAddr>,
    has_redirect: bool,
    has_handover_socket: bool,
    requires_sandbox: bool,
    has_tls: bool,
    overriding_redirect: Option<String>,
}

impl Context {
    fn of(config: &Config) -> Self {
        Self {
            listeners: config.listeners(),
            redirect_listeners: config.redirect_listeners(),
            has_redirect: config.redirect_port().is_some(),
            has_handover_socket: config.process.handover_socket.is_some(),
            requires_sandbox: config.sandbox.mode == SandboxMode::On,
            has_tls: config.tls.is_enabled(),
            overriding_redirect: config.overriding_redirect(),
        }
    }

    /// Checks a rule, with settings spelled as in `source`.
    fn with(&self, source: &ValueSource, broken: &super::RuleCheck<'_>) -> Option<String> {
        broken(&RuleContext {
            name: &|key| source.name(key),
            listeners: &self.listeners,
            redirect_listeners: &self.redirect_listeners,
            has_redirect: self.has_redirect,
            has_handover_socket: self.has_handover_socket,
            requires_sandbox: self.requires_sandbox,
            has_tls: self.has_tls,
            overriding_redirect: self.overriding_redirect.as_deref(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn configuration_rules_name_only_declared_settings() {
        let config = Config::default();
        let mut count = 0;
        let mut check = |about: &'static [&'static str], _: &super::super::RuleCheck<'_>| {
            count += 1;
            for key in about {
                assert!(settings().any(|setting| setting.key == *key), "{key}");
            }
        };
        config.visit_rules(&mut check);
        config.visit_idle(&mut check);
        assert!(count > 30, "{count} rules");
    }
}
