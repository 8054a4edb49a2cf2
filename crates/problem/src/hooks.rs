//! The parts of error responses that a program decides.

use http::{Extensions, HeaderValue, Request};
use rproxy_core::{ProxyErrorType, Rejection};

/// The parts of error responses that a program decides, see [`ProblemLayer::with_hooks`](crate::ProblemLayer::with_hooks).
///
/// `()` implements the trait with the defaults of all methods.
pub trait ProblemHooks {
    /// The data of a request that its error response needs. The layer stores it until the response.
    type Request;

    /// Reads the data of a request. `prefers_format` is true if its `Accept` names formats: the response can then be a page.
    fn read_request<B>(&self, request: &Request<B>, prefers_format: bool) -> Self::Request;

    /// Returns the request ID and the note of an error page, which the layer escapes. May add extensions to the response.
    ///
    /// There is no rejection if the page replaces an [error of the inner service](crate#errors-of-the-inner-service).
    fn page_texts(
        &self,
        request: &Self::Request,
        rejection: Option<&Rejection>,
        extensions: &mut Extensions,
    ) -> PageTexts {
        let _ = (request, rejection, extensions);
        PageTexts::default()
    }

    /// Returns whether a page may replace an [error of the inner service](crate#errors-of-the-inner-service) with these
    /// extensions. The default is `true`.
    fn replaces_error(&self, request: &Self::Request, extensions: &Extensions) -> bool {
        let _ = (request, extensions);
        true
    }

    /// Returns whether to discard the content of the response to a rejected request.
    ///
    /// Servers that close the connection instead of responding need no content. May add extensions to the response. Only a layer
    /// with [`discard_by_hooks`](crate::ProblemLayer::discard_by_hooks) calls this.
    fn discards_response(&self, request: &Self::Request, rejection: &Rejection, extensions: &mut Extensions) -> bool {
        let _ = (request, rejection, extensions);
        false
    }

    /// Returns the name of this proxy for `Proxy-Status` and `grpc-message`. The default is `None`.
    fn proxy_name(&self) -> Option<&'static str> {
        None
    }

    /// Returns the field `Proxy-Status` (RFC 9209) of a rejection. The default has the [name](Self::proxy_name), which must
    /// be a token, and the error type.
    fn proxy_status(&self, error_type: ProxyErrorType) -> Option<HeaderValue> {
        let value = format!("{}; error={}", self.proxy_name()?, error_type.as_str());
        HeaderValue::try_from(value).ok()
    }

    /// Reports the message of a panic. The panic hook of the process has run already.
    fn panicked(message: &str) {
        let _ = message;
    }
}

impl ProblemHooks for () {
    type Request = ();

    fn read_request<B>(&self, _: &Request<B>, _: bool) {}
}

/// The optional texts of an error page: a request ID and a note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageTexts {
    /// The ID of the request, in the footer of the built-in page, and as `::REQUEST_ID::` of other pages.
    pub request_id: Option<String>,
    /// A note with its title, set apart from the other text of the built-in page.
    pub note: Option<(&'static str, String)>,
}
