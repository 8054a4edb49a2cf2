//! Settings of the rate limit.

use super::{Fallback, SWITCH, Setting, put};
use crate::config::value::{boolean, ipv6_prefix, rate};

const HEADING: &str = "Rate limit";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "rate_limit_enabled",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether clients are held to a rate; over it they get 429",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.rate_limit_enabled, boolean(t)),
        show: |c| Some(c.rate_limit_enabled.to_string()),
    },
    Setting {
        key: "rate_limit",
        heading: HEADING,
        placeholder: "NUMBER",
        default: Fallback::Value("100"),
        help: "Requests per second per client",
        accepted: "a whole number from 1 to 4294967295",
        secret: false,
        set: |c, t| put(&mut c.rate_limit, rate(t)),
        show: |c| Some(c.rate_limit.to_string()),
    },
    Setting {
        key: "rate_burst",
        heading: HEADING,
        placeholder: "NUMBER",
        default: Fallback::Value("200"),
        help: "Bucket size: requests that a client may make at once",
        accepted: "a whole number from 1 to 4294967295",
        secret: false,
        set: |c, t| put(&mut c.rate_burst, rate(t)),
        show: |c| Some(c.rate_burst.to_string()),
    },
    Setting {
        key: "rate_ipv6_prefix",
        heading: HEADING,
        placeholder: "BITS",
        default: Fallback::Value("64"),
        help: "IPv6 clients are counted per prefix of this length",
        accepted: "a whole number from 1 to 128",
        secret: false,
        set: |c, t| put(&mut c.rate_ipv6_prefix, ipv6_prefix(t)),
        show: |c| Some(c.rate_ipv6_prefix.to_string()),
    },
    Setting {
        key: "rate_exempt",
        heading: HEADING,
        placeholder: "RANGE,...",
        default: Fallback::Words("none"),
        help: "Clients that are not counted",
        accepted: "comma-separated CIDRs, addresses, private, loopback, cloudflare, fastly or cloudfront",
        secret: false,
        set: |c, t| put(&mut c.rate_exempt, t.parse()),
        show: |c| (!c.rate_exempt.is_empty()).then(|| c.rate_exempt.text().to_owned()),
    },
    Setting {
        key: "rate_shadow",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "Whether requests beyond the rate pass, and are only noted in the access log",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.rate_shadow, boolean(t)),
        show: |c| Some(c.rate_shadow.to_string()),
    },
];
