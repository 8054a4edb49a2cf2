//! Named IP address ranges: reserved ranges, and the published ranges of CDNs.
//!
//! To update a list, compare it with the publisher's page, which is linked at the list, and set the date below.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::cidr::Cidr;

/// A content delivery network (CDN) that publishes its IP address ranges.
///
/// A CDN serves many customers and forwards most header fields of a client unchanged. A request from a CDN's address
/// therefore proves only the fields that the CDN sets itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cdn {
    /// The Cloudflare CDN.
    Cloudflare,
    /// The Fastly CDN.
    Fastly,
    /// The Amazon CloudFront CDN.
    CloudFront,
}

impl Cdn {
    const ALL: [Self; 3] = [Self::Cloudflare, Self::Fastly, Self::CloudFront];

    /// Returns the CDN whose published address ranges contain `address`.
    pub fn from_address(address: IpAddr) -> Option<Self> {
        static RANGES: LazyLock<Vec<(Cidr, Cdn)>> = LazyLock::new(|| {
            let parsed = |cdn: Cdn| cdn.ranges().iter().filter_map(move |range| Some((range.parse().ok()?, cdn)));
            Cdn::ALL.into_iter().flat_map(parsed).collect()
        });
        RANGES.iter().find(|(range, _)| range.contains(address)).map(|(_, cdn)| *cdn)
    }

    pub(crate) fn ranges(self) -> &'static [&'static str] {
        match self {
            Self::Cloudflare => CLOUDFLARE,
            Self::Fastly => FASTLY,
            Self::CloudFront => CLOUDFRONT,
        }
    }
}

impl Cidr {
    /// Returns the ranges with a name: `private`, `loopback`, `cloudflare`, `fastly` or `cloudfront`.
    ///
    /// The ranges of the CDNs are those of [`PUBLISHED_RANGES_DATE`].
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_client_ip::Cidr;
    ///
    /// assert_eq!(Cidr::named("loopback").map(|ranges| ranges.len()), Some(2));
    /// assert_eq!(Cidr::named("office"), None);
    /// ```
    pub fn named(name: &str) -> Option<Vec<Self>> {
        let ranges = match name {
            "private" => PRIVATE,
            "loopback" => LOOPBACK,
            "cloudflare" => CLOUDFLARE,
            "fastly" => FASTLY,
            "cloudfront" => CLOUDFRONT,
            _ => return None,
        };
        // A test checks that every entry of these constants parses.
        Some(ranges.iter().filter_map(|range| range.parse().ok()).collect())
    }
}

/// The month in which the CDN address ranges were last updated, such as `2026-11`.
///
/// Addresses that a CDN started to use later are not trusted until this crate is updated or the ranges are listed
/// explicitly.
pub const PUBLISHED_RANGES_DATE: &str = "2026-11";

/// Private and link-local address ranges (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 §2.5.6).
pub(crate) const PRIVATE: &[&str] =
    &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

/// Loopback address ranges (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
pub(crate) const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1/128"];

/// The address ranges of Cloudflare, from <https://www.cloudflare.com/ips/>.
const CLOUDFLARE: &[&str] = &[
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];

/// The address ranges of Fastly, from <https://api.fastly.com/public-ip-list>.
const FASTLY: &[&str] = &[
    "23.235.32.0/20",
    "43.249.72.0/22",
    "103.244.50.0/24",
    "103.245.222.0/23",
    "103.245.224.0/24",
    "104.156.80.0/20",
    "140.248.64.0/18",
    "140.248.128.0/17",
    "146.75.0.0/17",
    "151.101.0.0/16",
    "157.52.64.0/18",
    "167.82.0.0/17",
    "167.82.128.0/20",
    "167.82.160.0/20",
    "167.82.224.0/20",
    "172.111.64.0/18",
    "185.31.16.0/22",
    "199.27.72.0/21",
    "199.232.0.0/16",
    "2a04:4e40::/32",
    "2a04:4e42::/32",
];

/// The address ranges of CloudFront, from <https://ip-ranges.amazonaws.com/ip-ranges.json>.
///
/// They are the entries of the service `CLOUDFRONT`.
const CLOUDFRONT: &[&str] = &[
    "120.52.22.96/27",
    "205.251.249.0/24",
    "180.163.57.128/26",
    "204.246.168.0/22",
    "111.13.171.128/26",
    "18.160.0.0/15",
    "205.251.252.0/23",
    "54.192.0.0/16",
    "204.246.173.0/24",
    "54.230.200.0/21",
    "120.253.240.192/26",
    "116.129.226.128/26",
    "130.176.0.0/17",
    "108.156.0.0/14",
    "99.86.0.0/16",
    "13.32.0.0/15",
    "120.253.245.128/26",
    "13.224.0.0/14",
    "70.132.0.0/18",
    "15.158.0.0/16",
    "111.13.171.192/26",
    "13.249.0.0/16",
    "18.238.0.0/15",
    "18.244.0.0/15",
    "205.251.208.0/20",
    "65.9.128.0/18",
    "130.176.128.0/18",
    "58.254.138.0/25",
    "54.230.208.0/20",
    "3.160.0.0/14",
    "116.129.226.0/25",
    "52.222.128.0/17",
    "18.164.0.0/15",
    "111.13.185.32/27",
    "64.252.128.0/18",
    "205.251.254.0/24",
    "54.230.224.0/19",
    "71.152.0.0/17",
    "216.137.32.0/19",
    "204.246.172.0/24",
    "18.172.0.0/15",
    "120.52.39.128/27",
    "118.193.97.64/26",
    "18.154.0.0/15",
    "54.240.128.0/18",
    "205.251.250.0/23",
    "180.163.57.0/25",
    "52.46.0.0/18",
    "52.82.128.0/19",
    "54.230.0.0/17",
    "54.230.128.0/18",
    "54.239.128.0/18",
    "130.176.224.0/20",
    "36.103.232.128/26",
    "52.84.0.0/15",
    "143.204.0.0/16",
    "144.220.0.0/16",
    "120.52.153.192/26",
    "119.147.182.0/25",
    "120.232.236.0/25",
    "111.13.185.64/27",
    "54.182.0.0/16",
    "58.254.138.128/26",
    "120.253.245.192/27",
    "54.239.192.0/19",
    "18.68.0.0/16",
    "18.64.0.0/14",
    "120.52.12.64/26",
    "99.84.0.0/16",
    "130.176.192.0/19",
    "52.124.128.0/17",
    "204.246.164.0/22",
    "13.35.0.0/16",
    "204.246.174.0/23",
    "36.103.232.0/25",
    "119.147.182.128/26",
    "118.193.97.128/25",
    "120.232.236.128/26",
    "204.246.176.0/20",
    "65.8.0.0/16",
    "65.9.0.0/17",
    "108.138.0.0/15",
    "120.253.241.160/27",
    "64.252.64.0/18",
    "2600:9000::/28",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cdn_of_an_address() {
        for (address, cdn) in [
            ("104.16.0.1", Some(Cdn::Cloudflare)),
            ("::ffff:104.16.0.1", Some(Cdn::Cloudflare)),
            ("2606:4700::1", Some(Cdn::Cloudflare)),
            ("151.101.1.1", Some(Cdn::Fastly)),
            ("13.32.0.1", Some(Cdn::CloudFront)),
            ("10.0.0.1", None),
            ("127.0.0.1", None),
            ("::1", None),
        ] {
            assert_eq!(Cdn::from_address(address.parse().unwrap()), cdn, "{address}");
        }
    }
}
