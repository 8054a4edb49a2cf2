//! The negotiated parameters of a TLS session.

use rproxy_core::TlsParameters;
use rustls::{CommonState, ProtocolVersion};

/// Returns the parameters of a session, or `None` before the end of its handshake.
pub(crate) fn tls_parameters(session: &CommonState) -> Option<TlsParameters> {
    let mut parameters = TlsParameters::default();
    parameters.version = match session.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        other => other.as_str(),
    };
    parameters.cipher_suite = session.negotiated_cipher_suite()?.suite().as_str();
    parameters.key_exchange = session.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
    Some(parameters)
}
