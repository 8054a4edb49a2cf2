//! Every setting is applied by a reload, or named as needing a restart.

// Some settings need the feature.
#![cfg(feature = "redis")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rproxy_client_ip::PeerAddr;
use rproxy_request_guard::GuardBody;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceExt, service_fn};

use super::*;
use crate::config::find;
use crate::state::ProcessState;

/// For each setting, further settings that it needs, and a value other than the one it has then.
const CHANGES: &[(&str, &str, &str)] = &[
    ("allow", "", "192.0.2.0/24"),
    ("deny", "", "192.0.2.1"),
    ("basic_auth", "", "FOLDER/users"),
    ("basic_auth_realm", "basic_auth = 'FOLDER/users'", "Other"),
    ("basic_auth_user_field", "basic_auth = 'FOLDER/users'", "remote-user"),
    ("basic_auth_remove_credentials", "basic_auth = 'FOLDER/users'", "true"),
    ("basic_auth_failures", "basic_auth = 'FOLDER/users'", "7"),
    ("forward_auth", "", "http://127.0.0.1:7/auth"),
    ("forward_auth_fields", "forward_auth = 'http://127.0.0.1:7/auth'", "remote-user"),
    ("forward_auth_timeout", "forward_auth = 'http://127.0.0.1:7/auth'", "7s"),
    ("error_pages", "", "FOLDER/pages"),
    ("error_pages_for", "error_pages = 'FOLDER/pages'", "502"),
    ("maintenance_file", "", "FOLDER/maintenance"),
    ("maintenance_allow", "", "192.0.2.0/24"),
    ("maintenance_retry_after", "", "7s"),
    ("request_headers", "", "X-A: 1"),
    ("response_headers", "", "X-Frame-Options: DENY"),
    ("canonical_host", "", "www.example.org"),
    ("redirects", "", "/1 -> /2"),
    ("responses", "", "/1 -> 200 text/plain hi"),
    ("trailing_slash", "", "add"),
    ("rewrites", "", "/1 -> /2"),
    ("cache_ttl", "", "/**=1h"),
    ("cache_enabled", "", "false"),
    ("cache_size", "", "32MiB"),
    ("cache_paths", "", "/a/**"),
    ("cache_max_object", "", "1MiB"),
    ("cache_disk", "", "FOLDER/disk"),
    ("cache_disk_size", "cache_disk = 'FOLDER/disk'", "2GiB"),
    ("cache_query", "", "sort"),
    ("cache_no_vary_search", "", "true"),
    ("cache_set_cookie", "", "store"),
    ("cache_heuristic", "", "true"),
    ("cache_request_directives", "", "true"),
    ("cache_status_key", "", "true"),
    ("trusted_proxies", "", "192.0.2.1"),
    ("trusted_fields", "trusted_proxies = 'loopback'", "remote-user"),
    ("client_ip_from", "trusted_proxies = 'loopback'", "forwarded"),
    ("proxy_protocol", "trusted_proxies = 'loopback'", "v2"),
    ("command", "", "node server.js"),
    ("command_restart", "command = 'node server.js'", "always"),
    ("command_stop_timeout", "command = 'node server.js'", "7s"),
    ("compression", "", "false"),
    ("compression_min_size", "", "1KiB"),
    ("compression_private", "", "false"),
    ("forwarded", "", "true"),
    ("forwarded_by", "forwarded = true", "_proxy"),
    ("hide_client", "", "true"),
    ("trace_context", "", "begin"),
    ("head_timeout", "", "7s"),
    ("idle_timeout", "", "7s"),
    ("half_close", "", "always"),
    ("send_timeout", "", "7s"),
    ("handshake_timeout", "", "7s"),
    ("max_head", "", "7KiB"),
    ("max_target", "", "7KiB"),
    ("max_fields", "", "7"),
    ("max_streams", "", "7"),
    ("max_requests", "", "7"),
    ("max_connections", "", "7"),
    ("max_connections_per_client", "", "7"),
    ("max_handshakes", "", "7"),
    ("listen", "", "127.0.0.1:7"),
    ("http_port", "", "7"),
    ("https_port", "http_port = 8", "7"),
    ("h2c", "", "false"),
    ("access_log", "", "json"),
    ("log_level", "", "debug"),
    ("filter_enabled", "", "false"),
    ("blocked_paths", "", "/private/**"),
    ("filter_status", "", "close"),
    ("filter_strict", "", "true"),
    ("filter_log_only", "", "true"),
    ("workers", "", "7"),
    ("drain_timeout", "", "7s"),
    ("handover_socket", "", "FOLDER/handover"),
    ("user", "", "www-data"),
    ("sandbox", "", "on"),
    ("admin_listen", "", "127.0.0.1:7"),
    ("admin_hosts", "admin_listen = '127.0.0.1:7'", "rproxy.internal"),
    ("rate_limit_enabled", "", "false"),
    ("rate_limit", "", "7"),
    ("rate_burst", "", "7"),
    ("rate_ipv6_prefix", "", "56"),
    ("rate_ipv6_tiers", "", "56:400"),
    ("rate_max_in_flight", "", "7"),
    ("rate_exempt", "", "192.0.2.0/24"),
    ("rate_exempt_paths", "", "/a.css"),
    ("rate_count_cache_hits", "", "true"),
    ("rate_shadow", "", "true"),
    ("rate_limit_store", "", "redis://127.0.0.1:7"),
    ("rate_limit_fallback", "rate_limit_store = 'redis://127.0.0.1:7'", "closed"),
    ("rate_limit_store_timeout", "rate_limit_store = 'redis://127.0.0.1:7'", "7ms"),
    ("max_body", "", "7MiB"),
    ("body_timeout", "", "7s"),
    ("routes", "", "example.org=127.0.0.1:7"),
    ("redirect", "", "https://example.org"),
    ("strip_prefix", "", "/a"),
    ("hsts", "", "false"),
    ("hsts_policy", "", "max-age=7"),
    ("security_headers", "", "strict"),
    ("embed_paths", "", "/a.css"),
    ("content_security_policy", "", "default-src 'self'"),
    ("content_security_policy_report_only", "", "default-src 'self'"),
    ("csp_nonce_header", "", "x-nonce"),
    ("permissions_policy", "", "camera=()"),
    ("reporting_endpoints", "", "csp=https://example.org/csp"),
    ("keep_headers", "", "server"),
    ("harden_cookies", "", "true"),
    ("tls_domains", "tls_local = true\ntls_domains = 'a.example'", "b.example"),
    ("tls_email", "", "ops@example.org"),
    ("tls_cache_dir", "", "FOLDER/certificates"),
    ("acme_directory", "", "staging"),
    ("acme_ca", "", "FOLDER/ca.pem"),
    ("acme_eab_kid", "acme_eab_kid = 'one'\nacme_eab_hmac_key = 'AAAAAAAAAAAAAAAAAAAAAA'", "other"),
    (
        "acme_eab_hmac_key",
        "acme_eab_kid = 'one'\nacme_eab_hmac_key = 'AAAAAAAAAAAAAAAAAAAAAA'",
        "BAAAAAAAAAAAAAAAAAAAAA",
    ),
    ("acme_one_certificate", "", "true"),
    ("acme_redis", "", "redis://127.0.0.1:7"),
    ("acme_self_signed_fallback", "", "true"),
    ("tls_cert", "tls_cert = 'FOLDER/ca.pem'\ntls_key = 'FOLDER/key.pem'", "FOLDER/other.pem"),
    ("tls_key", "tls_cert = 'FOLDER/ca.pem'\ntls_key = 'FOLDER/key.pem'", "FOLDER/other-key.pem"),
    ("tls_ocsp", "tls_cert = 'FOLDER/ca.pem'\ntls_key = 'FOLDER/key.pem'", "-"),
    ("tls_min_version", "", "1.3"),
    ("tls_ciphers", "", "TLS_AES_128_GCM_SHA256"),
    ("tls_client_auth", "tls_local = true\ntls_client_auth = 'optional'\ntls_client_ca = 'FOLDER/ca.pem'", "required"),
    (
        "tls_client_ca",
        "tls_local = true\ntls_client_auth = 'optional'\ntls_client_ca = 'FOLDER/ca.pem'",
        "FOLDER/other.pem",
    ),
    (
        "tls_client_subject",
        "tls_local = true\ntls_client_auth = 'optional'\ntls_client_ca = 'FOLDER/ca.pem'",
        "x-subject",
    ),
    (
        "tls_client_fingerprint",
        "tls_local = true\ntls_client_auth = 'optional'\ntls_client_ca = 'FOLDER/ca.pem'",
        "x-print",
    ),
    ("tls_key_log", "", "FOLDER/keys"),
    ("tls_local", "", "true"),
    ("tls_hosts", "tls_local = true", "a.example"),
    ("upstream", "", "127.0.0.1:7"),
    ("upstream_balance", "", "least_pending"),
    (
        "upstream_balance_secret",
        "upstream = 'PLAIN'\nupstream_balance = 'path'\nupstream_balance_secret = '0123456789abcdef'",
        "0123456789abcdeg",
    ),
    ("upstream_timeout", "", "7s"),
    ("upstream_connect_timeout", "", "7s"),
    ("upstream_read_timeout", "", "7s"),
    ("upstream_request_timeout", "", "7s"),
    ("upstream_max_connections", "", "7"),
    ("upstream_http2_ping_interval", "", "7s"),
    ("upstream_expect_continue", "", "answer"),
    ("upstream_retries", "", "7"),
    ("upstream_hold", "", "7s"),
    ("upstream_health_path", "", "/health"),
    ("upstream_health_interval", "upstream_health_path = '/health'", "7s"),
    ("upstream_ca", "upstream = 'TLS'", "FOLDER/ca.pem"),
    ("upstream_pin", "upstream = 'TLS'", "PIN"),
    ("upstream_server_name", "upstream = 'TLS'\nupstream_ca = 'FOLDER/ca.pem'", "b.example"),
    (
        "upstream_cert",
        "upstream = 'TLS'\nupstream_ca = 'FOLDER/ca.pem'\nupstream_cert = 'FOLDER/ca.pem'\nupstream_key = 'FOLDER/key.pem'",
        "FOLDER/chain.pem",
    ),
    (
        "upstream_key",
        "upstream = 'TLS'\nupstream_ca = 'FOLDER/ca.pem'\nupstream_cert = 'FOLDER/ca.pem'\nupstream_key = 'FOLDER/key.pem'",
        "FOLDER/other-key.pem\"\nupstream_cert = \"FOLDER/other.pem",
    ),
    ("root", "", "FOLDER/www"),
    ("root_fallback", "root = 'FOLDER/www'", "index.html"),
    ("sendfile_root", "", "FOLDER/www"),
    ("sendfile_prefix", "sendfile_root = 'FOLDER/www'", "/protected"),
    ("ws_enabled", "", "false"),
    ("ws_paths", "", "/live"),
    ("ws_origins", "", "https://app.example"),
    ("upgrades", "", "tcp"),
    ("ws_idle_timeout", "", "7s"),
    ("ws_lifetime", "", "7s"),
    ("ws_max_connections", "", "7"),
    ("ws_max_per_client", "", "7"),
    ("ws_max_message", "", "7MiB"),
    ("ws_message_rate", "", "7"),
    ("ws_ping_interval", "", "7s"),
];

/// Files with certificates, and backends that report how they were reached.
struct Fixture {
    folder: TempDir,
    tls: SocketAddr,
    pin: String,
    plain: [SocketAddr; 2],
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, content: String| fs::write(folder.path().join(file), content).unwrap();
        let mut pairs = Vec::new();
        for (certificate, key) in [("ca.pem", "key.pem"), ("other.pem", "other-key.pem")] {
            let pair = KeyPair::generate().unwrap();
            let names = ["127.0.0.1", "a.example"].map(str::to_owned);
            let signed = CertificateParams::new(names).unwrap().self_signed(&pair).unwrap();
            write(certificate, signed.pem());
            write(key, pair.serialize_pem());
            pairs.push((signed, pair));
        }
        write("users", "alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n".to_owned());
        fs::create_dir(folder.path().join("www")).unwrap();
        write("www/index.html", "home".to_owned());
        fs::create_dir(folder.path().join("pages")).unwrap();
        write("pages/502.html", "<h1>::STATUS::</h1>".to_owned());
        write("chain.pem", format!("{}{}", pairs[0].0.pem(), pairs[1].0.pem()));
        let (certificate, pair) = pairs.swap_remove(0);
        let pin = format!("sha256/{}", STANDARD.encode(Sha256::digest(pair.subject_public_key_info())));
        let tls = tls_backend(certificate.der().clone(), &pair).await;
        Self { folder, tls, pin, plain: [plain_backend("one").await, plain_backend("two").await] }
    }

    /// Reads a file with these settings, of which a later one replaces an earlier one with the same key.
    fn load(&self, settings: &str) -> Config {
        let [one, two] = self.plain;
        let settings = settings
            .replace("FOLDER", self.folder.path().to_str().unwrap())
            .replace("'TLS'", &format!("'https://{}'", self.tls))
            .replace("'PLAIN'", &format!("'{one},{two}'"))
            .replace("PIN", &self.pin);
        let lines: BTreeMap<_, _> = settings.lines().filter_map(|line| line.split_once(" = ")).collect();
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let path = self.folder.path().join("rproxy.toml");
        fs::write(&path, text).unwrap();
        Config::from_file(&path).unwrap()
    }

    fn has_backend(&self, config: &Config) -> bool {
        let backends = config.show(find("upstream").unwrap()).unwrap();
        [self.tls, self.plain[0]].iter().any(|address| backends.contains(&address.to_string()))
    }
}

/// Starts a backend that responds with the digests of the client's certificates.
async fn tls_backend(certificate: CertificateDer<'static>, key: &KeyPair) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_client_cert_verifier(Arc::new(AnyClient(provider)));
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(socket).await {
                let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let digests: Vec<_> = sent.iter().map(Sha256::digest).collect();
                let text = format!("certificates of the client: {digests:x?}");
                respond(stream, &text).await;
            }
        }
    });
    address
}

async fn plain_backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            respond(socket, name).await;
        }
    });
    address
}

/// Responds to one request without content.
async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read_buf(&mut head).await, Ok(1..)) {}
    let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Accepts every client, with or without a certificate.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns what a client sees of the responses of `service`.
async fn responses<S, B>(service: S) -> String
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes, Error: Debug>,
{
    let mut all = String::new();
    for path in (0..32).map(|number| format!("/{number}")).chain(["/a.css".to_owned(), "/a.css".to_owned()]) {
        let peer = PeerAddr(SocketAddr::from(([192, 0, 2, 1], 4711)));
        let request = Request::get(path).header("host", "app.example").extension(peer);
        let response = service.clone().oneshot(request.body(Full::default()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let fields = ["ratelimit", "x-frame-options"].map(|name| head.headers.get(name).cloned());
        let body = body.collect().await.unwrap().to_bytes();
        // Error responses contain the request ID.
        let body = Some(body).filter(|_| head.status == StatusCode::OK);
        all += &format!("{} {fields:?} {body:?}\n", head.status);
    }
    all
}

/// Returns the state that a reload applies: that of the layers and of the servers, and responses.
async fn applied(state: &ProcessState, config: &Config, fixture: &Fixture) -> String {
    let stack = state.stack(config).unwrap();
    let responses = match fixture.has_backend(config) {
        true => responses(stack.service()).await,
        false => {
            let cacheable = service_fn(async |_: Request<GuardBody<Full<Bytes>>>| {
                let response = Response::builder().header("cache-control", "max-age=3600");
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from("hello")).unwrap())
            });
            responses(stack.wrap(cacheable)).await
        }
    };
    let redirect = redirect_server(config).map(|_| config.listeners.https_port);
    let server = main_server(config, &None, state.ws_passthrough.tunnels());
    // The rest of the stack has the time in it.
    let (clients, routes, backends) = (&stack.client_ip, &stack.routes, &stack.backends);
    format!("{clients:?} {routes:?} {backends:?} {:?} {server:?} {redirect:?} {responses}", state.rate_limits())
}

/// The settings with an effect outside of the layers and servers. The end-to-end tests of reloads change each of them.
const OUTSIDE: [&str; 8] = [
    "access_log",
    "log_level",
    "admin_listen",
    "admin_hosts",
    "tls_domains",
    "tls_hosts",
    "maintenance_file",
    "maintenance_retry_after",
];

#[tokio::test]
async fn every_setting_is_applied_or_needs_a_restart() {
    let fixture = Fixture::start().await;
    for setting in settings() {
        let key = setting.key;
        let Some((_, base, value)) = CHANGES.iter().find(|(other, ..)| *other == key) else {
            panic!("add a change of {key}");
        };
        // A rate at which no request is refilled during the test.
        let base = format!("rate_limit = '1/h'\nrate_burst = 100\n{base}");
        let running = fixture.load(&base);
        let reloaded = fixture.load(&format!("{base}\n{key} = \"{value}\""));
        assert_ne!(running.show(setting), reloaded.show(setting), "{key} stays the same");

        let waiting = settings_needing_restart(&running, &reloaded);
        let needs_restart = setting.reload == Reload::Restart;
        assert_eq!(waiting.contains(&setting.variable()), needs_restart, "{key}: {waiting:?}");
        if needs_restart || OUTSIDE.contains(&key) {
            continue;
        }
        let (changed, same) = (ProcessState::without_files(), ProcessState::without_files());
        let before = applied(&changed, &running, &fixture).await;
        assert_eq!(before, applied(&same, &running, &fixture).await, "{key}");
        let after = applied(&changed, &reloaded, &fixture).await;
        assert_ne!(after, applied(&same, &running, &fixture).await, "a reload does not apply {key}");
    }
}
