//! Parses and applies requests to purge the cache.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use rproxy_cache::{CacheStore, Purge};
use tower::BoxError;

use crate::site::SiteHosts;

/// A function that returns the hosts of the site with the given name or host.
pub(super) type FindSite = dyn Fn(&str) -> Option<SiteHosts> + Send + Sync;

/// The cache purges that one request to the admin listener specifies. A soft purge makes responses stale instead of
/// removing them.
pub(super) struct PurgeRequest {
    soft: bool,
    selections: Vec<Selection>,
}

/// The stored responses that one parameter of a purge request selects.
enum Selection {
    Purge(Purge),
    Site(SiteHosts),
}

impl PurgeRequest {
    /// Parses the purge parameters in the query and in the form. One invalid parameter rejects the whole request.
    pub(super) async fn read<B>(query: &str, headers: &HeaderMap, body: B, site: &FindSite) -> Result<Self, PurgeError>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let body =
            Limited::new(body, FORM_LIMIT).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
                true => PurgeError::TooLarge,
                false => PurgeError::Unreadable,
            })?;
        let body = body.to_bytes();
        if !body.is_empty() && !is_form(headers) {
            return Err(PurgeError::MediaType);
        }
        let form = str::from_utf8(&body)
            .map_err(|_| PurgeError::Parameters("the form in the request body is not valid UTF-8".to_owned()))?;
        let pairs = query.split('&').chain(form.trim_end().split('&')).filter(|pair| !pair.is_empty());
        let (soft, named): (Vec<&str>, Vec<&str>) =
            pairs.partition(|pair| matches!(*pair, "soft" | "soft=1" | "soft=true"));
        let selections = named.into_iter().map(|pair| selection(pair, site)).collect::<Result<Vec<_>, _>>();
        let selections = selections.map_err(PurgeError::Parameters)?;
        match selections.is_empty() {
            true => Err(PurgeError::Parameters("the request has no purge parameter".to_owned())),
            false => Ok(Self { soft: !soft.is_empty(), selections }),
        }
    }

    /// Purges the selected responses from `store`, and returns the number of purged resources.
    pub(super) fn apply(&self, store: &CacheStore) -> u64 {
        let apply = |selection: &Selection| match (selection, self.soft) {
            (Selection::Purge(purge), false) => store.purge(purge),
            (Selection::Purge(purge), true) => store.soft_purge(purge),
            (Selection::Site(hosts), false) => store.purge_where(|url| hosts.contain(url)),
            (Selection::Site(hosts), true) => store.soft_purge_where(|url| hosts.contain(url)),
        };
        self.selections.iter().map(apply).sum()
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

// `+` is not decoded, not even in forms: a URL contains no spaces, but it may contain a plus.
fn selection(pair: &str, site: &FindSite) -> Result<Selection, String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let value =
        percent_decode_str(value).decode_utf8().map_err(|_| format!("the parameter {name} is not valid UTF-8"))?;
    let purge = match (name, &*value) {
        ("url", url) => Purge::url(url).map_err(|error| error.to_string())?,
        ("prefix", prefix) => Purge::prefix(prefix).map_err(|error| error.to_string())?,
        ("tag", "") => return Err("the tag must not be empty".to_owned()),
        ("tag", tag) => Purge::tag(tag),
        ("site", name) => return site(name).map(Selection::Site).ok_or_else(|| format!("unknown site {name:?}")),
        ("all", "" | "1" | "true") => Purge::All,
        ("all", other) => return Err(format!("bad value {other:?} for the parameter all")),
        _ => return Err(format!("unknown parameter {name:?}")),
    };
    Ok(Selection::Purge(purge))
}

/// An invalid purge request.
#[derive(Debug, thiserror::Error)]
pub(super) enum PurgeError {
    #[error(
        "{0}; accepted: ?url=URL, ?prefix=URL, ?tag=TAG, ?site=HOST and ?all, in the query or as a form, and &soft for a soft purge"
    )]
    Parameters(String),
    #[error("the form in the request body cannot be read")]
    Unreadable,
    #[error("the form in the request body is larger than {FORM_LIMIT} bytes")]
    TooLarge,
    #[error("the content type of the request body is not application/x-www-form-urlencoded")]
    MediaType,
}

impl PurgeError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Parameters(_) | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

pub(super) const FORM_LIMIT: usize = 64 << 10;
