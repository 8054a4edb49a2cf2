//! The parameters of a request that changes something, in the query and in the form.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use tower::BoxError;

/// The parameters of a request, in the query and in the form.
pub(super) struct Parameters {
    text: String,
}

impl Parameters {
    /// Reads the form, and adds its parameters to those of the query.
    pub(super) async fn read<B>(query: &str, headers: &HeaderMap, body: B) -> Result<Self, ParameterError>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let body =
            Limited::new(body, FORM_LIMIT).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
                true => ParameterError::TooLarge,
                false => ParameterError::Unreadable,
            })?;
        let body = body.to_bytes();
        if !body.is_empty() && !is_form(headers) {
            return Err(ParameterError::MediaType);
        }
        let form = str::from_utf8(&body).map_err(|_| ParameterError::NotUtf8)?;
        Ok(Self { text: format!("{query}&{}", form.trim_end()) })
    }

    /// Returns the parameters, which [`decoded`] splits.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &str> {
        self.text.split('&').filter(|pair| !pair.is_empty())
    }
}

/// Returns the name and the value of a parameter.
///
/// `+` is not decoded, not even in forms: a URL contains no spaces, but it may contain a plus.
pub(super) fn decoded(pair: &str) -> Result<(&str, Cow<'_, str>), String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let value =
        percent_decode_str(value).decode_utf8().map_err(|_| format!("the parameter {name} is not valid UTF-8"))?;
    Ok((name, value))
}

fn is_form(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The error of a request with invalid parameters.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParameterError {
    #[error("{reason}; accepted: {accepted}")]
    Invalid { reason: String, accepted: &'static str },
    #[error("the form in the request body cannot be read")]
    Unreadable,
    #[error("the form in the request body is not valid UTF-8")]
    NotUtf8,
    #[error("the form in the request body is larger than {FORM_LIMIT} bytes")]
    TooLarge,
    #[error("the content type of the request body is not application/x-www-form-urlencoded")]
    MediaType,
}

impl ParameterError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::Unreadable | Self::NotUtf8 => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

pub(super) const FORM_LIMIT: usize = 64 << 10;
