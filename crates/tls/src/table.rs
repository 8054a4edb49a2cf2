use std::{collections::HashMap, sync::Arc};

use crate::{
    Source,
    certified::Certified,
    names::{lowercase, wildcard_parent},
};

/// Which certificate a server name gets. Built anew whenever a certificate changes, read at each handshake.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Arc<Certified>>,
    wildcard: HashMap<Box<str>, Arc<Certified>>,
    /// Names that are on order: better a clean failure than somebody else's certificate.
    awaited: HashMap<Box<str>, Option<Arc<Certified>>>,
    default: Option<Arc<Certified>>,
}

/// A certificate that is wanted, and the one that is there, if any.
pub(crate) struct Row<'a> {
    pub(crate) source: Source,
    pub(crate) wanted: &'a [String],
    pub(crate) current: Option<&'a Arc<Certified>>,
    /// Better than none.
    pub(crate) stand_in: Option<&'a Arc<Certified>>,
}

impl Table {
    /// Rows in the order they were configured. Where two certificates hold the same name, files win over ACME, ACME
    /// over the local authority, and within a source the first one: what was brought by hand was meant.
    pub(crate) fn new<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Self {
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|row| match row.source {
            Source::Files => 0,
            Source::Acme => 1,
            Source::Local => 2,
        });

        let mut table = Self::default();
        for row in &rows {
            let Some(certified) = row.current else {
                for name in row.wanted {
                    table.awaited.insert(name.as_str().into(), row.stand_in.cloned());
                }
                continue;
            };
            for name in &certified.names.dns {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, &**name),
                };
                if !map.contains_key(key) {
                    map.insert(key.into(), certified.clone());
                }
            }
        }
        // A client that names nobody is a person at an address more often than not: the local authority's certificate
        // has the loopback addresses, an ACME one has none.
        table.default = [Source::Files, Source::Local, Source::Acme]
            .into_iter()
            .find_map(|source| rows.iter().filter(|row| row.source == source).find_map(|row| row.current.cloned()))
            .or_else(|| rows.iter().find_map(|row| row.stand_in.cloned()));
        table
    }

    /// Whether a certificate is, or will be, for this name in lower case.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.exact.contains_key(name)
            || wildcard_parent(name).is_some_and(|parent| self.wildcard.contains_key(parent))
            || self.awaited.contains_key(name)
    }

    /// Exact before wildcard before default.
    pub(crate) fn select(&self, server_name: Option<&str>) -> Option<&Arc<Certified>> {
        let Some(name) = server_name else {
            return self.default.as_ref();
        };
        let name = lowercase(name);
        if let Some(certified) = self.exact.get(&*name) {
            return Some(certified);
        }
        if let Some(certified) = wildcard_parent(&name).and_then(|parent| self.wildcard.get(parent)) {
            return Some(certified);
        }
        match self.awaited.get(&*name) {
            Some(stand_in) => stand_in.as_ref(),
            None => self.default.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::self_signed;

    fn chosen(table: &Table, name: Option<&str>) -> Option<String> {
        let certified = table.select(name)?;
        Some(certified.names.to_strings().join(" "))
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_a_wildcard_over_the_default() {
        let [first, wild, exact] =
            [&["first.example"][..], &["*.example.com"], &["a.example.com", "b.example.com"]].map(self_signed);
        let table = Table::new([&first, &wild, &exact].map(|certified| Row {
            source: Source::Files,
            wanted: &[],
            current: Some(certified),
            stand_in: None,
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
            assert_eq!(chosen(&table, name).as_deref(), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn files_win_over_acme_and_acme_over_the_local_authority() {
        let [local, acme, file] =
            [&["a.test", "b.test", "c.test"][..], &["a.test", "b.test"], &["a.test"]].map(self_signed);
        let table = Table::new([
            Row { source: Source::Local, wanted: &[], current: Some(&local), stand_in: None },
            Row { source: Source::Acme, wanted: &[], current: Some(&acme), stand_in: None },
            Row { source: Source::Files, wanted: &[], current: Some(&file), stand_in: None },
        ]);
        for (name, expected) in [("a.test", "a.test"), ("b.test", "a.test b.test"), ("c.test", "a.test b.test c.test")]
        {
            assert_eq!(chosen(&table, Some(name)).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_name_on_order_gets_no_other_certificate_but_a_wildcard_of_its_own() {
        let [other, wild] = [&["other.test"][..], &["*.example.com"]].map(self_signed);
        let wanted = ["new.test".to_owned(), "new.example.com".to_owned()];
        let table = Table::new([
            Row { source: Source::Acme, wanted: &wanted, current: None, stand_in: None },
            Row { source: Source::Files, wanted: &[], current: Some(&other), stand_in: None },
            Row { source: Source::Files, wanted: &[], current: Some(&wild), stand_in: None },
        ]);
        assert_eq!(chosen(&table, Some("NEW.test")), None);
        assert_eq!(chosen(&table, Some("new.example.com")).as_deref(), Some("*.example.com"));
        assert_eq!(chosen(&table, None).as_deref(), Some("other.test"));
    }

    #[test]
    fn a_stand_in_serves_its_names_and_gives_way_to_all_others() {
        let [stand_in, wild] = [&["new.test", "new.example.com"][..], &["*.example.com"]].map(self_signed);
        let wanted = ["new.test".to_owned(), "new.example.com".to_owned()];
        let awaited = || Row { source: Source::Acme, wanted: &wanted, current: None, stand_in: Some(&stand_in) };
        let alone = Table::new([awaited()]);
        for name in [Some("new.test"), Some("NEW.example.com"), Some("unknown.test"), None] {
            assert_eq!(chosen(&alone, name).as_deref(), Some("new.test new.example.com"), "{name:?}");
        }
        let files = Row { source: Source::Files, wanted: &[], current: Some(&wild), stand_in: None };
        let both = Table::new([awaited(), files]);
        assert_eq!(chosen(&both, Some("new.test")).as_deref(), Some("new.test new.example.com"));
        assert_eq!(chosen(&both, Some("new.example.com")).as_deref(), Some("*.example.com"));
        assert_eq!(chosen(&both, None).as_deref(), Some("*.example.com"));
    }

    #[test]
    fn an_empty_table_has_nothing_to_serve() {
        let table = Table::new([]);
        assert_eq!(chosen(&table, None), None);
        assert_eq!(chosen(&table, Some("a.test")), None);
    }
}
