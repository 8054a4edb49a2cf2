//! The parts of error responses that a program decides.

use http::{Extensions, HeaderValue, Request};
use rproxy_core::{ProxyErrorType, Rejection};

/// The parts of error responses that a program decides, see [`ProblemLayer::with_hooks`](crate::ProblemLayer::with_hooks).
///
/// `()` implements the trait with the defaults of all methods.
pub trait ProblemHooks {
    /// The data of a request that its error response needs. It is kept until the response.
    type Request;

    /// Reads the data of a request. `prefers_format` is whether its `Accept` names formats, so that it may get a page.
    fn read_request<B>(&self, request: &Request<B>, prefers_format: bool) -> Self::Request;

    /// Returns the further texts of a page. They are escaped. May add extensions to the response.
    fn page_texts(&self, request: &Self::Request, rejection: &Rejection, extensions: &mut Extensions) -> PageTexts {
        let _ = (request, rejection, extensions);
        PageTexts::default()
    }

    /// Returns whether the response to a rejected request is left without content and format.
    ///
    /// For servers that close the connection instead. May add extensions to the response.
    fn discards_response(&self, request: &Self::Request, rejection: &Rejection, extensions: &mut Extensions) -> bool {
        let _ = (request, rejection, extensions);
        false
    }

    /// Returns the name of this program as a proxy, for `Proxy-Status` and `grpc-message`. The default is none.
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

/// Further texts of an error page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageTexts {
    /// The ID of the request, in the footer.
    pub request_id: Option<String>,
    /// A note with its title, set apart from the other text.
    pub note: Option<(&'static str, String)>,
}
