//! The decision which addresses are allowed.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::cidr::Cidr;

/// The addresses of the clients that are allowed and denied.
///
/// The most specific range that contains an address decides. If the same range is allowed and denied, it is denied.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::AddressRules;
///
/// let rules = AddressRules::new().allow(["192.0.2.0/24".parse()?]).deny(["192.0.2.66".parse()?]);
/// assert!(rules.decide("192.0.2.1".parse()?).is_allowed());
/// assert!(!rules.decide("192.0.2.66".parse()?).is_allowed());
/// assert!(!rules.decide("198.51.100.1".parse()?).is_allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct AddressRules {
    ipv4: PrefixMap<Ipv4Net, Action>,
    ipv6: PrefixMap<Ipv6Net, Action>,
    has_allow_list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    /// Denies the range, which is named as configured.
    Deny(Cidr),
}

/// The decision about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressDecision {
    /// The address is allowed.
    Allowed,
    /// The address is in this range, which is denied.
    Denied(Cidr),
    /// The address is in no range of the allow list.
    Unlisted,
}

impl AddressDecision {
    /// Returns whether the address is allowed.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

impl AddressRules {
    /// Creates rules that allow all addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows the addresses in `ranges`, and denies those in no range, even if `ranges` is empty.
    pub fn allow(mut self, ranges: impl IntoIterator<Item = Cidr>) -> Self {
        self.has_allow_list = true;
        for range in ranges {
            // A denied range stays denied.
            match net(range) {
                Some(IpNet::V4(net)) => drop(self.ipv4.entry(net).or_insert(Action::Allow)),
                Some(IpNet::V6(net)) => drop(self.ipv6.entry(net).or_insert(Action::Allow)),
                None => {}
            }
        }
        self
    }

    /// Denies the addresses in `ranges`.
    pub fn deny(mut self, ranges: impl IntoIterator<Item = Cidr>) -> Self {
        for range in ranges {
            match net(range) {
                Some(IpNet::V4(net)) => drop(self.ipv4.insert(net, Action::Deny(range))),
                Some(IpNet::V6(net)) => drop(self.ipv6.insert(net, Action::Deny(range))),
                None => {}
            }
        }
        self
    }

    /// Returns the decision about an address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn decide(&self, address: IpAddr) -> AddressDecision {
        let found = match address.to_canonical() {
            IpAddr::V4(address) => self.ipv4.get_lpm(&address.into()).map(|(_, action)| *action),
            IpAddr::V6(address) => self.ipv6.get_lpm(&address.into()).map(|(_, action)| *action),
        };
        match found {
            Some(Action::Allow) => AddressDecision::Allowed,
            Some(Action::Deny(range)) => AddressDecision::Denied(range),
            None if self.has_allow_list => AddressDecision::Unlisted,
            None => AddressDecision::Allowed,
        }
    }
}

/// Converts a range to the type of the trie. It is never `None`, because the prefix length of a `Cidr` is valid.
fn net(range: Cidr) -> Option<IpNet> {
    IpNet::new(range.network(), range.prefix_len()).ok()
}

/// Formats the number of ranges, because there can be many.
impl fmt::Debug for AddressRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressRules")
            .field("ranges", &(self.ipv4.len() + self.ipv6.len()))
            .field("has_allow_list", &self.has_allow_list)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[&str]) -> Vec<Cidr> {
        list.iter().map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn most_specific_range_decides_and_deny_wins_for_equal_ranges() {
        let allow = ["10.0.0.0/8", "10.1.2.3", "192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24"];
        let deny = ["10.1.0.0/16", "192.0.2.66", "2001:db8:6::/48", "198.51.100.0/24"];
        let rules = AddressRules::new().allow(ranges(&allow)).deny(ranges(&deny));
        let reversed = AddressRules::new().deny(ranges(&deny)).allow(ranges(&allow));
        for (address, denied_by) in [
            ("10.2.0.1", None),
            ("10.1.2.3", None),
            ("::ffff:10.1.2.3", None),
            ("10.1.2.4", Some("10.1.0.0/16")),
            ("::ffff:10.1.2.4", Some("10.1.0.0/16")),
            ("192.0.2.65", None),
            ("192.0.2.66", Some("192.0.2.66/32")),
            ("198.51.100.1", Some("198.51.100.0/24")),
            ("2001:db8:5::1", None),
            ("2001:db8:6::1", Some("2001:db8:6::/48")),
            ("203.0.113.1", Some("")),
            ("::1", Some("")),
        ] {
            let expected = match denied_by {
                None => AddressDecision::Allowed,
                Some("") => AddressDecision::Unlisted,
                Some(range) => AddressDecision::Denied(range.parse().unwrap()),
            };
            assert_eq!(rules.decide(address.parse().unwrap()), expected, "{address}");
            assert_eq!(reversed.decide(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn addresses_in_no_range_are_allowed_only_without_an_allow_list() {
        let address = "192.0.2.1".parse().unwrap();
        assert!(AddressRules::new().decide(address).is_allowed());
        assert!(AddressRules::new().deny(ranges(&["10.0.0.0/8"])).decide(address).is_allowed());
        assert_eq!(AddressRules::new().allow(ranges(&["::/0"])).decide(address), AddressDecision::Unlisted);
        assert_eq!(AddressRules::new().allow([]).decide(address), AddressDecision::Unlisted);
    }

    /// A scan of all ranges, as an independent statement of the rules.
    fn scan(allow: &[Cidr], deny: &[Cidr], address: IpAddr) -> AddressDecision {
        let longest = |ranges: &[Cidr]| {
            let matching = ranges.iter().filter(|range| range.contains(address));
            matching.max_by_key(|range| range.prefix_len()).copied()
        };
        match (longest(allow), longest(deny)) {
            (Some(allowed), Some(denied)) if allowed.prefix_len() > denied.prefix_len() => AddressDecision::Allowed,
            (_, Some(denied)) => AddressDecision::Denied(denied),
            (Some(_), None) => AddressDecision::Allowed,
            (None, None) if allow.is_empty() => AddressDecision::Allowed,
            (None, None) => AddressDecision::Unlisted,
        }
    }

    /// Few distinct bits, so that ranges overlap and contain the addresses.
    fn ipv4() -> impl Strategy<Value = Ipv4Addr> {
        prop::sample::subsequence(vec![0u32, 1, 2, 9, 24, 31], 0..=6)
            .prop_map(|bits| Ipv4Addr::from_bits(bits.into_iter().map(|bit| 1 << bit).sum()))
    }

    fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
        prop::sample::subsequence(vec![0u128, 1, 47, 63, 64, 127], 0..=6)
            .prop_map(|bits| Ipv6Addr::from_bits(bits.into_iter().map(|bit| 1 << bit).sum()))
    }

    fn cidr() -> impl Strategy<Value = Cidr> {
        let v4 = (ipv4(), 0..=32u8).prop_map(|(address, bits)| format!("{address}/{bits}"));
        let v6 = (ipv6(), 0..=128u8).prop_map(|(address, bits)| format!("{address}/{bits}"));
        prop_oneof![v4, v6].prop_map(|range| range.parse().unwrap())
    }

    proptest! {
        #[test]
        fn trie_decides_as_a_scan_of_all_ranges(
            allow in prop::collection::vec(cidr(), 0..12),
            deny in prop::collection::vec(cidr(), 0..12),
            addresses in prop::collection::vec(prop_oneof![ipv4().prop_map(IpAddr::from), ipv6().prop_map(IpAddr::from)], 12),
        ) {
            let rules = AddressRules::new().deny(deny.clone());
            let rules = if allow.is_empty() { rules } else { rules.allow(allow.clone()) };
            for address in addresses {
                let (found, expected) = (rules.decide(address), scan(&allow, &deny, address));
                match (found, expected) {
                    // Several entries can be the same range.
                    (AddressDecision::Denied(one), AddressDecision::Denied(other)) => {
                        let parts = |range: Cidr| (range.network(), range.prefix_len());
                        prop_assert_eq!(parts(one), parts(other), "{}", address);
                    }
                    _ => prop_assert_eq!(found, expected, "{}", address),
                }
            }
        }
    }
}
