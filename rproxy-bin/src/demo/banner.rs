//! The text that `rproxy demo` prints on start.

use std::fmt::Write;
use std::path::Path;

use crate::shell::shell_quoted;

/// Returns commands to try on the demo at `base`, such as `https://localhost:8443`.
///
/// `ca` is the PEM file of the local certificate authority.
pub(crate) fn banner(base: &str, ca: Option<&Path>) -> String {
    let base = base.trim_end_matches('/');
    let tls = base.starts_with("https://");
    let curl = if tls { "curl -k" } else { "curl" };
    let websocket = match base.split_once("://") {
        Some(("https", host)) => format!("npx wscat --no-check -c wss://{host}/ws"),
        Some((_, host)) => format!("npx wscat -c ws://{host}/ws"),
        None => format!("npx wscat -c ws://{base}/ws"),
    };
    let tries = [
        ("the demo page (best in a browser)", format!("{curl} {base}/")),
        ("a cacheable asset", format!("{curl} -i {base}/static/now.txt")),
        ("the same asset as a cache hit", format!("{curl} -i {base}/static/now.txt")),
        ("the TLS session", format!("{curl} {base}/api/tls")),
        ("server-sent events", format!("{curl} -N {base}/events")),
        ("the request that the backend got", format!("{curl} {base}/api/echo")),
        ("live metrics", format!("{curl} -N {base}/api/metrics")),
        ("404 from the path filter", format!("{curl} -i {base}/.env")),
        // A single curl: a process per request would be too slow to reach the limit.
        (
            "429 from the rate limit",
            format!("{curl} -s -o /dev/null -w '%{{http_code}}\\n' '{base}/api/echo?[1-400]' | sort | uniq -c"),
        ),
        ("a WebSocket that echoes messages", websocket),
    ];
    let width = tries.iter().map(|(shows, _)| shows.len()).max().unwrap_or_default();

    let mut text = format!("rproxy demo: {base}/\n\n");
    // Commands come last without a comment, which not every shell accepts when pasted.
    for (shows, command) in tries {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "  {shows:<width$}  {command}");
    }
    if let Some(ca) = ca.filter(|_| tls) {
        let ca = shell_quoted(ca.as_os_str());
        let _ = write!(
            text,
            "\nThe certificate is issued by a local certificate authority. To verify it, run\n  \
             curl --cacert {ca} {base}/\nTo see how to add the authority to the trust store of this machine, run\n  rproxy trust\n"
        );
    }
    text.push_str("\nPress Ctrl-C to stop.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_commands_use_the_base_url_and_skip_certificate_verification() {
        let text = banner("https://localhost:8443/", Some(Path::new("/state/local/ca.pem")));
        for line in [
            "rproxy demo: https://localhost:8443/\n",
            "  curl -k https://localhost:8443/\n",
            "  curl -k -N https://localhost:8443/events\n",
            "  curl -k https://localhost:8443/api/echo\n",
            "  curl -k -i https://localhost:8443/.env\n",
            "'%{http_code}\\n' 'https://localhost:8443/api/echo?[1-400]'",
            "  npx wscat --no-check -c wss://localhost:8443/ws\n",
            "  curl --cacert /state/local/ca.pem https://localhost:8443/\n",
            "  rproxy trust\n",
            "Press Ctrl-C to stop",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("curl -k -i https://localhost:8443/static/now.txt").count(), 2);
    }

    #[test]
    fn demo_commands_without_tls_do_not_mention_a_certificate() {
        let text = banner("http://127.0.0.1:8080", Some(Path::new("/ca.pem")));
        assert!(text.contains("curl http://127.0.0.1:8080/") && text.contains("-c ws://127.0.0.1:8080/ws"));
        assert!(!text.contains("-k") && !text.contains("ca.pem") && !text.contains("--no-check"));
    }
}
