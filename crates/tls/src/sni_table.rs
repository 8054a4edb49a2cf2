use std::{collections::HashMap, sync::Arc};

use crate::{
    Source,
    loaded_certificate::LoadedCertificate,
    names::{lowercase, wildcard_parent},
};

/// The certificates by TLS server name (SNI).
///
/// It is read at each handshake, and rebuilt when a certificate changes.
#[derive(Debug, Default)]
pub(crate) struct SniTable {
    exact: HashMap<Box<str>, Arc<LoadedCertificate>>,
    wildcard: HashMap<Box<str>, Arc<LoadedCertificate>>,
    /// The names whose certificate is not available yet, each with its self-signed fallback, if enabled.
    ///
    /// Without a fallback, the handshake fails: that is clearer than the certificate of another name.
    pending: HashMap<Box<str>, Option<Arc<LoadedCertificate>>>,
    default: Option<Arc<LoadedCertificate>>,
}

/// A configured certificate, which may not be available yet.
pub(crate) struct Entry<'a> {
    pub(crate) source: Source,
    pub(crate) configured_names: &'a [String],
    pub(crate) current: Option<&'a Arc<LoadedCertificate>>,
    /// The self-signed certificate that is served while `current` is `None`.
    pub(crate) fallback: Option<&'a Arc<LoadedCertificate>>,
}

impl SniTable {
    /// Builds the table from entries in the order of configuration.
    ///
    /// If two certificates have the same name, files take precedence over ACME, ACME over the local CA, and within a
    /// source the first one wins.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|entry| match entry.source {
            Source::Files => 0,
            Source::Acme => 1,
            Source::Local => 2,
        });

        let mut table = Self::default();
        for entry in &entries {
            let Some(certificate) = entry.current else {
                for name in entry.configured_names {
                    table.pending.insert(name.as_str().into(), entry.fallback.cloned());
                }
                continue;
            };
            for name in &certificate.names.dns {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, &**name),
                };
                if !map.contains_key(key) {
                    map.insert(key.into(), certificate.clone());
                }
            }
        }
        // Clients without a server name mostly connect to an address. The certificate of the local CA has the loopback
        // addresses, and ACME certificates have none, so the local CA comes before ACME here.
        let first_of = |source| entries.iter().filter(move |entry| entry.source == source);
        table.default = [Source::Files, Source::Local, Source::Acme]
            .into_iter()
            .find_map(|source| first_of(source).find_map(|entry| entry.current.cloned()))
            .or_else(|| entries.iter().find_map(|entry| entry.fallback.cloned()));
        table
    }

    /// Returns whether a certificate for this lower-case name is available or pending.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.exact.contains_key(name)
            || wildcard_parent(name).is_some_and(|parent| self.wildcard.contains_key(parent))
            || self.pending.contains_key(name)
    }

    /// Returns the certificate for a server name: an exact match, else a wildcard, else the default.
    pub(crate) fn select(&self, server_name: Option<&str>) -> Option<&Arc<LoadedCertificate>> {
        let Some(name) = server_name else {
            return self.default.as_ref();
        };
        let name = lowercase(name);
        if let Some(certificate) = self.exact.get(&*name) {
            return Some(certificate);
        }
        if let Some(certificate) = wildcard_parent(&name).and_then(|parent| self.wildcard.get(parent)) {
            return Some(certificate);
        }
        match self.pending.get(&*name) {
            Some(fallback) => fallback.as_ref(),
            None => self.default.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::self_signed;

    /// Returns the names of the selected certificate, separated by spaces.
    fn selected(table: &SniTable, name: Option<&str>) -> Option<String> {
        let certificate = table.select(name)?;
        Some(certificate.names.to_strings().join(" "))
    }

    #[test]
    fn selects_exact_name_before_wildcard_before_default() {
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
    fn files_take_precedence_over_acme_and_acme_over_the_local_ca() {
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
    fn pending_name_gets_no_certificate_except_a_matching_wildcard() {
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
    fn fallback_serves_its_names_and_yields_to_other_certificates() {
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
    fn empty_table_selects_no_certificate() {
        let table = SniTable::new([]);
        assert_eq!(selected(&table, None), None);
        assert_eq!(selected(&table, Some("a.test")), None);
    }
}
