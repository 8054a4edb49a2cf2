use std::{collections::HashMap, sync::Arc};

use rustls::SignatureScheme;

use crate::{
    Source,
    loaded_certificate::LoadedCertificate,
    names::{Host, lowercase, wildcard_parent},
};

/// A table of certificates by TLS server name (SNI).
///
/// It is read at each handshake, and rebuilt when a certificate changes.
#[derive(Debug, Default)]
pub(crate) struct SniTable {
    exact: HashMap<Box<str>, Candidates>,
    wildcard: HashMap<Box<str>, Candidates>,
    /// The names whose certificate is not available yet, with their fallback certificates, if enabled.
    ///
    /// Without a fallback, the handshake fails: that is clearer than the certificate of another name.
    pending: HashMap<Box<str>, Candidates>,
    default: Candidates,
}

/// The certificates for one name, each with a different key type, in order of preference.
type Candidates = Vec<Arc<LoadedCertificate>>;

/// A configured certificate, which may not be available yet.
pub(crate) struct Entry<'a> {
    pub(crate) source: Source,
    pub(crate) configured_names: &'a [String],
    pub(crate) current: Option<&'a Arc<LoadedCertificate>>,
    /// A certificate that is served for its names while `current` is `None`.
    pub(crate) fallback: Option<&'a Arc<LoadedCertificate>>,
}

impl SniTable {
    /// Builds the table from certificates in the order of configuration.
    ///
    /// If two certificates have the same name, files take precedence over ACME, and ACME over the local CA. Within a
    /// source, elliptic-curve keys take precedence over RSA, and earlier certificates over later ones. A certificate
    /// that is not the first with its name and key type is not selected for this name.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(Entry::precedence);
        let mut table = Self { default: default_candidates(&entries), ..Self::default() };
        entries.sort_by_key(|entry| (entry.precedence(), entry.current.is_some_and(|it| !it.key_type.is_preferred())));
        for entry in &entries {
            let Some(certificate) = entry.current else {
                for name in entry.configured_names {
                    let host = Host::Dns(name.into());
                    let fallback = entry.fallback.filter(|fallback| fallback.names.covers(&host));
                    table.pending.insert(name.as_str().into(), fallback.cloned().into_iter().collect());
                }
                continue;
            };
            for name in &certificate.names.dns {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, &**name),
                };
                push_new_key_type(map.entry(key.into()).or_default(), certificate);
            }
        }
        table
    }

    /// Returns whether a certificate for this lower-case name is configured, available or not.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.exact.contains_key(name)
            || wildcard_parent(name).is_some_and(|parent| self.wildcard.contains_key(parent))
            || self.pending.contains_key(name)
    }

    /// Returns the certificate for a server name: the first candidate that can sign with one of `schemes`.
    ///
    /// If none can, the first one is returned, and the handshake fails with the alert for that (RFC 8446 §4.4.2.2).
    pub(crate) fn select(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<LoadedCertificate>> {
        let mut candidates = self.candidates(server_name);
        candidates.find(|candidate| candidate.supports(schemes)).or_else(|| self.candidates(server_name).next())
    }

    /// Returns the certificates for a server name: first for the exact name, then for wildcards, else the default.
    fn candidates(&self, server_name: Option<&str>) -> impl Iterator<Item = &Arc<LoadedCertificate>> {
        let (first, wildcard) = self.matches(server_name);
        first.iter().chain(wildcard)
    }

    /// Returns only the best matches for a server name: the exact name, else a wildcard, else the default.
    pub(crate) fn best_match(&self, server_name: Option<&str>) -> &[Arc<LoadedCertificate>] {
        self.matches(server_name).0
    }

    /// Returns the best matches for a server name, and for an exact match also the wildcard matches.
    fn matches(&self, server_name: Option<&str>) -> (&[Arc<LoadedCertificate>], &[Arc<LoadedCertificate>]) {
        let Some(name) = server_name.map(lowercase) else {
            return (&self.default, &[]);
        };
        let wildcard = wildcard_parent(&name).and_then(|parent| self.wildcard.get(parent));
        match (self.exact.get(&*name), wildcard) {
            (Some(exact), Some(wildcard)) => (exact, wildcard),
            (Some(only), None) | (None, Some(only)) => (only, &[]),
            (None, None) => (self.pending.get(&*name).unwrap_or(&self.default), &[]),
        }
    }
}

impl Entry<'_> {
    fn precedence(&self) -> u8 {
        match self.source {
            Source::Files => 0,
            Source::Acme => 1,
            Source::Local => 2,
        }
    }
}

/// Returns the certificates for clients that send no server name or an unknown server name.
///
/// These are the first certificate, and those of the same source that have its names and another key type.
fn default_candidates(entries: &[Entry<'_>]) -> Candidates {
    // Clients without a server name mostly connect to an address. The certificate of the local CA has the loopback
    // addresses, and ACME certificates have none, so the local CA comes before ACME here.
    let current = |source| entries.iter().filter(move |entry| entry.source == source).filter_map(|entry| entry.current);
    let sources = [Source::Files, Source::Local, Source::Acme];
    let Some((source, first)) = sources.into_iter().find_map(|source| Some((source, current(source).next()?))) else {
        return entries.iter().find_map(|entry| entry.fallback.cloned()).into_iter().collect();
    };
    // A certificate that lacks some of the names is better than a failed handshake, but comes last.
    let missing = |it: &LoadedCertificate| first.names.iter().filter(|name| !it.names.contains(name)).count();
    let total = first.names.iter().count();
    let mut related: Vec<_> = current(source).filter(|it| missing(it) < total || it.names == first.names).collect();
    related.sort_by_key(|it| (missing(it) != 0, !it.key_type.is_preferred()));
    let mut candidates = Candidates::new();
    related.into_iter().for_each(|certificate| push_new_key_type(&mut candidates, certificate));
    candidates
}

fn push_new_key_type(candidates: &mut Candidates, certificate: &Arc<LoadedCertificate>) {
    if candidates.iter().all(|candidate| candidate.key_type != certificate.key_type) {
        candidates.push(certificate.clone());
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;
    use crate::{
        KeyType,
        testing::{self_signed, self_signed_with},
    };

    /// Returns the names of the certificate selected for a server name, separated by spaces.
    fn selected(table: &SniTable, name: Option<&str>) -> Option<String> {
        let certificate = table.select(name, &[])?;
        Some(certificate.names.to_strings().join(" "))
    }

    #[test]
    fn selects_certificate_by_exact_name_before_wildcard_before_default() {
        let [first, wild, exact] =
            [&["first.example"][..], &["*.example.com"], &["a.example.com", "b.example.com"]].map(self_signed);
        let table = SniTable::new([&first, &wild, &exact].map(|certificate| Entry {
            source: Source::Files,
            configured_names: &[],
            current: Some(certificate),
            fallback: None,
        }));
        for (name, expected) in [
            (Some("a.example.com"), "a.example.com b.example.com"),
            (Some("B.Example.com"), "a.example.com b.example.com"),
            (Some("c.example.com"), "*.example.com"),
            (Some("x.c.example.com"), "first.example"),
            (Some("example.com"), "first.example"),
            (Some("first.example"), "first.example"),
            (Some("unknown.test"), "first.example"),
            (None, "first.example"),
        ] {
            assert_eq!(selected(&table, name).as_deref(), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn files_take_precedence_over_acme_and_acme_over_the_local_ca_for_the_same_name() {
        let [local, acme, file] =
            [&["a.test", "b.test", "c.test"][..], &["a.test", "b.test"], &["a.test"]].map(self_signed);
        let table = SniTable::new([
            Entry { source: Source::Local, configured_names: &[], current: Some(&local), fallback: None },
            Entry { source: Source::Acme, configured_names: &[], current: Some(&acme), fallback: None },
            Entry { source: Source::Files, configured_names: &[], current: Some(&file), fallback: None },
        ]);
        for (name, expected) in [("a.test", "a.test"), ("b.test", "a.test b.test"), ("c.test", "a.test b.test c.test")]
        {
            assert_eq!(selected(&table, Some(name)).as_deref(), Some(expected));
        }
    }

    #[test]
    fn name_without_available_certificate_gets_only_a_matching_wildcard_certificate() {
        let [other, wild] = [&["other.test"][..], &["*.example.com"]].map(self_signed);
        let names = ["new.test".to_owned(), "new.example.com".to_owned()];
        let table = SniTable::new([
            Entry { source: Source::Acme, configured_names: &names, current: None, fallback: None },
            Entry { source: Source::Files, configured_names: &[], current: Some(&other), fallback: None },
            Entry { source: Source::Files, configured_names: &[], current: Some(&wild), fallback: None },
        ]);
        assert_eq!(selected(&table, Some("NEW.test")), None);
        assert_eq!(selected(&table, Some("new.example.com")).as_deref(), Some("*.example.com"));
        assert_eq!(selected(&table, None).as_deref(), Some("other.test"));
    }

    #[test]
    fn fallback_certificate_serves_its_names_unless_another_certificate_matches() {
        let [fallback, wild] = [&["new.test", "new.example.com"][..], &["*.example.com"]].map(self_signed);
        let names = ["new.test".to_owned(), "new.example.com".to_owned()];
        let pending =
            || Entry { source: Source::Acme, configured_names: &names, current: None, fallback: Some(&fallback) };
        let alone = SniTable::new([pending()]);
        for name in [Some("new.test"), Some("NEW.example.com"), Some("unknown.test"), None] {
            assert_eq!(selected(&alone, name).as_deref(), Some("new.test new.example.com"), "{name:?}");
        }
        let files = Entry { source: Source::Files, configured_names: &[], current: Some(&wild), fallback: None };
        let both = SniTable::new([pending(), files]);
        assert_eq!(selected(&both, Some("new.test")).as_deref(), Some("new.test new.example.com"));
        assert_eq!(selected(&both, Some("new.example.com")).as_deref(), Some("*.example.com"));
        assert_eq!(selected(&both, None).as_deref(), Some("*.example.com"));
    }

    #[test]
    fn prefers_ecdsa_over_rsa_only_within_one_certificate_source() {
        let [rsa, ecdsa, other] = [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384]
            .map(|algorithm| self_signed_with(&["a.test"], algorithm));
        let entry =
            |source, certificate| Entry { source, configured_names: &[], current: Some(certificate), fallback: None };
        let types = |table: &SniTable| table.candidates(Some("a.test")).map(|it| it.key_type).collect::<Vec<_>>();
        let files = [&rsa, &other, &ecdsa].map(|certificate| entry(Source::Files, certificate));
        assert_eq!(types(&SniTable::new(files)), [KeyType::EcdsaP384, KeyType::EcdsaP256, KeyType::Rsa]);
        let mixed = [entry(Source::Acme, &ecdsa), entry(Source::Files, &rsa)];
        assert_eq!(types(&SniTable::new(mixed)), [KeyType::Rsa, KeyType::EcdsaP256]);
    }

    #[test]
    fn default_certificates_are_the_first_and_those_that_share_a_name_with_it() {
        let [first, partial, complete, unrelated] = [
            (&["a.test", "b.test"][..], &PKCS_RSA_SHA256),
            (&["b.test"], &PKCS_ECDSA_P256_SHA256),
            (&["a.test", "b.test", "c.test"], &PKCS_ECDSA_P384_SHA384),
            (&["d.test"], &PKCS_ED25519),
        ]
        .map(|(names, algorithm)| self_signed_with(names, algorithm));
        let table = SniTable::new([&first, &partial, &complete, &unrelated].map(|certificate| Entry {
            source: Source::Files,
            configured_names: &[],
            current: Some(certificate),
            fallback: None,
        }));
        let types: Vec<_> = table.candidates(None).map(|candidate| candidate.key_type).collect();
        assert_eq!(types, [KeyType::EcdsaP384, KeyType::Rsa, KeyType::EcdsaP256]);
    }

    #[test]
    fn empty_sni_table_selects_no_certificate() {
        let table = SniTable::new([]);
        assert_eq!(selected(&table, None), None);
        assert_eq!(selected(&table, Some("a.test")), None);
    }
}
