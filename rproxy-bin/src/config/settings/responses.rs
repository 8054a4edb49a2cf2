//! Settings of what responses get on their way out.

use super::{Fallback, SWITCH, Setting, put};
use crate::config::choice::policy;
use crate::config::value::boolean;

const HEADING: &str = "Responses";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "compression",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether responses are compressed: brotli, gzip, zstd",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.compression, boolean(t)),
        show: |c| Some(c.compression.to_string()),
    },
    Setting {
        key: "hsts",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Strict-Transport-Security, sent on TLS responses only",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.hsts, boolean(t)),
        show: |c| Some(c.hsts.to_string()),
    },
    Setting {
        key: "security_headers",
        heading: HEADING,
        placeholder: "PROFILE",
        default: Fallback::Value("recommended"),
        help: "The security headers that responses get where the application says nothing of them",
        accepted: "recommended, strict, api or minimal",
        secret: false,
        set: |c, t| put(&mut c.security_headers, t.parse()),
        show: |c| Some(c.security_headers.to_string()),
    },
    Setting {
        key: "content_security_policy",
        heading: HEADING,
        placeholder: "POLICY",
        default: Fallback::Words("that of the profile"),
        help: "The Content-Security-Policy of documents that have none of their own",
        accepted: "a policy such as default-src 'self'",
        secret: false,
        set: |c, t| put(&mut c.content_security_policy, policy(t).map(Some)),
        show: |c| c.content_security_policy.clone(),
    },
    Setting {
        key: "harden_cookies",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "Whether cookies get Secure (over TLS) and SameSite=Lax where they say nothing of it",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.harden_cookies, boolean(t)),
        show: |c| Some(c.harden_cookies.to_string()),
    },
];
