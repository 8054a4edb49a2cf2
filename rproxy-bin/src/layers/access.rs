//! The settings that decide which clients may access a site or route.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use rproxy_access::{
    AddressFilterLayer, AddressList, AddressListError, AddressRules, BasicAuthLayer, ForwardAuthConfig,
    ForwardAuthConfigError, Users,
};
use rproxy_upstream::Upstream;

use super::StackError;
use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, READABLE_FILE, SWITCH, settings};
use crate::site::{Authentication, ForwardAuth};
use crate::values::choice::{field_name, field_names};
use crate::values::forward_auth::ForwardAuthUrl;
use crate::values::parsed::Parsed;
use crate::values::readable_file::unreadable;
use crate::values::value::{ParseError, boolean, count, format_duration, joined, optional, path, timeout};

/// The rejections of the access layers.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    KnownRejection::new("access_denied", "denied_address")
        .explained("the address of the client is in {a range} of RPROXY_DENY"),
    KnownRejection::new("access_denied", "unlisted_address")
        .explained("the address of the client is in no range of RPROXY_ALLOW"),
    // The error of a program that embeds the stack.
    KnownRejection::new("access_denied", "unknown_address"),
    // The usual first response, to which browsers ask for a password.
    KnownRejection::new("unauthorized", "no_credentials"),
    KnownRejection::new("unauthorized", "malformed_credentials"),
    KnownRejection::new("unauthorized", "wrong_credentials")
        .explained("the file of RPROXY_BASIC_AUTH has no user with this name and password"),
    KnownRejection::new("auth_failures", "auth_failures")
        .explained("the client sent too many wrong passwords; RPROXY_BASIC_AUTH_FAILURES is the limit per minute")
        .logged(),
    KnownRejection::new("auth_busy", "auth_busy")
        .explained("too many passwords for RPROXY_BASIC_AUTH are being verified; hashes of a lower cost take less time")
        .logged(),
    KnownRejection::new("auth_service", "timeout")
        .explained("the authentication service sent no response within RPROXY_FORWARD_AUTH_TIMEOUT")
        .logged(),
    KnownRejection::new("auth_service", "unavailable")
        .explained("{the authentication service} of RPROXY_FORWARD_AUTH cannot be reached, or sent no valid response")
        .logged(),
    KnownRejection::new("auth_service", "unexpected_status")
        .explained("the service of RPROXY_FORWARD_AUTH responded with an interim status")
        .logged(),
    KnownRejection::new("auth_service", "fields_too_large")
        .explained(
            "the fields of RPROXY_FORWARD_AUTH_FIELDS and the cookies of the authentication service exceed 16 KiB",
        )
        .logged(),
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

    "basic_auth" => basic_auth: Option<PathBuf> {
        value: "FILE",
        default: "none" => None,
        help: "File with the users of basic authentication (RFC 7617) and their bcrypt or Argon2 hashes, as htpasswd -B writes it; other clients get 401",
        accepted: READABLE_FILE,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| s.basic_auth.as_ref().map(|path| path.display().to_string()),
    }

    "basic_auth_realm" => realm: String {
        value: "TEXT",
        default: "Restricted",
        help: "Realm of basic authentication, which browsers may show",
        accepted: "printable ASCII characters",
        scope: Route,
        reload: Live,
        parse: realm,
        show: |s| Some(s.realm.clone()),
    }

    "basic_auth_user_field" => user_field: Option<HeaderName> {
        value: "FIELD",
        default: "none" => None,
        help: "Request header field that tells the backend the name of the user; spoofed values are removed",
        accepted: "a header field name, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, field_name),
        show: |s| s.user_field.as_ref().map(ToString::to_string),
    }

    "basic_auth_remove_credentials" => remove_credentials: bool {
        value: "BOOL",
        default: "false",
        help: "Removes Authorization from requests after basic authentication",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.remove_credentials.to_string()),
    }

    "basic_auth_failures" => failures: NonZeroU32 {
        value: "NUMBER",
        default: "10",
        help: "Maximum number of wrong passwords per client and minute; then attempts get 429",
        accepted: "a number from 1 to 10000",
        scope: Route,
        reload: Live,
        parse: failures,
        show: |s| Some(s.failures.to_string()),
    }

    "forward_auth" => forward_auth: Option<ForwardAuthUrl> {
        value: "URL",
        default: "none" => None,
        help: "Authentication service that decides about each request, such as Authelia, authentik or oauth2-proxy; a response other than 2xx goes to the client",
        accepted: "a URL such as http://127.0.0.1:9091/api/authz/forward-auth, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, str::parse),
        show: |s| s.forward_auth.as_ref().map(ToString::to_string),
    }

    "forward_auth_fields" => copied_fields: Vec<HeaderName> {
        value: "FIELD,...",
        default: "none" => Vec::new(),
        help: "Header fields of a 2xx response of the authentication service that the backend gets, such as Remote-User; spoofed values are removed",
        accepted: "comma-separated names of header fields",
        scope: Route,
        reload: Live,
        parse: field_names,
        show: |s| joined(&s.copied_fields),
    }

    "forward_auth_timeout" => forward_timeout: Duration {
        value: "DURATION",
        default: "5s",
        help: "Maximum time until the response of the authentication service; then the client gets 503",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.forward_timeout)),
    }

    rules {
        ["basic_auth"] => |s, _| {
            let file = s.basic_auth.as_ref()?;
            unreadable(file).or_else(|| Users::read(file).err().map(|error| error.to_string()))
        },
        ["basic_auth_user_field"] => |s, _| {
            let (file, name) = (s.basic_auth.as_ref()?, s.user_field.clone()?);
            let builder = BasicAuthLayer::builder(Users::read(file).ok()?).user_field(name);
            builder.build().err().map(|error| error.to_string())
        },
        ["forward_auth_fields", "forward_auth"] => |s, _| {
            s.forward_auth_config().and_then(Result::err).map(|error| error.to_string())
        },
    }

    idle {
        [
            "basic_auth_realm",
            "basic_auth_user_field",
            "basic_auth_remove_credentials",
            "basic_auth_failures",
        ] => |s, _| s.basic_auth.is_none().then(|| "basic_auth is not set".to_owned()),
        ["forward_auth_fields", "forward_auth_timeout"] => |s, _| {
            s.forward_auth.is_none().then(|| "forward_auth is not set".to_owned())
        },
    }
}

pub(super) const ADDRESSES: &str = "comma-separated CIDRs and addresses; all, private, loopback, cloudflare, fastly or cloudfront; files with one CIDR per line, as /path or ./path";

pub(super) fn addresses(text: &str) -> Result<Parsed<AddressList>, AddressListError> {
    Ok(Parsed::new(text, AddressList::parse(text)?))
}

fn realm(text: &str) -> Result<String, ParseError> {
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(text.to_owned()),
        false => Err(ParseError::new("realm", text, "contains other characters than printable ASCII")),
    }
}

fn failures(text: &str) -> Result<NonZeroU32, ParseError> {
    NonZeroU32::new(count(text, 10_000)?).ok_or_else(|| ParseError::new("number", text, "is less than 1"))
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

    /// Returns whether the lists of addresses have the same ranges, which can be in files.
    pub(crate) fn has_same_addresses(&self, other: &Self) -> bool {
        self.allow == other.allow && self.deny == other.deny
    }

    /// Returns the settings of the authentication, on which the lists of addresses have no effect.
    pub(crate) fn without_addresses(&self) -> Self {
        Self { allow: None, deny: None, ..self.clone() }
    }

    /// Returns whether some clients have no access.
    pub(crate) fn is_restricted(&self) -> bool {
        self.allow.is_some() || self.deny.is_some() || self.has_authentication()
    }

    pub(crate) fn has_authentication(&self) -> bool {
        self.basic_auth.is_some() || self.forward_auth.is_some()
    }

    /// Returns the authentication of clients, after reading the users file.
    pub(crate) fn authentication(&self) -> Result<Authentication, StackError> {
        Ok(Authentication { basic: self.basic_auth_layer()?, forward: self.forward_auth()? })
    }

    fn basic_auth_layer(&self) -> Result<Option<BasicAuthLayer>, StackError> {
        let Some(file) = &self.basic_auth else { return Ok(None) };
        let mut builder = BasicAuthLayer::builder(Users::read(file)?)
            .realm(&self.realm)
            .remove_credentials(self.remove_credentials)
            .failures_per_minute(self.failures);
        if let Some(name) = &self.user_field {
            builder = builder.user_field(name.clone());
        }
        Ok(Some(builder.build()?))
    }

    fn forward_auth_config(&self) -> Option<Result<ForwardAuthConfig, ForwardAuthConfigError>> {
        let builder = ForwardAuthConfig::builder(self.forward_auth.as_ref()?.uri().clone());
        let builder = self.copied_fields.iter().fold(builder, |builder, name| builder.copy_field(name.clone()));
        // The layer of forwarding fields is outside of this one.
        Some(builder.timeout(self.forward_timeout).trust_forwarding_fields(true).build())
    }

    fn forward_auth(&self) -> Result<Option<ForwardAuth>, StackError> {
        let (Some(url), Some(config)) = (&self.forward_auth, self.forward_auth_config()) else { return Ok(None) };
        let backends = Upstream::builder()
            .backends([url.backend().clone()])
            .timeout(self.forward_timeout)
            .connect_timeout(self.forward_timeout)
            .build_backends()?;
        Ok(Some(ForwardAuth { config: config?, backends }))
    }

    pub(crate) fn describe_address_filter(&self) -> Option<String> {
        let part = |name: &str, list: &Option<Parsed<AddressList>>| {
            list.as_ref().map(|list| format!("{name} {}", list.text()))
        };
        let parts: Vec<String> = [part("allow", &self.allow), part("deny", &self.deny)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("AddressFilter    {}", parts.join("; ")))
    }

    pub(crate) fn describe_basic_auth(&self) -> Option<String> {
        self.basic_auth.as_ref().map(|file| format!("BasicAuth        users of {}", file.display()))
    }

    pub(crate) fn describe_forward_auth(&self) -> Option<String> {
        let fields = joined(&self.copied_fields).map_or_else(String::new, |fields| format!(", copies {fields}"));
        self.forward_auth.as_ref().map(|url| format!("ForwardAuth      {url}{fields}"))
    }
}
