//! `/api/echo`: responds with a description of the request as the backend receives it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tower::BoxError;

use super::{SiteBody, full, text};

pub(super) async fn answer<B>(request: Request<B>) -> Response<SiteBody>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than 65536 bytes\n");
    };
    let seen = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "headers": fields(&parts.headers),
        "body": String::from_utf8_lossy(&body.to_bytes()),
    });
    full(StatusCode::OK, "application/json", format!("{seen:#}\n"))
}

const BODY_LIMIT: usize = 64 << 10;

// RFC 9110 §5.3: several field lines of one name are equivalent to one with a comma-separated list.
fn fields(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut fields = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        fields
            .entry(name.as_str())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    fields
}
