//! The settings that decide which clients may access a site or route.

use rproxy_access::{AddressFilterLayer, AddressList, AddressListError, AddressRules};

use crate::known_rejection::KnownRejection;
use crate::setting::settings;
use crate::values::parsed::Parsed;
use crate::values::value::optional;

/// The rejections of the access layers.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    KnownRejection::new("access_denied", "denied_address")
        .explained("the address of the client is in {a range} of RPROXY_DENY"),
    KnownRejection::new("access_denied", "unlisted_address")
        .explained("the address of the client is in no range of RPROXY_ALLOW"),
];

settings! {
    /// The settings that decide which clients may access a site or route.
    AccessSettings, "Access"

    "allow" => allow: Option<Parsed<AddressList>> {
        value: "RANGE,...",
        default: "none, all clients" => None,
        help: "Addresses of clients that may access the site; others get 403. The most specific range of allow and deny decides, and deny decides between equal ranges",
        accepted: ADDRESSES,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, addresses),
        show: |s| s.allow.as_ref().map(|list| list.text().to_owned()),
    }

    "deny" => deny: Option<Parsed<AddressList>> {
        value: "RANGE,...",
        default: "none" => None,
        help: "Addresses of clients that get 403",
        accepted: ADDRESSES,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, addresses),
        show: |s| s.deny.as_ref().map(|list| list.text().to_owned()),
    }
}

const ADDRESSES: &str = "comma-separated CIDRs and addresses; all, private, loopback, cloudflare, fastly or cloudfront; files with one CIDR per line, as /path or ./path";

fn addresses(text: &str) -> Result<Parsed<AddressList>, AddressListError> {
    Ok(Parsed::new(text, AddressList::parse(text)?))
}

impl AccessSettings {
    /// Returns the filter of client addresses, if addresses are allowed or denied.
    pub(crate) fn address_filter(&self) -> Option<AddressFilterLayer> {
        let mut rules = AddressRules::new();
        if let Some(allow) = &self.allow {
            rules = rules.allow(allow.value().clone());
        }
        if let Some(deny) = &self.deny {
            rules = rules.deny(deny.value().clone());
        }
        (self.allow.is_some() || self.deny.is_some()).then(|| AddressFilterLayer::new(rules))
    }

    pub(crate) fn describe_address_filter(&self) -> Option<String> {
        let part = |name: &str, list: &Option<Parsed<AddressList>>| {
            list.as_ref().map(|list| format!("{name} {}", list.text()))
        };
        let parts: Vec<String> = [part("allow", &self.allow), part("deny", &self.deny)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("AddressFilter    {}", parts.join("; ")))
    }
}
