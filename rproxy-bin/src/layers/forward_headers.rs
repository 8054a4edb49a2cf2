//! Settings of the header fields that tell backends the client address and the original request.

use rproxy_client_ip::ClientIpSource;
use rproxy_forward_headers::ForwardHeadersLayer;

use super::client_ip::ClientIpSettings;
use crate::known_rejection::KnownRejection;
use crate::setting::{SWITCH, settings};
use crate::values::choice::{TraceContext, node_name};
use crate::values::value::boolean;

/// The rejections of requests that are not forwarded.
pub(crate) const REJECTIONS: &[KnownRejection] = &[KnownRejection::new("loop", "loop")
    .explained("the request loops, because a backend in RPROXY_UPSTREAM forwards to this proxy")];

settings! {
    /// The settings of the header fields that backends receive.
    ForwardHeadersSettings, "Forwarding"

    "forwarded" => forwarded: bool {
        value: "BOOL",
        default: "false",
        help: "Sends the Forwarded header (RFC 7239) to the upstream, in addition to X-Forwarded-*",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.forwarded.to_string()),
    }

    "forwarded_by" => forwarded_by: Option<String> {
        value: "NAME",
        default: "none" => None,
        help: "Name of this proxy in the by parameter of Forwarded",
        accepted: "an underscore followed by letters, digits, `.`, `_` or `-`: _edge",
        scope: Route,
        reload: Live,
        parse: |t| node_name(t).map(Some),
        show: |s| s.forwarded_by.clone(),
    }

    "hide_client" => hide_client: bool {
        value: "BOOL",
        default: "false",
        help: "Hides client addresses from the upstream: no X-Forwarded-For, no X-Real-IP, and for=_hidden in Forwarded",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.hide_client.to_string()),
    }

    "trace_context" => trace_context: TraceContext {
        value: "MODE",
        default: "pass",
        help: "Handling of the W3C traceparent header: pass forwards a valid one, begin also starts a trace if there is none, restart starts a new trace unless the peer is a trusted proxy",
        accepted: "pass, begin or restart",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.trace_context.to_string()),
    }


    idle {
        ["forwarded_by"] => |s, _| (!s.forwarded).then(|| "forwarded is off".to_owned()),
    }
}

impl ForwardHeadersSettings {
    pub(crate) fn layer(&self, clients: &ClientIpSettings) -> ForwardHeadersLayer {
        let layer = ForwardHeadersLayer::new().via("rproxy").hide_client(self.hide_client);
        let layer = layer.trace_context(match self.trace_context {
            TraceContext::Pass => rproxy_forward_headers::TraceContext::Forward,
            TraceContext::Begin => rproxy_forward_headers::TraceContext::Start,
            TraceContext::Restart => rproxy_forward_headers::TraceContext::Restart,
        });
        // The field with the client address is accepted from trusted proxies, too.
        let client = match &clients.source {
            ClientIpSource::Header(name) if !self.hide_client => Some(name),
            _ => None,
        };
        let trusted = clients.trusted_fields.iter().chain(client);
        let layer = trusted.fold(layer, |layer, name| layer.trust_field(name.clone()));
        match &self.forwarded_by {
            Some(name) if self.forwarded => layer.forwarded_by(name),
            _ => layer.forwarded(self.forwarded),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "ForwardHeaders   {}X-Forwarded-*, {}X-Request-Id, Via",
            if self.forwarded { "Forwarded, " } else { "" },
            if self.hide_client { "" } else { "X-Real-IP, " },
        )
    }
}
