//! The processing of responses from the inner service.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, response};
use http_body::Body;

use crate::body::ResponseBody;
use crate::body::reader::BodySource;
use crate::body::store_writer::StoreWriter;
use crate::cache_status::{ForwardReason, Member};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::fetch::Fetch;
use crate::hooks::RequestSpecificCheck;
use crate::key::CacheKey;
use crate::policy::storability::{StorageRequest, StorageTerms};
use crate::policy::tags;
use crate::response::{add_status, forwarded};
use crate::store::stored_response::StoredResponse;

/// The processing of the response to a forwarded request.
pub(crate) enum Exchange {
    /// The response is forwarded unchanged.
    PassThrough,
    /// The response is forwarded with an added `Cache-Status` field.
    Forward(ForwardReason),
    /// The request is unsafe, so a successful response invalidates stored responses. Without a `reason`, its path is
    /// not cached, but the response can name one that is.
    Unsafe { config: Arc<Config>, key: CacheKey, reason: Option<ForwardReason> },
    /// The request is a POST to a cached path, whose response can be stored for later GET requests.
    Post(Box<PostExchange>),
    /// The request is a GET or HEAD that no stored response can serve.
    Fetch(Box<Fetch>),
}

impl Exchange {
    /// Builds the response to the client, and stores or invalidates responses.
    pub(crate) fn finish<B, E>(self, outcome: Result<Response<B>, E>) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        match self {
            Self::PassThrough => outcome.map(|response| response.map(ResponseBody::inner)),
            Self::Forward(reason) => outcome.map(|response| forwarded(response.map(ResponseBody::inner), reason)),
            Self::Unsafe { config, key, reason } => {
                let response = outcome?;
                invalidate(&config, &key, &response);
                let response = response.map(ResponseBody::inner);
                Ok(match reason {
                    Some(reason) => forwarded(response, reason),
                    None => response,
                })
            }
            Self::Post(post) => outcome.map(|response| post.finish(response)),
            Self::Fetch(fetch) => fetch.finish(outcome),
        }
    }
}

/// Invalidates the stored responses that are outdated after a successful unsafe request.
// RFC 9111 §4.4
fn invalidate<B>(config: &Config, key: &CacheKey, response: &Response<B>) {
    for group in tags::invalidated_groups(response.headers(), key.origin(), config.store.tag_key()) {
        config.store.invalidate_tag(group);
    }
    if !(response.status().is_success() || response.status().is_redirection()) {
        return;
    }
    config.store.invalidate(key);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let reference = response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(other) = reference.and_then(|reference| key.resolve_same_origin(reference)) {
            config.store.invalidate(&config.hooks.query.apply_to_key(other));
        }
    }
}

/// A POST request that was forwarded to the inner service.
pub(crate) struct PostExchange {
    pub(crate) config: Arc<Config>,
    pub(crate) key: CacheKey,
    pub(crate) request_headers: HeaderMap,
    pub(crate) is_authenticated: bool,
    pub(crate) request_specific: Option<RequestSpecificCheck>,
    pub(crate) request_time: Timestamp,
}

impl PostExchange {
    fn finish<B>(self, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let Self { config, key, request_headers, is_authenticated, request_specific, request_time } = self;
        invalidate(&config, &key, &response);
        let (parts, body) = response.into_parts();
        let source = BodySource::of_response(&parts, body);
        let now = config.clock.now();
        let ticket = config.store.ticket(key.as_str());
        let request = StorageRequest {
            origin: key.origin(),
            path: key.path(),
            tag_generation: ticket.tag_generation(),
            tag_key: config.store.tag_key(),
            headers: &request_headers,
            is_authenticated,
            request_time,
            set_cookie: config.set_cookie,
            // RFC 9110 §9.3.3: only explicit freshness counts for POST.
            heuristic_freshness: false,
        };
        let terms = StorageTerms::for_response(request, parts.status, &parts.headers, now).ok();
        // RFC 9110 §9.3.3: with explicit freshness and the target as Content-Location, the response serves later GET requests.
        let writer = terms
            .filter(|terms| terms.freshness.basis.is_explicit() && is_content_of_target(&parts, &key, &config))
            .filter(|_| !config.is_excluded(&parts))
            .filter(|_| !request_specific.is_some_and(|is_specific| is_specific(&parts.headers)))
            .and_then(|terms| {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let key = config.storage_key(&key, &parts.headers).unwrap_or(key);
                StoreWriter::new(&config, key, ticket, response, source.length())
            });
        let member = Member::forwarded(ForwardReason::Method).stored_if(writer.is_some());
        let mut response = Response::from_parts(parts, ResponseBody::copied(source, writer));
        add_status(&mut response, member, ForwardReason::Method);
        response
    }
}

/// Whether the response to a POST request contains the current representation of the target URI.
fn is_content_of_target(parts: &response::Parts, key: &CacheKey, config: &Config) -> bool {
    let mut values = parts.headers.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (values.next(), values.next()) else {
        return false;
    };
    let location = location.to_str().ok().and_then(|reference| key.resolve_same_origin(reference));
    let is_target = |location| config.hooks.query.apply_to_key(location) == *key;
    parts.status == StatusCode::OK && location.is_some_and(is_target)
}
