//! The settings of the rules for header fields.

use rproxy_header_rules::HeaderRulesLayer;

use crate::setting::settings;
use crate::values::header_rules::{request_rules, response_rules};
use crate::values::parsed::Parsed;

settings! {
    /// The settings of the rules for header fields.
    HeaderRulesSettings, "Header rules"

    "request_headers" => request: Parsed<HeaderRulesLayer> {
        value: "LINE,...",
        default: "none" => Parsed::default(),
        help: "Sets or removes header fields of requests before they are forwarded, after the forwarding fields were set",
        accepted: HEADER_RULES,
        // A value can be the password of the backend.
        secret: true,
        scope: Route,
        reload: Live,
        parse: request_rules,
        show: |s| shown(&s.request),
    }

    "response_headers" => response: Parsed<HeaderRulesLayer> {
        value: "LINE,...",
        default: "none" => Parsed::default(),
        help: "Sets or removes header fields of all responses, including error responses and those from the cache; wins over all other settings",
        accepted: HEADER_RULES,
        scope: Route,
        reload: Live,
        parse: response_rules,
        show: |s| shown(&s.response),
    }
}

const HEADER_RULES: &str = "NAME: VALUE (set), +NAME: VALUE (append), ?NAME: VALUE (set if absent), -NAME or -PREFIX* (remove); one per line, or separated by commas";

fn shown(rules: &Parsed<HeaderRulesLayer>) -> Option<String> {
    (!rules.text().is_empty()).then(|| rules.text().to_owned())
}

impl HeaderRulesSettings {
    /// Describes the rules for responses.
    pub(crate) fn describe_response(&self) -> Option<String> {
        describe("responses", &self.response)
    }

    /// Describes the rules for requests.
    pub(crate) fn describe_request(&self) -> Option<String> {
        describe("requests", &self.request)
    }
}

/// Describes the rules without values, which can be secrets.
fn describe(direction: &str, rules: &Parsed<HeaderRulesLayer>) -> Option<String> {
    let names: Vec<&str> = rules.text().lines().filter_map(|rule| rule.split(':').next()).collect();
    (!names.is_empty()).then(|| format!("HeaderRules      {direction}: {}", names.join(", ")))
}
