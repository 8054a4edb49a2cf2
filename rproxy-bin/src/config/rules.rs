//! Rules for combinations of settings.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use rproxy_security_headers::{ContentSecurityPolicy, Hsts};
use rproxy_upstream::Protocol;

use super::error::Problem;
use super::requirements;
use super::source::ValueSource;
use super::{ClientAuthentication, Config, ListenAddr, ProxyProtocol, RateLimitStorage};
use crate::values::listen::collide;
use crate::values::upstream::is_reached_by;

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
    // The listeners of the process are known when all sites are: certificates of a site change the default.
    let is_of_sites = |rule: &Rule, keys: &BTreeSet<&str>| {
        rule.about.iter().any(|key| keys.contains(key)) && !rule.about.contains(&"listen")
    };
    let is_about = |rule: &&Rule| keys.is_none_or(|keys| is_of_sites(rule, keys));
    for rule in RULES.iter().filter(is_about) {
        if rule.about.iter().any(|key| invalid.contains(key)) {
            continue;
        }
        // Reports the setting that was set, not the default that it conflicts with.
        let set = |key: &&&str| config.value_source(key) != ValueSource::Default;
        let Some(blamed) = rule.about.iter().find(set).or(rule.about.first()) else { continue };
        let source = config.value_source(blamed);
        if let Some(reason) = (rule.broken)(config, &source) {
            problems.push(Problem::Conflict { location: source.locate(blamed), reason });
        }
    }
    if keys.is_none() && !invalid.contains("listen") {
        check_loops_of_sites(config, problems);
    }
}

/// Adds a problem for each site or route whose backend is a listener of this process.
fn check_loops_of_sites(config: &Config, problems: &mut Vec<Problem>) {
    let listeners = config.listeners();
    let mut checked = vec![config.value_source("upstream")];
    for site in config.configurations() {
        let source = site.value_source("upstream");
        if checked.contains(&source) {
            continue;
        }
        if let Some(reason) = loops(site, &listeners) {
            problems.push(Problem::Conflict { location: source.locate("upstream"), reason });
        }
        checked.push(source);
    }
}

fn loops(config: &Config, listeners: &[ListenAddr]) -> Option<String> {
    let is_listener = |backend: &&_| listeners.iter().any(|listener| is_reached_by(backend, listener));
    let own = config.upstream.backends.iter().find(is_listener)?;
    Some(format!("{own} is a listener of this proxy: requests would loop"))
}

struct Rule {
    /// The keys of the settings that the rule concerns; an error names the first setting that is not a default.
    about: &'static [&'static str],
    /// Returns the reason that the rule is violated, or `None`; settings are spelled as in the reported source.
    broken: fn(&Config, &ValueSource) -> Option<String>,
}

const RULES: &[Rule] = &[
    Rule {
        about: &["tls_cert", "tls_key"],
        broken: |c, source| match (c.tls.cert.len(), c.tls.key.len()) {
            (certificates, keys) if certificates == keys => None,
            (_, 0) => Some(format!("requires {}, the private key of the certificate", source.name("tls_key"))),
            (0, _) => Some(format!("requires {}, the certificate of the private key", source.name("tls_cert"))),
            (certificates, keys) => Some(format!(
                "each certificate requires a private key, in the same order, but {} has {certificates} entries and {} has {keys}",
                source.name("tls_cert"),
                source.name("tls_key"),
            )),
        },
    },
    Rule { about: &["tls_cert"], broken: |c, _| c.tls.cert.iter().find_map(|file| unreadable(Some(file))) },
    Rule { about: &["tls_key"], broken: |c, _| c.tls.key.iter().find_map(|file| unreadable(Some(file))) },
    Rule {
        about: &["tls_ocsp", "tls_cert"],
        broken: |c, source| {
            let (responses, certificates) = (c.tls.ocsp.len(), c.tls.cert.len());
            let is_uneven = responses != 0 && responses != certificates;
            is_uneven.then(|| {
                format!(
                    "each certificate requires an OCSP response or -, in the same order, but {} has {certificates} entries and {} has {responses}",
                    source.name("tls_cert"),
                    source.name("tls_ocsp"),
                )
            })
        },
    },
    Rule {
        about: &["upstream_cert", "upstream_key"],
        broken: |c, source| match (&c.upstream.cert, &c.upstream.key) {
            (Some(_), None) => {
                Some(format!("requires {}, the private key of the certificate", source.name("upstream_key")))
            }
            (None, Some(_)) => {
                Some(format!("requires {}, the certificate of the private key", source.name("upstream_cert")))
            }
            _ => None,
        },
    },
    Rule { about: &["upstream_ca"], broken: |c, _| unreadable(c.upstream.ca.as_ref()) },
    Rule { about: &["upstream_cert"], broken: |c, _| unreadable(c.upstream.cert.as_ref()) },
    Rule { about: &["upstream_key"], broken: |c, _| unreadable(c.upstream.key.as_ref()) },
    Rule { about: &["tls_client_ca"], broken: |c, _| unreadable(c.tls.client_ca.as_ref()) },
    Rule {
        about: &["tls_client_auth", "tls_client_ca"],
        broken: |c, source| match (c.tls.client_auth, &c.tls.client_ca) {
            (ClientAuthentication::Off, Some(_)) => {
                Some(format!("requires {} to be optional or required", source.name("tls_client_auth")))
            }
            (ClientAuthentication::Optional | ClientAuthentication::Required, None) => Some(format!(
                "requires {}, the certificate authorities for client certificates",
                source.name("tls_client_ca")
            )),
            _ => None,
        },
    },
    Rule {
        about: &["tls_client_auth", "tls_cert", "tls_domains", "tls_local"],
        broken: |c, _| {
            let plain = c.tls.client_auth != ClientAuthentication::Off && !c.tls.is_enabled();
            plain.then(|| "client certificates require TLS, which is off".to_owned())
        },
    },
    Rule {
        about: &["tls_client_subject", "tls_client_fingerprint", "tls_client_auth"],
        broken: |c, source| {
            let is_told = c.tls.client_subject.is_some() || c.tls.client_fingerprint.is_some();
            let nobody = is_told && c.tls.client_auth == ClientAuthentication::Off;
            nobody.then(|| format!("requires {} to be optional or required", source.name("tls_client_auth")))
        },
    },
    Rule {
        about: &["acme_redis"],
        broken: |c, _| {
            let can_not = c.tls.acme_redis.is_some() && !cfg!(feature = "redis");
            can_not.then(|| "this rproxy was built without the feature redis".to_owned())
        },
    },
    Rule {
        about: &["rate_limit_store"],
        broken: |c, _| {
            let is_missing = c.rate_limit.store != RateLimitStorage::Memory && !cfg!(feature = "redis");
            is_missing.then(|| "this rproxy was built without the feature redis".to_owned())
        },
    },
    Rule {
        about: &["tls_ciphers", "tls_min_version"],
        broken: |c, _| {
            let suites = c.tls.ciphers.as_ref()?;
            let none = !suites.supports(c.tls.min_version);
            none.then(|| format!("none of the cipher suites {suites} is valid for TLS {} or newer", c.tls.min_version))
        },
    },
    Rule { about: &["acme_ca"], broken: |c, _| unreadable(c.tls.acme_ca.as_ref()) },
    Rule {
        about: &["acme_eab_kid", "acme_eab_hmac_key"],
        broken: |c, source| match (&c.tls.acme_eab_kid, &c.tls.acme_eab_hmac_key) {
            (Some(_), None) => Some(format!("requires {}", source.name("acme_eab_hmac_key"))),
            (None, Some(_)) => Some(format!("requires {}", source.name("acme_eab_kid"))),
            _ => None,
        },
    },
    Rule {
        about: &["tls_domains", "tls_local"],
        broken: |c, source| {
            let wildcard = c.tls.acme_domains().iter().find(|domain| domain.is_wildcard())?;
            Some(format!(
                "cannot order a certificate for {wildcard}: the TLS-ALPN-01 challenge validates single hosts, and \
                 wildcards need DNS-01; list each host, or provide the certificate with {} and {}",
                source.name("tls_cert"),
                source.name("tls_key"),
            ))
        },
    },
    Rule {
        about: &["proxy_protocol", "trusted_proxies"],
        broken: |c, source| {
            let nobody = c.client_ip.proxy_protocol != ProxyProtocol::Off && c.client_ip.trusted_proxies.is_empty();
            nobody.then(|| {
                let trusted = source.name("trusted_proxies");
                format!("requires {trusted}: the PROXY protocol header is accepted from trusted proxies only, and there are none")
            })
        },
    },
    Rule {
        about: &["listen"],
        broken: |c, _| {
            let all = c.listeners();
            let (first, second) = pairs(&all).find(|(one, other)| collide(one, other))?;
            Some(match first == second {
                true => format!("{first} is listed twice"),
                false => format!("{first} and {second} overlap"),
            })
        },
    },
    Rule {
        about: &["http_port", "listen"],
        broken: |c, source| {
            let (redirect, listeners) = (c.redirect_listeners(), c.listeners());
            let taken = listeners.iter().find(|main| redirect.iter().any(|plain| collide(main, plain)))?;
            Some(format!(
                "port {} is used by both {taken} of {} and the redirect to HTTPS; \
                 set {}=0 to disable the redirect",
                c.redirect_port()?,
                source.name("listen"),
                source.name("http_port"),
            ))
        },
    },
    Rule {
        about: &["admin_listen", "listen", "http_port"],
        broken: |c, _| {
            let admin = c.process.admin_listen.as_ref()?;
            let public = c.listeners().into_iter().chain(c.redirect_listeners());
            let taken = public.into_iter().find(|public| collide(admin, public))?;
            Some(format!("{admin} overlaps with the public listener {taken}"))
        },
    },
    Rule { about: &["upstream", "listen"], broken: |c, _| loops(c, &c.listeners()) },
    Rule {
        about: &["rate_ipv6_tiers", "rate_ipv6_prefix"],
        broken: |c, source| {
            let tier = c.rate_limit.ipv6_tiers.iter().find(|tier| tier.prefix >= c.rate_limit.ipv6_prefix)?;
            Some(format!(
                "an IPv6 tier of /{} must be larger than the network of one client, which is a /{} by {}",
                tier.prefix,
                source.name("rate_ipv6_prefix"),
                c.rate_limit.ipv6_prefix,
            ))
        },
    },
    Rule {
        about: &["cache_size", "cache_enabled"],
        broken: |c, source| {
            let nothing = c.cache.enabled && c.cache.size == 0;
            nothing.then(|| {
                format!(
                    "a cache of size 0 stores nothing; set {}=false to disable the cache",
                    source.name("cache_enabled")
                )
            })
        },
    },
];

fn unreadable(path: Option<&PathBuf>) -> Option<String> {
    let path = path?;
    let error = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => "is a directory".to_owned(),
        Ok(_) => return None,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            format!("cannot be read: {error}; to fix it: {}", requirements::fix_for_file(path))
        }
        Err(error) => format!("cannot be read: {error}"),
    };
    Some(format!("{} {error}", path.display()))
}

fn pairs<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter().enumerate().flat_map(|(index, one)| all[index + 1..].iter().map(move |other| (one, other)))
}

/// Returns warnings about settings that have no effect or an unexpected effect.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let idle = |key: &str, because: &str| {
        let source = config.value_source(key);
        (source != ValueSource::Default).then(|| format!("{} has no effect: {because}", source.locate(key)))
    };
    let mut warnings = config.deprecations.clone();
    if config.tls.acme_domains().is_empty() {
        let because = match config.tls.local {
            true => "certificates are issued by the local authority",
            false => "no ACME certificate is ordered",
        };
        let acme = [
            "tls_email",
            "acme_directory",
            "acme_ca",
            "acme_eab_kid",
            "acme_eab_hmac_key",
            "acme_one_certificate",
            "acme_redis",
            "acme_self_signed_fallback",
        ];
        warnings.extend(acme.into_iter().filter_map(|key| idle(key, because)));
    }
    if !config.upstream.backends.iter().any(|backend| backend.protocol() == Protocol::Https) {
        let tls = ["upstream_ca", "upstream_pin", "upstream_server_name", "upstream_cert", "upstream_key"];
        warnings.extend(tls.into_iter().filter_map(|key| idle(key, "no backend uses https")));
    }
    if config.upstream.backends.len() == 1 {
        let among_others = ["upstream_balance", "upstream_balance_secret", "upstream_retries"];
        warnings.extend(among_others.into_iter().filter_map(|key| idle(key, "there is only one backend")));
    }
    if config.upstream.health_path.is_none() {
        warnings.extend(idle("upstream_health_interval", "upstream_health_path is not set"));
    }
    if config.cache.disk.is_none() || !config.cache.enabled {
        warnings.extend(idle("cache_disk_size", "cache_disk is not set"));
    }
    if config.rate_limit.store == RateLimitStorage::Memory {
        let of_stores = ["rate_limit_fallback", "rate_limit_store_timeout"];
        warnings.extend(of_stores.into_iter().filter_map(|key| idle(key, "quotas are stored in memory")));
    }
    if config.cache.enabled && config.cache.max_object > config.cache.size {
        warnings.extend(idle("cache_max_object", "the maximum is larger than cache_size"));
    }
    if !config.tls.is_enabled() {
        let tls = ["tls_min_version", "tls_ciphers", "tls_key_log", "max_handshakes"];
        warnings.extend(tls.into_iter().filter_map(|key| idle(key, "TLS is off")));
    }
    if config.tls.is_enabled() && config.tls.key_log.is_some() {
        warnings.push("tls_key_log is set: anyone who can read that file can decrypt all traffic".to_owned());
    }
    if config.redirect_port().is_none() {
        warnings.extend(idle("https_port", "no listener redirects to HTTPS"));
    }
    if config.security_headers.hsts && !config.tls.is_enabled() {
        warnings.extend(idle("hsts", "Strict-Transport-Security is sent over TLS only, and TLS is off"));
    }
    if !config.security_headers.hsts || !config.tls.is_enabled() {
        warnings.extend(idle("hsts_policy", "Strict-Transport-Security is sent over TLS only, and only if hsts is on"));
    } else if config.security_headers.hsts_policy.is_some_and(Hsts::is_preloadable) {
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
    let policies = [
        &config.security_headers.content_security_policy,
        &config.security_headers.content_security_policy_report_only,
    ];
    if !policies.into_iter().flatten().any(|policy| ContentSecurityPolicy::from(policy.as_str()).has_nonce()) {
        warnings.extend(idle("csp_nonce_header", "no policy contains 'nonce-{nonce}'"));
    }
    if config.process.admin_listen.is_none() {
        warnings.extend(idle("admin_hosts", "admin_listen is off"));
    }
    if config.client_ip.trusted_proxies.is_empty() {
        warnings.extend(idle("trusted_fields", "no proxy is trusted"));
    }
    if !config.forward_headers.forwarded {
        warnings.extend(idle("forwarded_by", "forwarded is off"));
    }
    warnings
}
