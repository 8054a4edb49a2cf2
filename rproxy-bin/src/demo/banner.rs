//! What `rproxy demo` prints when it serves.

use std::fmt::Write;
use std::path::Path;

use crate::trust::shell_quoted;

/// What to try on the demo at `base`, such as `https://localhost:8443`; `ca` is the PEM file of the local CA.
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
        ("the page; better in a browser", format!("{curl} {base}/")),
        ("an asset that may be cached", format!("{curl} -i {base}/static/demo.css")),
        ("again: Cache-Status says hit", format!("{curl} -i {base}/static/demo.css")),
        ("events, each when it is sent", format!("{curl} -N {base}/events")),
        ("what the backend sees", format!("{curl} {base}/api/echo")),
        ("404 by the path filter", format!("{curl} -i {base}/.env")),
        // One curl for all: processes of their own would not be fast enough to run into the limit.
        (
            "429 by the rate limit",
            format!("{curl} -s -o /dev/null -w '%{{http_code}}\\n' '{base}/api/echo?[1-400]' | sort | uniq -c"),
        ),
        ("a WebSocket; the page has one", websocket),
    ];
    let width = tries.iter().map(|(shows, _)| shows.len()).max().unwrap_or_default();

    let mut text = format!("rproxy demo: {base}/\n\n");
    // The command last, and no comment behind it: not every shell takes one when it is pasted.
    for (shows, command) in tries {
        // Infallible for a String.
        let _ = writeln!(text, "  {shows:<width$}  {command}");
    }
    if let Some(ca) = ca.filter(|_| tls) {
        let ca = shell_quoted(ca.as_os_str());
        let _ = write!(
            text,
            "\nThe certificate is from a local CA of your own. To do without -k, name the CA\n  \
             curl --cacert {ca} {base}/\nor have this machine trust it, which this tells how:\n  rproxy trust\n"
        );
    }
    text.push_str("\nCtrl-C ends it.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_goes_to_the_base_with_the_certificate_unchecked() {
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
            "Ctrl-C",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("curl -k -i https://localhost:8443/static/demo.css").count(), 2);
    }

    #[test]
    fn without_tls_there_is_no_certificate_to_speak_of() {
        let text = banner("http://127.0.0.1:8080", Some(Path::new("/ca.pem")));
        assert!(text.contains("curl http://127.0.0.1:8080/") && text.contains("-c ws://127.0.0.1:8080/ws"));
        assert!(!text.contains("-k") && !text.contains("ca.pem") && !text.contains("--no-check"));
    }
}
