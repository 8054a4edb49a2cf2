//! Tests of loading the configuration from file, environment and command line, and of the commands that print it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command as Process, Output};

use rproxy::cli::{self, Command};
use rproxy::config::{Report, Sources, settings};
use rproxy::{Config, ConfigError};
use tempfile::TempDir;

#[test]
fn reports_invalid_value_with_accepted_values() {
    for (variable, value, message) in [
        (
            "LISTEN",
            "127.0.0.1",
            "bad listen address \"127.0.0.1\": no port; accepted: comma-separated ADDRESS:PORT, [IPV6]:PORT, :PORT \
             or unix:/path",
        ),
        ("LISTEN", ",", "bad listen address \",\": empty; accepted: "),
        ("HTTP_PORT", "http", "bad port \"http\": not a number from 0 to 65535; accepted: a port from 1 to 65535"),
        ("UPSTREAM", "ftp://app", "bad backend \"ftp://app\": unknown scheme; expected host:port, http://"),
        ("UPSTREAM", "", "bad list of backends \"\": empty; accepted: comma-separated host:port"),
        (
            "UPSTREAM",
            "http://a:secret@b",
            "bad backend \"http://***@b\": a user name and password in the URL are not supported",
        ),
        (
            "UPSTREAM_TIMEOUT",
            "soon",
            "bad duration \"soon\": not a number with a time unit; accepted: a duration such as",
        ),
        ("UPSTREAM_TIMEOUT", "0", "bad duration \"0\": must be longer than 0; accepted: a duration"),
        ("UPSTREAM", "a:1 weight=0", "bad backend \"a:1 weight=0\": the weight is not a whole number from 1 to 1000"),
        ("UPSTREAM_BALANCE", "random", "bad balance \"random\": unknown policy; accepted: round_robin, least_pending"),
        ("UPSTREAM_CONNECT_TIMEOUT", "0", "bad duration \"0\": must be longer than 0; accepted: a duration"),
        ("UPSTREAM_READ_TIMEOUT", "ages", "bad duration \"ages\": not a number with a time unit; accepted: a duration"),
        ("UPSTREAM_REQUEST_TIMEOUT", "-1", "bad duration \"-1\": not a number with a time unit; accepted: a duration"),
        ("UPSTREAM_MAX_CONNECTIONS", "some", "bad number \"some\": not a whole number; accepted: a whole number up to"),
        (
            "UPSTREAM_HTTP2_PING_INTERVAL",
            "often",
            "bad duration \"often\": not a number with a time unit; accepted: a duration",
        ),
        (
            "UPSTREAM_EXPECT_CONTINUE",
            "never",
            "bad rule for Expect: 100-continue \"never\": unknown rule; accepted: forward or answer",
        ),
        ("UPSTREAM_RETRIES", "101", "bad number \"101\": must be 100 or less; accepted: a whole number from 0 to 100"),
        ("UPSTREAM_HOLD", "2y", "bad duration \"2y\": longer than a year; accepted: a duration"),
        ("UPSTREAM_HEALTH_PATH", "healthz", "bad path \"healthz\": does not start with a slash; accepted: a path such"),
        ("UPSTREAM_HEALTH_PATH", "/a b", "bad path \"/a b\": not a path; accepted: a path such as /healthz"),
        ("UPSTREAM_HEALTH_INTERVAL", "0", "bad duration \"0\": must be longer than 0; accepted: a duration"),
        (
            "UPSTREAM_SERVER_NAME",
            "a_b!",
            "bad server name \"a_b!\": neither a DNS name nor an IP address; accepted: a DNS",
        ),
        ("TLS_DOMAINS", "https://a.example", "bad DNS name \"https://a.example\": a URL, not a name; accepted: "),
        ("TLS_DOMAINS", "a.example,10.0.0.1", "bad DNS name \"10.0.0.1\": an IP address, not a DNS name; accepted: "),
        ("TLS_EMAIL", "me", "bad e-mail address \"me\": not of the form name@example.com; accepted: an e-mail address"),
        ("TLS_CACHE_DIR", "", "bad path \"\": empty; accepted: a path"),
        ("ACME_DIRECTORY", "http://ca/dir", "bad directory URL \"http://ca/dir\": not an https:// URL; accepted: "),
        ("ACME_REDIS", "http://:hush@a/", "bad Redis URL \"(not shown)\": does not start with redis://, rediss://"),
        ("TLS_CLIENT_SUBJECT", "a b", "bad field name \"a b\": not a valid header name; accepted: a header field name"),
        ("TLS_CLIENT_FINGERPRINT", "Host", "bad field name \"Host\": the field is reserved for the proxy; accepted"),
        ("ACME_EAB_KID", "a b", "bad key identifier \"a b\": contains white space; accepted: the identifier"),
        ("ACME_EAB_HMAC_KEY", "hush hush!", "bad HMAC key \"(not shown)\": not base64url; accepted: base64url"),
        ("TLS_LOCAL", "maybe", "bad switch \"maybe\": neither true nor false; accepted: true or false (1/0, yes/no"),
        ("RATE_LIMIT", "0", "bad number \"0\": must be 1 or more; accepted: a whole number from 1 to 4294967295"),
        ("RATE_BURST", "1.5", "bad number \"1.5\": not a whole number; accepted: a whole number from 1 to 4294967295"),
        ("RATE_IPV6_PREFIX", "129", "bad IPv6 prefix length \"129\": not a whole number from 1 to 128; accepted: "),
        ("SECURITY_HEADERS", "lax", "bad profile \"lax\": unknown profile; accepted: recommended, strict, api or"),
        ("CONTENT_SECURITY_POLICY", "", "bad policy \"\": empty; accepted: a policy such as"),
        (
            "FILTER_STATUS",
            "200",
            "bad status \"200\": neither a status from 400 to 499 nor close; accepted: a status from 400",
        ),
        (
            "CLIENT_IP_FROM",
            "X Y",
            "bad client IP source \"X Y\": not a header field name; accepted: a header field name",
        ),
        (
            "RATE_IPV6_TIERS",
            "56",
            "bad tier \"56\": not of the form PREFIX:RATE or PREFIX:RATE:BURST; accepted: comma-",
        ),
        ("RATE_MAX_IN_FLIGHT", "some", "bad number \"some\": not a whole number; accepted: a whole number up to"),
        ("RATE_EXEMPT_PATHS", "", "bad list of paths \"\": empty; accepted: comma-separated globs"),
        ("RATE_LIMIT_STORE", "http://me:secret@a", "bad store \"http://***@a\": bad Redis URL: "),
        ("RATE_LIMIT_FALLBACK", "none", "bad fallback \"none\": unknown mode; accepted: local, open or closed"),
        ("RATE_LIMIT_STORE_TIMEOUT", "0", "bad duration \"0\": must be longer than 0; accepted: a duration"),
        ("HSTS_POLICY", "max-age=1; preload", "HSTS preload requires a max-age of at least 31536000 seconds, not 1"),
        ("PERMISSIONS_POLICY", "camera 'none'", "bad permission \"camera 'none'\": expected the form camera=()"),
        (
            "REPORTING_ENDPOINTS",
            "csp=http://r.example",
            "bad reporting endpoint \"http://r.example\": expected an https:// URL",
        ),
        ("CSP_NONCE_HEADER", "X Y", "bad field \"X Y\": not a valid header name; accepted: a header field name"),
        ("KEEP_HEADERS", "server,X Y", "bad field \"X Y\": not a valid header name; accepted: comma"),
        ("FORWARDED_BY", "edge", "bad name \"edge\": not an underscore followed by letters, digits, `.`, `_` or `-`"),
        ("TRACE_CONTEXT", "yes", "bad trace context \"yes\": unknown mode; accepted: pass, begin or restart"),
        ("CACHE_SIZE", "much", "bad size \"much\": not a size in bytes; accepted: a size such as 64MiB"),
        ("CACHE_PATHS", "", "bad list of paths \"\": empty; accepted: comma-separated globs"),
        ("CACHE_MAX_OBJECT", "-1", "bad size \"-1\": not a size in bytes; accepted: a size such as 8MiB"),
        ("COMPRESSION", "gzip", "bad switch \"gzip\": neither true nor false; accepted: true or false"),
        ("BLOCKED_PATHS", "", "bad list of paths \"\": empty; accepted: comma-separated lists"),
        (
            "BLOCKED_PATHS",
            "strickt",
            "bad path rule \"strickt\": neither a list (default, strict) nor a glob that begins with / or *; accepted: comma-separated lists",
        ),
        ("WS_PATHS", "", "bad list of paths \"\": empty; accepted: comma-separated globs"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/99",
            "bad CIDR \"10.0.0.0/99\": the prefix length is greater than 32; accepted: comma-separated CIDRs",
        ),
        ("TRUSTED_PROXIES", "cloudfare", "unknown trusted proxy \"cloudfare\": expected a CIDR"),
        ("PROXY_PROTOCOL", "v3", "bad PROXY protocol \"v3\": unknown version; accepted: off, v1, v2, or any for both"),
        ("MAX_BODY", "10 apples", "bad size \"10 apples\": not a size in bytes; accepted: a size such"),
        ("TLS_MIN_VERSION", "1.1", "bad TLS version \"1.1\": unsupported version; accepted: 1.2 or 1.3"),
        (
            "TLS_CIPHERS",
            "RC4-MD5",
            "bad list of cipher suites \"RC4-MD5\": contains an unknown cipher suite; the supported suites are TLS_AES_256_GCM",
        ),
        ("TLS_CLIENT_AUTH", "maybe", "bad client authentication \"maybe\": unknown mode; accepted: off, optional or"),
        ("BODY_TIMEOUT", "0", "bad duration \"0\": must be longer than 0; accepted: a duration"),
        ("MAX_HEAD", "10", "bad size \"10\": must be 1KiB or more; accepted: a size from 1KiB to 1MiB"),
        ("MAX_TARGET", "1GiB", "bad size \"1GiB\": must be 65534B or less; accepted: a size from 64B to 65534B"),
        ("MAX_FIELDS", "0", "bad number \"0\": must be 1 or more; accepted: a whole number from 1 to 10000"),
        ("MAX_STREAMS", "many", "bad number \"many\": not a whole number; accepted: a whole number from 1 to 10000"),
        ("MAX_HANDSHAKES", "1000001", "bad number \"1000001\": must be 1000000 or less; accepted: a whole number"),
        ("WORKERS", "0", "bad number \"0\": must be 1 or more; accepted: a whole number from 1 to 1024"),
        ("DRAIN_TIMEOUT", "2y", "bad duration \"2y\": longer than a year; accepted: a duration"),
        ("ADMIN_HOSTS", "a:9901", "bad host \"a:9901\": not a name of letters, digits, hyphens and dots; accepted: "),
        (
            "TRUSTED_FIELDS",
            "cookie",
            "bad field \"cookie\": cannot be trusted: clients send this field, or rproxy sets it; accepted: ",
        ),
        ("TRUSTED_FIELDS", "remote_user", "bad field \"remote_user\": cannot be trusted: clients send this field, or"),
        ("ADMIN_LISTEN", "admin", "bad listen address \"admin\": the port is not a number from 0 to 65535; accepted: "),
        ("ACCESS_LOG", "xml", "bad access log \"xml\": unknown format; accepted: off, text or json"),
        ("LOG_LEVEL", "verbose", "bad log filter \"verbose\": \"verbose\" is not a log level; accepted: error, warn"),
    ] {
        let variable = format!("RPROXY_{variable}");
        let error = from_env(&[(&variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}: {message}")), "{variable}={value:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{variable}={value:?}: {error}");
        assert!(error.contains("; accepted: "), "{error}");
    }
}

#[test]
fn check_report_shows_the_configured_value() {
    for (key, value, shown) in [
        ("listen", "127.0.0.1:8080, [::1]:8080,unix:/run/r.sock", "\"127.0.0.1:8080,[::1]:8080,unix:/run/r.sock\""),
        ("listen", ":9000", "\"[::]:9000\""),
        ("http_port", "8081", "8081"),
        ("h2c", "off", "false"),
        ("upstream", "a:1,h2c://b:2,unix:/run/app.sock", "\"http://a:1,h2c://b:2,unix:/run/app.sock\""),
        ("upstream", "3000 weight=3,b:2", "\"http://127.0.0.1:3000 weight=3,http://b:2\""),
        ("upstream_balance", "cookie:sid", "\"cookie:sid\""),
        ("upstream_connect_timeout", "1", "\"1s\""),
        ("upstream_read_timeout", "1m", "\"1m\""),
        ("upstream_request_timeout", "0", "0"),
        ("upstream_request_timeout", "1h", "\"1h\""),
        ("upstream_max_connections", "0", "0"),
        ("upstream_max_connections", "20", "20"),
        ("upstream_http2_ping_interval", "0", "0"),
        ("upstream_http2_ping_interval", "6m", "\"6m\""),
        ("upstream_expect_continue", "Answer", "\"answer\""),
        ("upstream_retries", "0", "0"),
        ("upstream_hold", "10s", "\"10s\""),
        ("upstream_health_path", "/up?deep=1", "\"/up?deep=1\""),
        ("upstream_health_interval", "500ms", "\"500ms\""),
        ("upstream_server_name", "app.internal", "\"app.internal\""),
        ("embed_paths", "/player/**", "\"/player/**\""),
        ("embed_paths", "none", "\"none\""),
        (
            "upstream_pin",
            "sha256//RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=",
            "\"sha256/RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=\"",
        ),
        ("upstream_timeout", "500ms", "\"500ms\""),
        ("upstream_timeout", "90", "\"1m 30s\""),
        ("tls_domains", "A.example, b.example", "\"a.example,b.example\""),
        ("tls_email", "mailto:me@example.com", "\"me@example.com\""),
        ("tls_cache_dir", "/tmp/certs", "\"/tmp/certs\""),
        ("acme_directory", "https://localhost:14000/dir", "\"https://localhost:14000/dir\""),
        ("tls_local", "on", "true"),
        ("acme_directory", "staging", "\"https://acme-staging-v02.api.letsencrypt.org/directory\""),
        ("tls_hosts", "*.Example.org, a.example", "\"*.example.org,a.example\""),
        ("tls_hosts", "*", "\"*\""),
        ("half_close", "Always", "\"always\""),
        ("acme_one_certificate", "on", "true"),
        ("acme_self_signed_fallback", "on", "true"),
        ("tls_min_version", "1.3", "\"1.3\""),
        ("tls_ciphers", "TLS_AES_128_GCM_SHA256", "\"TLS_AES_128_GCM_SHA256\""),
        ("tls_key_log", "/tmp/keys", "\"/tmp/keys\""),
        ("trusted_fields", "X-Forwarded-Host, remote-user", "\"x-forwarded-host,remote-user\""),
        ("admin_hosts", "Proxy.internal,b", "\"proxy.internal,b\""),
        ("body_timeout", "5", "\"5s\""),
        ("head_timeout", "5s", "\"5s\""),
        ("idle_timeout", "20", "\"20s\""),
        ("send_timeout", "20", "\"20s\""),
        ("handshake_timeout", "5", "\"5s\""),
        ("max_head", "64KiB", "\"64KiB\""),
        ("max_target", "4096", "\"4KiB\""),
        ("max_fields", "50", "50"),
        ("max_streams", "32", "32"),
        ("max_requests", "0", "0"),
        ("max_requests", "1000", "1000"),
        ("max_connections", "2000", "2000"),
        ("max_connections_per_client", "100", "100"),
        ("max_handshakes", "512", "512"),
        ("handover_socket", "/run/rproxy/handover", "\"/run/rproxy/handover\""),
        ("rate_limit_enabled", "no", "false"),
        ("rate_limit", "7", "7"),
        ("rate_burst", "9", "9"),
        ("rate_ipv6_prefix", "56", "56"),
        ("rate_ipv6_tiers", "/56:400, 48:1600:2000", "\"56:400:800,48:1600:2000\""),
        ("rate_max_in_flight", "20", "20"),
        ("rate_max_in_flight", "0", "0"),
        ("rate_exempt_paths", "/healthz,/static/**", "\"/healthz,/static/**\""),
        ("rate_limit_store", "memory", "\"memory\""),
        ("rate_limit_store", "redis://me:secret@127.0.0.1/1", "\"redis://***@127.0.0.1/1\""),
        ("rate_limit_fallback", "Open", "\"open\""),
        ("rate_limit_store_timeout", "20ms", "\"20ms\""),
        ("cache_enabled", "0", "false"),
        ("cache_size", "32MiB", "\"32MiB\""),
        ("cache_paths", "/a/**,**/*.{css,js}", "\"/a/**,**/*.{css,js}\""),
        ("cache_max_object", "4096", "\"4KiB\""),
        ("cache_disk", "/var/cache/rproxy", "\"/var/cache/rproxy\""),
        ("cache_disk_size", "536870912", "\"512MiB\""),
        ("cache_query", "drop utm_* fbclid, sort", "\"sort, drop utm_*, fbclid\""),
        ("cache_no_vary_search", "on", "true"),
        ("cache_set_cookie", "Store", "\"store\""),
        ("cache_heuristic", "on", "true"),
        ("cache_request_directives", "on", "true"),
        ("cache_status_key", "on", "true"),
        ("compression", "off", "false"),
        ("hsts", "off", "false"),
        (
            "hsts_policy",
            "preload; max-age=63072000; includesubdomains",
            "\"max-age=63072000; includeSubDomains; preload\"",
        ),
        ("content_security_policy", "script-src 'nonce-{nonce}'", "\"script-src 'nonce-{nonce}'\""),
        ("content_security_policy_report_only", "default-src 'self'", "\"default-src 'self'\""),
        ("csp_nonce_header", "X-Nonce", "\"x-nonce\""),
        ("permissions_policy", "camera=(),usb=self", "\"camera=(), usb=(self)\""),
        ("reporting_endpoints", "csp=/r", "'csp=\"/r\"'"),
        ("keep_headers", "Server, x-powered-by", "\"server,x-powered-by\""),
        ("forwarded", "on", "true"),
        ("forwarded_by", "_edge", "\"_edge\""),
        ("hide_client", "on", "true"),
        ("trace_context", "Begin", "\"begin\""),
        ("filter_enabled", "off", "false"),
        ("filter_strict", "on", "true"),
        ("blocked_paths", "default,/private/**,!/private/ok", "\"default,/private/**,!/private/ok\""),
        ("ws_enabled", "off", "false"),
        ("ws_paths", "/ws/**", "\"/ws/**\""),
        ("ws_origins", "https://a.example,self", "\"https://a.example,self\""),
        ("ws_idle_timeout", "90", "\"1m 30s\""),
        ("ws_lifetime", "1h", "\"1h\""),
        ("ws_max_connections", "1000", "1000"),
        ("ws_max_per_client", "0", "0"),
        ("ws_max_message", "1MiB", "\"1MiB\""),
        ("ws_message_rate", "50", "50"),
        ("ws_ping_interval", "0", "0"),
        ("trusted_proxies", "private,203.0.113.9", "\"private,203.0.113.9\""),
        ("proxy_protocol", "off", "\"off\""),
        ("max_body", "10MB", "\"10000000B\""),
        ("max_body", "0", "0"),
        ("workers", "3", "3"),
        ("drain_timeout", "0", "\"0s\""),
        ("admin_listen", "127.0.0.1:9901", "\"127.0.0.1:9901\""),
        ("access_log", "JSON", "\"json\""),
        ("log_level", "warn,rproxy=debug", "\"warn,rproxy=debug\""),
    ] {
        let config = Sources::new().set(key, value).load().unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
        let report = Report::new(config).render(&[], 0);
        let line = report.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert_eq!(line.split("  #").next().unwrap().trim_end(), format!("{key} = {shown}"));
    }
}

#[test]
fn command_line_overrides_environment_and_environment_overrides_file() {
    let file = file("rate_limit = 1\nrate_burst = 1\ncache_size = \"1MiB\"\n");
    let env = [("RPROXY_RATE_BURST", "2"), ("RPROXY_CACHE_SIZE", "2MiB")];
    let Command::Run(config) = parse(&["--config", file.path_str(), "--cache-size", "3MiB"], &env).unwrap() else {
        panic!("not run")
    };
    assert_eq!(
        (config.rate_limit.rate.requests().get(), config.rate_limit.burst_size().get(), config.cache.size),
        (1, 2, 3 << 20)
    );
    assert_eq!(config.value_source("rate_limit").to_string(), format!("{}:1", file.path_str()));
    assert_eq!(config.value_source("rate_burst").to_string(), "environment");
    assert_eq!(config.value_source("cache_size").to_string(), "command line");
    assert_eq!(config.value_source("hsts").to_string(), "default");
}

#[test]
fn reports_all_configuration_problems_in_the_order_of_the_sources() {
    let file = file(
        "rate_limits = 3\n\
         listen = [\"127.0.0.1\", \":80\"]\n\
         hsts = maybe\n\
         rate_burst = 1 = 2\n\
         rate-limit = 4\n\
         workers = 1\n\
         workers = 2\n\
         cache_size = { a = 1 }\n\
         compression = 2020-01-01\n\
         tls_key = \"/nowhere/key.pem\"\n\
         \n\
         [tls]\n\
         domains = [\"a.example\"]\n",
    );
    let env = [("RPROXY_RATELIMIT", "1"), ("RPROXY_WORKERS", "none"), ("rproxy_listen", "1"), ("RPROXY_LUNCH", "1")];
    let error = parse(&["--config", file.path_str(), "--rate-burst=x", "--proxy-protocol=v2"], &env).unwrap_err();
    let path = file.path_str();
    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            &*format!("{path}:1: unknown setting \"rate_limits\", did you mean \"rate_limit\"?"),
            &*format!(
                "{path}:2: listen: bad listen address \"127.0.0.1\": no port; accepted: comma-separated \
                 ADDRESS:PORT, [IPV6]:PORT, :PORT or unix:/path"
            ),
            &*format!(
                "{path}:3: hsts: string values must be quoted, expected literal string; write the value in quotes: hsts = \"...\""
            ),
            &*format!(
                "{path}:4: rate_burst: unexpected key or value, expected newline, `#`; write the value in quotes: rate_burst = \"...\""
            ),
            &*format!("{path}:5: unknown setting \"rate-limit\", did you mean \"rate_limit\"?"),
            &*format!("{path}:7: workers: duplicate key"),
            &*format!(
                "{path}:8: cache_size: bad value: a table is not supported; accepted: a size such as 64MiB or 1GiB; a bare number is bytes"
            ),
            &*format!(
                "{path}:9: compression: bad value: a date is not supported; accepted: true or false (1/0, yes/no, on/off)"
            ),
            &*format!("{path}:12: unknown setting \"tls\", tables are [[site]], [[site.route]] and [[route]]"),
            "unknown setting \"RPROXY_LUNCH\", rproxy help --all lists all settings",
            "unknown setting \"RPROXY_RATELIMIT\", did you mean \"RPROXY_RATE_LIMIT\"?",
            "unknown setting \"rproxy_listen\", did you mean \"RPROXY_LISTEN\"?",
            "RPROXY_WORKERS: bad number \"none\": not a whole number; accepted: a whole number from 1 to 1024",
            "--rate-burst: bad number \"x\": not a whole number; accepted: a whole number from 1 to 4294967295",
            &*format!("{path}:10: tls_key: requires tls_cert, the certificate of the private key"),
            &*format!("{path}:10: tls_key: /nowhere/key.pem cannot be read: No such file or directory (os error 2)"),
            "--proxy-protocol: requires --trusted-proxies: the PROXY protocol header is accepted from trusted proxies only, and \
             there are none",
        ],
    );
}

#[test]
fn accepts_former_setting_names_with_a_warning() {
    let file = file("takeover = \"/run/a\"\n");
    let env = [("RPROXY_ACME_STAND_IN", "true"), ("RPROXY_TLS_DOMAINS", "a.example")];
    let Command::Run(config) = parse(&["--config", file.path_str(), "--takeover", "/run/b"], &env).unwrap() else {
        panic!("not run")
    };
    assert_eq!(config.process.handover_socket, Some(PathBuf::from("/run/b")));
    assert!(config.tls.acme_self_signed_fallback);
    assert_eq!(
        config.warnings(),
        [
            &*format!("{}:1: takeover is deprecated, use handover_socket instead", file.path_str()),
            "RPROXY_ACME_STAND_IN is deprecated, use RPROXY_ACME_SELF_SIGNED_FALLBACK instead",
            "--takeover is deprecated, use --handover-socket instead",
        ],
    );
    assert!(Report::new(config).render(&[], 0).contains("# Warning: --takeover is deprecated"));
}

#[test]
fn rejects_conflicting_settings() {
    let file = file("");
    let pem = file.path_str();
    for (env, message) in [
        (&[("TLS_CERT", pem)][..], "RPROXY_TLS_CERT: requires RPROXY_TLS_KEY, the private key of the certificate"),
        (&[("TLS_KEY", pem)], "RPROXY_TLS_KEY: requires RPROXY_TLS_CERT, the certificate of the private key"),
        (
            &[("TLS_DOMAINS", "a.example"), ("ACME_CA", "/nowhere")],
            "RPROXY_ACME_CA: /nowhere cannot be read: No such file or directory (os error 2)",
        ),
        (&[("ACME_CA", "/")], "RPROXY_ACME_CA: / is a directory"),
        (&[("ACME_EAB_KID", "kid-1")], "RPROXY_ACME_EAB_KID: requires RPROXY_ACME_EAB_HMAC_KEY"),
        (&[("ACME_EAB_HMAC_KEY", "c2VjcmV0")], "RPROXY_ACME_EAB_HMAC_KEY: requires RPROXY_ACME_EAB_KID"),
        (
            &[("TLS_DOMAINS", "a.example,*.b.example")],
            "RPROXY_TLS_DOMAINS: cannot order a certificate for *.b.example: the TLS-ALPN-01 challenge validates single \
             hosts, and wildcards need DNS-01; list each host, or provide the certificate with RPROXY_TLS_CERT and \
             RPROXY_TLS_KEY",
        ),
        (
            &[("TLS_CERT", pem), ("TLS_KEY", pem), ("TLS_OCSP", "-,-")],
            "RPROXY_TLS_OCSP: each certificate requires an OCSP response or -, in the same order, but RPROXY_TLS_CERT has 1 entries and \
             RPROXY_TLS_OCSP has 2",
        ),
        (
            &[("TLS_LOCAL", "true"), ("TLS_CLIENT_SUBJECT", "X-Subject")],
            "RPROXY_TLS_CLIENT_SUBJECT: requires RPROXY_TLS_CLIENT_AUTH to be optional or required",
        ),
        (
            &[("PROXY_PROTOCOL", "v1")],
            "RPROXY_PROXY_PROTOCOL: requires RPROXY_TRUSTED_PROXIES: the PROXY protocol header is accepted from trusted proxies \
             only, and there are none",
        ),
        (&[("LISTEN", ":80,:80")], "RPROXY_LISTEN: [::]:80 is listed twice"),
        (&[("LISTEN", "127.0.0.1:80,:80")], "RPROXY_LISTEN: 127.0.0.1:80 and [::]:80 overlap"),
        (
            &[("LISTEN", ":80"), ("HTTP_PORT", "80")],
            "RPROXY_HTTP_PORT: port 80 is used by both [::]:80 of RPROXY_LISTEN and the redirect \
             to HTTPS; set RPROXY_HTTP_PORT=0 to disable the redirect",
        ),
        (
            &[("LISTEN", ":80"), ("TLS_LOCAL", "yes")],
            "RPROXY_LISTEN: port 80 is used by both [::]:80 of RPROXY_LISTEN and the redirect \
             to HTTPS; set RPROXY_HTTP_PORT=0 to disable the redirect",
        ),
        (
            &[("ADMIN_LISTEN", "127.0.0.1:8080")],
            "RPROXY_ADMIN_LISTEN: 127.0.0.1:8080 overlaps with the public listener [::]:8080",
        ),
        (
            &[("ADMIN_LISTEN", ":81"), ("HTTP_PORT", "81")],
            "RPROXY_ADMIN_LISTEN: [::]:81 overlaps with the public listener [::]:81",
        ),
        (
            &[("UPSTREAM", "app:1,localhost:8080")],
            "RPROXY_UPSTREAM: http://localhost:8080 is a listener of this proxy: requests would loop",
        ),
        (
            &[("LISTEN", ":3000")],
            "RPROXY_LISTEN: http://127.0.0.1:3000 is a listener of this proxy: requests would loop",
        ),
        (
            &[("CACHE_SIZE", "0")],
            "RPROXY_CACHE_SIZE: a cache of size 0 stores nothing; set RPROXY_CACHE_ENABLED=false to disable the cache",
        ),
    ] {
        let env: Vec<(String, &str)> = env.iter().map(|(name, value)| (format!("RPROXY_{name}"), *value)).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(from_env(&env).unwrap_err().to_string(), message);
    }
}

#[test]
fn accepts_consistent_settings() {
    let file = file("");
    for env in [
        &[][..],
        &[("RPROXY_TLS_CERT", file.path_str()), ("RPROXY_TLS_KEY", file.path_str())],
        &[("RPROXY_TLS_DOMAINS", "*.a.example"), ("RPROXY_TLS_LOCAL", "true")],
        &[("RPROXY_TLS_DOMAINS", "a.example"), ("RPROXY_ACME_REDIS", "redis://:hush@127.0.0.1:1/2")],
        &[("RPROXY_PROXY_PROTOCOL", "v2"), ("RPROXY_TRUSTED_PROXIES", "loopback")],
        &[("RPROXY_LISTEN", ":80"), ("RPROXY_TLS_LOCAL", "true"), ("RPROXY_HTTP_PORT", "0")],
        &[("RPROXY_LISTEN", "127.0.0.1:0,127.0.0.1:0"), ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0")],
        &[("RPROXY_CACHE_SIZE", "0"), ("RPROXY_CACHE_ENABLED", "false")],
        &[("RPROXY_LISTEN", "192.0.2.1:3000")],
        // Variables of a Kubernetes service called rproxy.
        &[("RPROXY_SERVICE_HOST", "10.0.0.1"), ("RPROXY_PORT", "tcp://10.0.0.1:80")],
        // Optional settings may be empty.
        &[
            ("RPROXY_TLS_DOMAINS", ""),
            ("RPROXY_TLS_EMAIL", ""),
            ("RPROXY_TLS_CERT", ""),
            ("RPROXY_TRUSTED_PROXIES", ""),
        ],
        &[("RPROXY_ADMIN_LISTEN", "off"), ("RPROXY_TRUSTED_PROXIES", "none")],
    ] {
        if let Err(error) = from_env(env) {
            panic!("{env:?}: {error}");
        }
    }
}

#[test]
fn each_tls_setting_enables_tls_and_changes_the_default_listeners() {
    let file = file("");
    let pem = file.path_str();
    for (env, listen, redirect) in [
        (&[][..], "[::]:8080", None),
        (&[("RPROXY_TLS_LOCAL", "true")], "[::]:443", Some("[::]:80")),
        (&[("RPROXY_TLS_DOMAINS", "a.example")], "[::]:443", Some("[::]:80")),
        (&[("RPROXY_TLS_CERT", pem), ("RPROXY_TLS_KEY", pem)], "[::]:443", Some("[::]:80")),
        (&[("RPROXY_TLS_LOCAL", "true"), ("RPROXY_HTTP_PORT", "0")], "[::]:443", None),
        (&[("RPROXY_TLS_LOCAL", "true"), ("RPROXY_LISTEN", "[::1]:8443")], "[::1]:8443", Some("[::1]:80")),
        (&[("RPROXY_HTTP_PORT", "8081")], "[::]:8080", Some("[::]:8081")),
        (&[("RPROXY_LISTEN", "unix:/run/r.sock"), ("RPROXY_HTTP_PORT", "81")], "unix:/run/r.sock", None),
    ] {
        let config = from_env(env).unwrap();
        assert_eq!(config.listeners().iter().map(ToString::to_string).collect::<Vec<_>>(), [listen], "{env:?}");
        let listeners = config.redirect_listeners();
        assert_eq!(listeners.first().map(ToString::to_string).as_deref(), redirect, "{env:?}");
    }
}

#[test]
fn tls_local_orders_no_acme_certificates() {
    let config =
        from_env(&[("RPROXY_TLS_DOMAINS", "a.example"), ("RPROXY_TLS_LOCAL", "yes"), ("RPROXY_TLS_EMAIL", "a@b")]);
    let config = config.unwrap();
    assert!(config.tls.acme_domains().is_empty());
    assert_eq!(config.warnings(), ["RPROXY_TLS_EMAIL has no effect: certificates are issued by the local authority"]);
    assert_eq!(from_env(&[("RPROXY_TLS_DOMAINS", "a.example")]).unwrap().tls.acme_domains().len(), 1);
}

#[test]
fn rust_log_applies_if_log_level_is_not_set() {
    for (args, env, filter) in [
        (&[][..], &[][..], "info"),
        (&[], &[("RUST_LOG", "hyper")], "hyper"),
        (&[], &[("RUST_LOG", "")], "info"),
        (&[], &[("RUST_LOG", "debug"), ("RPROXY_LOG_LEVEL", "warn")], "warn"),
        (&["--log-level", "error"], &[("RUST_LOG", "debug")], "error"),
    ] {
        let Command::Run(config) = parse(args, env).unwrap() else { panic!("not run") };
        assert_eq!(config.observe.log_level.to_string(), filter);
    }
    let error = from_env(&[("RUST_LOG", "rproxy=loud")]).unwrap_err().to_string();
    assert!(error.starts_with("RUST_LOG: bad log filter \"rproxy=loud\": "), "{error}");
}

#[test]
fn config_file_accepts_toml_strings_numbers_booleans_and_arrays() {
    let file = file(
        "# a comment\n\
         listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
         upstream = \"a:1, b:2\"\n\
         rate_limit = 1_000\n\
         rate_burst = \"5\"\n\
         hsts = false\n\
         upstream_timeout = 0.5\n\
         cache_paths = [\n  \"/a/**\",\n  \"**/*.{css,js}\",\n]\n\
         workers = 2\n",
    );
    let config = Config::from_file(&file.path).unwrap();
    assert_eq!((config.listeners.listen.len(), config.upstream.backends.len()), (2, 2));
    assert_eq!(
        (config.rate_limit.rate.requests().get(), config.rate_limit.burst_size().get(), config.security_headers.hsts),
        (1000, 5, false)
    );
    assert_eq!(config.upstream.timeout.as_millis(), 500);
    assert_eq!(config.cache.paths.text(), "/a/**,**/*.{css,js}");
    assert_eq!(config.value_source("workers").to_string(), format!("{}:12", file.path_str()));
}

#[test]
fn reports_unreadable_configuration_file_with_its_path() {
    assert_eq!(
        Config::from_file("/nowhere/rproxy.toml").unwrap_err().to_string(),
        "/nowhere/rproxy.toml: cannot read the file: No such file or directory (os error 2)",
    );
}

#[test]
fn reload_applies_the_current_content_of_the_configuration_file() {
    let file = file("rate_limit = 1\n");
    let config = Sources::new().file(&file.path).set("rate_burst", "7").load().unwrap();
    fs::write(&file.path, "rate_limit = 2\n").unwrap();
    let reloaded = config.reload().unwrap();
    assert_eq!(
        (
            config.rate_limit.rate.requests().get(),
            reloaded.rate_limit.rate.requests().get(),
            reloaded.rate_limit.burst_size().get()
        ),
        (1, 2, 7)
    );
    fs::write(&file.path, "rate_limit = 0\n").unwrap();
    assert!(config.reload().is_err());
}

#[test]
fn switch_flags_need_no_value_and_list_flags_may_be_repeated() {
    let Command::Run(config) =
        parse(&["--tls-local", "--hsts", "no", "--compression=off", "--upstream", "a:1", "--upstream", "b:2,c:3"], &[])
            .unwrap()
    else {
        panic!("not run")
    };
    assert!(config.tls.local && !config.security_headers.hsts && !config.compression.enabled);
    assert_eq!(config.upstream.backends.len(), 3);
}

#[test]
fn rejects_invalid_command_line_with_a_hint() {
    for (args, part) in [
        (&["--upstrem", "x"][..], "a similar argument exists: '--upstream'"),
        (&["demmo"], "a similar subcommand exists: 'demo'"),
        (&["--listen"], "a value is required for '--listen <ADDRESS,...>'"),
        (&["--workers", "1", "--workers", "2"], "cannot be used multiple times"),
        (&["demo", "--upstream", "a:1"], "the demo has a built-in upstream"),
    ] {
        match parse(args, &[]) {
            Err(cli::Error::Usage(text)) => assert!(text.contains(part), "{args:?}: {text}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

#[test]
fn help_lists_every_setting() {
    let Command::Help(help) = parse(&["help", "--all"], &[("RPROXY_LISTEN", "bad")]).unwrap() else {
        panic!("no help")
    };
    for setting in settings() {
        assert!(help.contains(&format!("--{} ", setting.flag())), "{}", setting.flag());
        assert!(help.contains(setting.heading), "{}", setting.heading);
    }
    assert!(help.contains("demo") && help.contains("--check") && help.contains("--config <FILE>"));
    assert!(!help.contains("  reference\n"), "the command is hidden");
    let Command::Version(version) = parse(&["--version"], &[]).unwrap() else { panic!("no version") };
    assert_eq!(version.trim(), format!("rproxy {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_fits_on_one_screen() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["demo", "--help"],
        &["explain", "--help"],
        &["trust", "-h"],
        &["switch", "-h"],
    ] {
        let Command::Help(help) = parse(args, &[("RPROXY_LISTEN", "bad")]).unwrap() else { panic!("no help") };
        assert!(help.lines().count() <= 44, "{args:?}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{args:?}: {help}");
        assert!(help.contains("help --all"), "{args:?}: {help}");
    }
    let Command::Help(help) = parse(&["--help"], &[]).unwrap() else { panic!("no help") };
    for part in
        ["Usage: rproxy [OPTIONS]", "--upstream <BACKEND,...>", "[127.0.0.1:3000]", "demo", "trust", "rate-limit,"]
    {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn demo_help_shows_demo_defaults() {
    let Command::Help(help) = parse(&["demo", "--help"], &[]).unwrap() else { panic!("no help") };
    for part in ["[127.0.0.1:8443]", "--tls-local", "[true]", "state/rproxy"] {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert!(!help.contains("--upstream "), "{help}");
}

#[test]
fn help_of_a_topic_lists_its_settings() {
    let Command::Help(help) = parse(&["help", "rate-limit"], &[]).unwrap() else { panic!("no help") };
    assert!(help.contains("--rate-burst") && !help.contains("--listen"), "{help}");
    assert!(matches!(parse(&["help", "rates"], &[]), Err(cli::Error::Usage(text)) if text.contains("rate-limit")));
}

#[test]
fn completion_scripts_contain_every_flag_and_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let Command::Completions(script) = parse(&["completions", shell], &[]).unwrap() else { panic!("no script") };
        for setting in settings() {
            assert!(script.contains(&setting.flag()), "{shell}: {}", setting.flag());
        }
        for subcommand in ["demo", "explain", "completions", "man"] {
            assert!(script.contains(subcommand), "{shell}: {subcommand}");
        }
    }
    assert!(matches!(parse(&["completions", "csh"], &[]), Err(cli::Error::Usage(text)) if text.contains("bash")));
}

#[test]
fn bash_completion_script_completes_flags_in_bash() {
    // Skipped without bash.
    if Process::new("bash").arg("--version").output().is_err() {
        return;
    }
    let Command::Completions(script) = parse(&["completions", "bash"], &[]).unwrap() else { panic!("no script") };
    let complete = "COMP_WORDS=(rproxy --rate-l) COMP_CWORD=1; _rproxy rproxy --rate-l rproxy; echo ${COMPREPLY[@]}";
    // The script is too long for an argument.
    let file = file(&format!("{script}\n{complete}\n"));
    let output = Process::new("bash").args(["--norc", file.path_str()]).output().unwrap();
    let completed = String::from_utf8(output.stdout).unwrap();
    let flags = "--rate-limit-enabled --rate-limit --rate-limit-store --rate-limit-fallback --rate-limit-store-timeout";
    assert_eq!((completed.trim(), &*output.stderr), (flags, &b""[..]));
}

#[test]
fn manual_page_contains_every_setting() {
    let Command::Manual(page) = parse(&["man"], &[]).unwrap() else { panic!("no page") };
    assert!(page.contains(".TH rproxy 1"), "{}", &page[..200]);
    for setting in settings() {
        let flag = setting.flag().replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{flag}")), "{flag}");
    }
    for section in ["SYNOPSIS", "SETTINGS", "FILES", "ENVIRONMENT", "SIGNALS", "EXIT STATUS", "EXAMPLES"] {
        assert!(page.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    for heading in settings().map(|setting| setting.heading) {
        assert!(page.to_uppercase().contains(&heading.to_uppercase()), "{heading}");
    }
}

#[test]
fn check_prints_values_with_their_sources_and_the_layers() {
    let file = file("rate_limit = 7\n");
    let env = [
        ("RPROXY_UPSTREAM", "app:1"),
        ("RPROXY_TLS_DOMAINS", "a.example"),
        ("RPROXY_ACME_EAB_KID", "kid-1"),
        ("RPROXY_ACME_EAB_HMAC_KEY", "c2VjcmV0LWtleQ"),
        ("RUST_LOG", "debug"),
    ];
    let Command::Check(report) = parse(&["--check", "-c", file.path_str(), "--workers", "2"], &env).unwrap() else {
        panic!("no check")
    };
    let text = report.render(&["ClientIp".to_owned(), "RateLimit".to_owned()], 0);
    for (key, value, from) in [
        ("listen", "\"[::]:443\"", "default"),
        ("http_port", "80", "default"),
        ("upstream", "\"http://app:1\"", "RPROXY_UPSTREAM"),
        ("rate_limit", "7", &format!("{}:1", file.path_str())),
        ("workers", "2", "--workers"),
        ("log_level", "\"debug\"", "RUST_LOG"),
        ("cache_size", "\"64MiB\"", "default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        let (shown, origin) = line.split_once(" # ").unwrap();
        assert_eq!((shown.trim_end(), origin), (&*format!("{key} = {value}"), from));
    }
    assert!(text.contains("# acme_eab_hmac_key is set (not shown)"));
    assert!(text.ends_with("#  1. ClientIp\n#  2. RateLimit\n"));
    for secret in [text, format!("{report:?}")] {
        assert!(!secret.contains("c2Vj"), "{secret}");
    }
}

#[test]
fn check_prints_an_equivalent_configuration_file() {
    let env = [("RPROXY_UPSTREAM", "app:1"), ("RPROXY_MAX_BODY", "1000"), ("RPROXY_LOG_LEVEL", "warn,a=debug")];
    let report = Report::new(from_env(&env).unwrap()).render(&[], 0);
    let again = Report::new(Config::from_file(file(&report).path.as_path()).unwrap()).render(&[], 0);
    let values = |report: &str| -> Vec<String> {
        report.lines().filter_map(|line| Some(line.split_once("  # ")?.0.trim_end().to_owned())).collect()
    };
    assert_eq!(values(&report), values(&again));
}

#[test]
fn demo_listens_on_loopback_and_stores_certificates_in_the_state_directory() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    for (env, directory) in [
        (vec![("XDG_STATE_HOME", path)], home.path().join("rproxy")),
        (vec![("HOME", path)], home.path().join(".local/state/rproxy")),
        (vec![("HOME", path), ("XDG_STATE_HOME", "relative")], home.path().join(".local/state/rproxy")),
    ] {
        let Command::Demo(config) = parse(&["demo"], &env).unwrap() else { panic!("no demo") };
        assert_eq!(config.tls.cache_dir, directory);
        assert!(config.tls.local && config.process.admin_listen.is_none() && config.redirect_port().is_none());
        assert_eq!(config.listeners()[0].to_string(), "127.0.0.1:8443");
    }
    let env = [("HOME", "/proc/nowhere"), ("TMPDIR", path), ("RPROXY_LISTEN", "127.0.0.1:3000")];
    let Command::Demo(config) = parse(&["demo", "--rate-limit", "5"], &env).unwrap() else { panic!("no demo") };
    assert_eq!(config.tls.cache_dir.parent(), Some(home.path()));
    assert_eq!(
        (config.rate_limit.rate.requests().get(), config.listeners()[0].to_string()),
        (5, "127.0.0.1:3000".to_owned())
    );
}

#[test]
fn documented_defaults_match_the_default_configuration() {
    use rproxy::config::DefaultValue;
    let plain = Report::new(Config::default()).render(&[], 0);
    for setting in settings() {
        let DefaultValue::Literal(text) = setting.default else { continue };
        let config = Sources::new().set(setting.key, text).load().unwrap();
        let line = |report: &str| {
            let line = report.lines().find(|line| line.starts_with(&format!("{} = ", setting.key))).unwrap();
            line.rsplit_once(" # ").unwrap().0.trim_end().to_owned()
        };
        assert_eq!(line(&Report::new(config).render(&[], 0)), line(&plain), "{}", setting.key);
    }
}

#[test]
fn check_exits_with_0_for_valid_and_2_for_invalid_configurations() {
    let good = binary(&["--check"], &[("RPROXY_UPSTREAM", "127.0.0.1:9000")]);
    let out = String::from_utf8(good.stdout).unwrap();
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(out.contains("upstream = \"http://127.0.0.1:9000\""), "{out}");

    let bad = binary(&["--check", "--workers", "0"], &[("RPROXY_RATELIMIT", "5")]);
    assert_eq!((bad.status.code(), bad.stdout.len()), (Some(2), 0));
    let errors = String::from_utf8(bad.stderr).unwrap();
    assert!(errors.contains("unknown setting \"RPROXY_RATELIMIT\", did you mean \"RPROXY_RATE_LIMIT\"?"), "{errors}");
    assert!(errors.contains("--workers: bad number \"0\": must be 1 or more"), "{errors}");

    let unknown = binary(&["--nonsense"], &[]);
    assert_eq!(unknown.status.code(), Some(2));
    let help = binary(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("--rate-limit"));
    let version = binary(&["--version"], &[]);
    assert_eq!(String::from_utf8(version.stdout).unwrap().trim(), format!("rproxy {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn explain_prints_the_decision_of_the_path_filter() {
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    let default = binary(&["explain", "/a/%2e%2e/.env", "/about?file=.env"], &[]);
    assert_eq!(default.status.code(), Some(0));
    let shown = text(default);
    assert!(shown.starts_with("/a/%2e%2e/.env: blocked\n"), "{shown}");
    assert!(shown.contains("  /.env  blocked by **/.env\n") && shown.contains("/about: allowed\n"), "{shown}");

    // The path of a proxy for other origins is not a URL.
    let path = text(binary(&["explain", "/https://example.org/a"], &[]));
    assert!(path.starts_with("/https://example.org/a: allowed\n"), "{path}");
    let own = text(binary(&["explain", "/private/x"], &[("RPROXY_BLOCKED_PATHS", "/private/**")]));
    assert!(own.contains("blocked by /private/**"), "{own}");
    let off = text(binary(&["explain", "/.env", "--filter-enabled=false"], &[]));
    assert!(off.starts_with("The path filter is disabled"), "{off}");

    for args in [&["explain"][..], &["explain", "env"]] {
        assert_eq!(binary(args, &[]).status.code(), Some(2));
    }
}

#[test]
fn explain_selects_the_route_by_the_request_method() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let route = "[[site]]\nhosts = \"example.org\"\n[[site.route]]\npaths = \"/login\"\nmethods = \"POST\"\n";
    fs::write(&file, route).unwrap();
    for (method, expected) in [
        (&[][..], "route none, the settings of the site apply"),
        (&["--method", "GET"], "route none, the settings of the site apply"),
        (&["--method", "POST"], "route POST /login"),
        (&["--method=post"], "route POST /login"),
    ] {
        let args = [&["--config", file.to_str().unwrap(), "explain"][..], method, &["https://example.org/login"]];
        let output = binary(&args.concat(), &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("  {expected}\n")), "{method:?}: {text}");
    }
    let bad = binary(&["explain", "--method", "a b", "https://example.org/login"], &[]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("not a valid HTTP method"));
}

#[test]
fn check_rejects_invalid_access_settings_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let hash = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let office = path("office", "# Office\n192.0.2.0/24\n192.0.2.0/40\n");
    let md5 = path("md5", &format!("alice:{hash}\nbob:$apr1$u9dGHM6E$9YlkLrhKhpMAG05hfZSsQ1\n"));
    let costly = path("costly", &format!("alice:{}\n", hash.replace("$05$", "$17$")));
    for (setting, value, message) in [
        ("ALLOW", "192.0.2.0/33", "RPROXY_ALLOW: bad CIDR".to_owned()),
        ("DENY", "privat", "RPROXY_DENY: unknown address range \"privat\"".to_owned()),
        ("ALLOW", &*office, format!("RPROXY_ALLOW: {office}:3: bad CIDR")),
        ("BASIC_AUTH", "/no/users", "RPROXY_BASIC_AUTH: /no/users cannot be read".to_owned()),
        (
            "BASIC_AUTH",
            &*md5,
            format!("RPROXY_BASIC_AUTH: {md5}:2: bob has an MD5 hash ($apr1$), which is not supported"),
        ),
        ("BASIC_AUTH", &*costly, format!("RPROXY_BASIC_AUTH: {costly}:1: alice has a bcrypt hash of cost 17")),
        ("BASIC_AUTH_FAILURES", "0", "RPROXY_BASIC_AUTH_FAILURES: ".to_owned()),
        ("FORWARD_AUTH", "127.0.0.1:9091", "RPROXY_FORWARD_AUTH: bad URL".to_owned()),
    ] {
        let output = binary(&["--check"], &[(&format!("RPROXY_{setting}"), value)]);
        assert_eq!(output.status.code(), Some(2), "{setting}={value}");
        let errors = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(errors.contains(&message), "{message} in {errors}");
        assert!(!errors.contains("CCCCCC") && !errors.contains("9Ylk"), "no hashes: {errors}");
    }
    let url = ("RPROXY_FORWARD_AUTH", "http://127.0.0.1:9091/");
    let output = binary(&["--check"], &[url, ("RPROXY_FORWARD_AUTH_FIELDS", "remote-user,host")]);
    let errors = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(errors.contains("RPROXY_FORWARD_AUTH_FIELDS: the field host cannot be copied"), "{errors}");
}

#[test]
fn explain_assumes_a_client_with_access_and_says_so() {
    let access = [("RPROXY_ALLOW", "192.0.2.1"), ("RPROXY_FORWARD_AUTH", "http://127.0.0.1:1/")];
    let output = binary(&["explain", "http://a.example/x"], &access);
    let text = String::from_utf8(output.stdout).unwrap();
    let layers =
        text.find("AddressFilter    allow 192.0.2.1\n").zip(text.find("ForwardAuth      http://127.0.0.1:1/\n"));
    assert!(layers.is_some_and(|(filter, auth)| filter < auth), "{text}");
    assert!(text.contains("result: forwarded as /x\n  (for clients that pass the filter"), "{text}");
    let open = binary(&["explain", "http://a.example/x"], &[]);
    assert!(!String::from_utf8(open.stdout).unwrap().contains("for clients that pass"));
}

#[test]
fn does_not_start_with_an_invalid_configuration() {
    let bad = binary(&[], &[("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_HSTS", "perhaps")]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("RPROXY_HSTS: bad switch \"perhaps\""));
}

#[test]
fn startup_error_names_each_cause_once() {
    let listen = ("RPROXY_LISTEN", "127.0.0.1:0");
    let bad = binary(&[], &[listen, ("RPROXY_CACHE_DISK", "/dev/null/cache")]);
    assert_eq!(bad.status.code(), Some(1));
    let error = String::from_utf8([bad.stdout, bad.stderr].concat()).unwrap();
    assert!(
        error.contains(
            "cannot open the disk cache in cache_disk: cannot store responses in /dev/null/cache: Not a directory"
        ),
        "{error}"
    );
    assert_eq!(error.matches("Not a directory").count(), 1, "{error}");
}

#[test]
fn check_reports_preflight_results() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let env = [
        // RFC 6761 §6.4: this name never resolves.
        ("RPROXY_TLS_DOMAINS", "nowhere.invalid"),
        ("RPROXY_LISTEN", "127.0.0.1:0"),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_TLS_CACHE_DIR", certs.to_str().unwrap()),
    ];
    let checked = binary(&["--check"], &env);
    let out = String::from_utf8(checked.stdout).unwrap();
    // A start and a reload accept the name, too.
    assert_eq!(checked.status.code(), Some(0), "{out}");
    let quiet = binary(&["--check", "--quiet"], &env);
    assert_eq!((quiet.status.code(), quiet.stdout.len(), quiet.stderr.len()), (Some(0), 0, 0));
    let (config, preflight) = out.split_once("\n# Preflight").unwrap();
    assert!(preflight.contains(&format!("ok: {} can be created in", certs.display())), "{out}");
    assert!(preflight.contains("ok: 127.0.0.1:0 can be bound"), "{out}");
    assert!(preflight.contains("note: nowhere.invalid does not resolve: "), "{out}");
    assert!(!certs.exists(), "creates no directory");
    assert!(toml::from_str::<toml::Table>(&out).is_ok(), "the output is still a valid file");
    assert!(config.contains("tls_domains = \"nowhere.invalid\""));
    assert!(!String::from_utf8(binary(&["--check"], &[]).stdout).unwrap().contains("Preflight"));

    let unusable = file("tls_local = true\nlisten = \"127.0.0.1:0\"\ntls_cache_dir = \"/dev/null/certs\"\n");
    let args = ["--config", unusable.path_str(), "--check"];
    let checked = binary(&args, &[]);
    let out = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(2), "a problem is in the exit status");
    let verdict = format!("# rproxy {}: the configuration has a problem", env!("CARGO_PKG_VERSION"));
    assert!(out.starts_with(&verdict), "{out}");
    let quiet = binary(&[&args[..], &["--quiet"]].concat(), &[]);
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(2), 0));
    let error = String::from_utf8(quiet.stderr).unwrap();
    assert!(
        error.starts_with(&format!("{}:3: tls_cache_dir: /dev/null is not a directory", unusable.path_str())),
        "{error}"
    );
    assert!(!error.contains("RPROXY_"), "{error}");
}

#[test]
fn startup_error_names_the_setting_as_its_source_does() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let config = file(&format!("upstream = \"127.0.0.1:9\"\nlisten = \"{listen}\"\n"));
    let in_file = format!("{}:2: listen: ", config.path_str());
    for (args, env, name, short) in [
        (&["--config", config.path_str()][..], &[][..], &*in_file, "set listen to"),
        (&["--listen", &listen], &[], "--listen: ", "set --listen to"),
        (&[], &[("RPROXY_LISTEN", &*listen)], "RPROXY_LISTEN: ", "set RPROXY_LISTEN to"),
    ] {
        let output = binary(args, env);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(error.contains(&format!("{name}cannot listen on {listen}")) && error.contains(short), "{error}");
    }
}

#[test]
fn near_miss_of_a_command_names_the_command_line() {
    for (args, advice) in [
        (&["check"][..], "to validate a configuration, run: rproxy --config FILE --check"),
        (&["check", "my.toml"], "to validate a configuration, run: rproxy --config my.toml --check"),
        (&["--config", "my.toml", "validate"], "to validate a configuration, run: rproxy --config my.toml --check"),
        (&["run"], "to run the proxy, run: rproxy --config FILE"),
        (&["run", "my.toml"], "to run the proxy, run: rproxy --config my.toml"),
        (&["my.toml"], "to read this configuration file, run: rproxy --config my.toml"),
        (&["reload"], "to reload the configuration, send SIGHUP to the process"),
        (&["version"], "to print the version, run: rproxy --version"),
        (&["trust", "--check"], "the command trust does not accept --check"),
        (&["explain", "--check", "/"], "the command explain does not accept --check"),
    ] {
        let output = binary(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.lines().next().unwrap().contains(advice), "{args:?}: {error}");
        assert!(!error.contains("tip:"), "{error}");
    }
}

#[test]
fn trust_command_prints_or_runs_system_commands() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().to_str().unwrap();
    let (bin, done) = (folder.path().join("bin"), folder.path().join("done"));
    fs::create_dir(&bin).unwrap();
    for program in ["install", "rm", "update-ca-certificates"] {
        let script = format!("#!/bin/sh\necho {program} \"$@\" >> {}\n", done.display());
        fs::write(bin.join(program), script).unwrap();
        fs::set_permissions(bin.join(program), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let home = folder.path().join("home");
    let env = [("RPROXY_TLS_CACHE_DIR", certs), ("PATH", bin.to_str().unwrap()), ("HOME", home.to_str().unwrap())];
    let none = binary(&["trust"], &env);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8(none.stderr).unwrap().contains("no local certificate authority in"));

    // Without a configuration, the authority of the demo.
    let demo = home.join(".local/state/rproxy");
    rproxy_tls::Certificates::builder().local(rproxy_tls::LocalCa::new(&demo)).build().unwrap();
    let text = String::from_utf8(binary(&["trust"], &env[1..]).stdout).unwrap();
    assert!(text.starts_with("The certificate of the local authority of rproxy demo is "), "{text}");
    // A named configuration never means the authority of the demo.
    let named = file(&format!("tls_local = true\ntls_cache_dir = \"{certs}\"\n"));
    assert_eq!(binary(&["trust", "--config", named.path_str()], &env[1..]).status.code(), Some(2));
    assert_eq!(binary(&["trust"], &env).status.code(), Some(2));

    rproxy_tls::Certificates::builder().local(rproxy_tls::LocalCa::new(folder.path())).build().unwrap();
    let text = String::from_utf8(binary(&["trust", "--config", named.path_str()], &env[1..]).stdout).unwrap();
    assert!(text.contains(&format!("`rproxy trust --config {} --install`", named.path_str())), "{text}");
    let text = String::from_utf8(binary(&["trust"], &env).stdout).unwrap();
    let ca = folder.path().join("local/ca.pem");
    let install = format!("install -m 0644 {} /usr/local/share/ca-certificates/rproxy-local.crt", ca.display());
    assert!(text.contains(&install) && text.contains("update-ca-certificates\n"), "{text}");
    assert!(!done.exists(), "trust alone runs no command");
    assert_eq!(binary(&["trust", "--install"], &env).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&done).unwrap(), format!("{install}\nupdate-ca-certificates\n"));
    fs::remove_file(&done).unwrap();
    assert_eq!(binary(&["trust", "--remove"], &env).status.code(), Some(0));
    assert!(fs::read_to_string(&done).unwrap().ends_with("update-ca-certificates --fresh\n"));
}

fn binary(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut process = Process::new(env!("CARGO_BIN_EXE_rproxy"));
    process.args(args).env_clear().envs(env.iter().copied());
    process.output().unwrap()
}

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, cli::Error> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    cli::parse(["rproxy"].iter().chain(args), env)
}

fn from_env(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Sources::new().env(env.iter().copied()).load()
}

/// A configuration file in a temporary directory that is removed when the value is dropped.
struct TestFile {
    path: PathBuf,
    _directory: TempDir,
}

impl TestFile {
    fn path_str(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn file(text: &str) -> TestFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rproxy.toml");
    fs::write(&path, text).unwrap();
    TestFile { path, _directory: directory }
}
