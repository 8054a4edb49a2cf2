//! The proxy error types of `Proxy-Status` (RFC 9209).

/// A proxy error type (RFC 9209 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyErrorType {
    /// The DNS lookup of the next hop timed out.
    DnsTimeout,
    /// The DNS lookup of the next hop failed.
    DnsError,
    /// The proxy cannot determine the next hop.
    DestinationNotFound,
    /// The next hop is considered unavailable.
    DestinationUnavailable,
    /// The configuration prohibits connections to the address of the next hop.
    DestinationIpProhibited,
    /// There is no route to the address of the next hop.
    DestinationIpUnroutable,
    /// The next hop refused the connection.
    ConnectionRefused,
    /// The connection to the next hop was closed before the response was complete.
    ConnectionTerminated,
    /// The connection to the next hop was not established in time.
    ConnectionTimeout,
    /// The next hop sent no data in time.
    ConnectionReadTimeout,
    /// The next hop did not accept data before the timeout.
    ConnectionWriteTimeout,
    /// The maximum number of connections to the next hop is reached.
    ConnectionLimitReached,
    /// The TLS handshake with the next hop failed.
    TlsProtocolError,
    /// The certificate of the next hop is not valid.
    TlsCertificateError,
    /// The next hop sent a TLS alert.
    TlsAlertReceived,
    /// The request is invalid.
    HttpRequestError,
    /// The configuration does not allow the request.
    HttpRequestDenied,
    /// The response of the next hop is incomplete.
    HttpResponseIncomplete,
    /// The header section of the response is too large.
    HttpResponseHeaderSectionSize,
    /// A header field of the response is too large.
    HttpResponseHeaderSize,
    /// The content of the response is too large.
    HttpResponseBodySize,
    /// The trailer section of the response is too large.
    HttpResponseTrailerSectionSize,
    /// A trailer field of the response is too large.
    HttpResponseTrailerSize,
    /// The transfer coding of the response cannot be decoded.
    HttpResponseTransferCoding,
    /// The content coding of the response cannot be decoded.
    HttpResponseContentCoding,
    /// The complete response did not arrive in time.
    HttpResponseTimeout,
    /// The protocol upgrade with the next hop failed.
    HttpUpgradeFailed,
    /// The next hop violated the HTTP protocol.
    HttpProtocolError,
    /// The proxy generated the response itself.
    ProxyInternalResponse,
    /// The proxy had an internal error.
    ProxyInternalError,
    /// The configuration of the proxy is invalid.
    ProxyConfigurationError,
    /// The request is in a forwarding loop.
    ProxyLoopDetected,
}

impl ProxyErrorType {
    /// All proxy error types, in the order of RFC 9209.
    pub const ALL: &[Self] = &[
        Self::DnsTimeout,
        Self::DnsError,
        Self::DestinationNotFound,
        Self::DestinationUnavailable,
        Self::DestinationIpProhibited,
        Self::DestinationIpUnroutable,
        Self::ConnectionRefused,
        Self::ConnectionTerminated,
        Self::ConnectionTimeout,
        Self::ConnectionReadTimeout,
        Self::ConnectionWriteTimeout,
        Self::ConnectionLimitReached,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::TlsAlertReceived,
        Self::HttpRequestError,
        Self::HttpRequestDenied,
        Self::HttpResponseIncomplete,
        Self::HttpResponseHeaderSectionSize,
        Self::HttpResponseHeaderSize,
        Self::HttpResponseBodySize,
        Self::HttpResponseTrailerSectionSize,
        Self::HttpResponseTrailerSize,
        Self::HttpResponseTransferCoding,
        Self::HttpResponseContentCoding,
        Self::HttpResponseTimeout,
        Self::HttpUpgradeFailed,
        Self::HttpProtocolError,
        Self::ProxyInternalResponse,
        Self::ProxyInternalError,
        Self::ProxyConfigurationError,
        Self::ProxyLoopDetected,
    ];

    /// Returns the name of the error type, such as `http_request_denied`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::DnsError => "dns_error",
            Self::DestinationNotFound => "destination_not_found",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionReadTimeout => "connection_read_timeout",
            Self::ConnectionWriteTimeout => "connection_write_timeout",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::TlsAlertReceived => "tls_alert_received",
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseHeaderSectionSize => "http_response_header_section_size",
            Self::HttpResponseHeaderSize => "http_response_header_size",
            Self::HttpResponseBodySize => "http_response_body_size",
            Self::HttpResponseTrailerSectionSize => "http_response_trailer_section_size",
            Self::HttpResponseTrailerSize => "http_response_trailer_size",
            Self::HttpResponseTransferCoding => "http_response_transfer_coding",
            Self::HttpResponseContentCoding => "http_response_content_coding",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpUpgradeFailed => "http_upgrade_failed",
            Self::HttpProtocolError => "http_protocol_error",
            Self::ProxyInternalResponse => "proxy_internal_response",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyConfigurationError => "proxy_configuration_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_error_types_are_listed_in_the_order_of_their_discriminants() {
        for (index, error_type) in ProxyErrorType::ALL.iter().enumerate() {
            assert_eq!(*error_type as usize, index, "{}", error_type.as_str());
        }
    }
}
