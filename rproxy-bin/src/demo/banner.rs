//! What `rproxy demo` prints when it serves.

use std::fmt::Write;
use std::path::Path;

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
        (format!("{curl} {base}/"), "the page, through every layer; better in a browser"),
        (format!("{curl} -i {base}/static/demo.css"), "an asset; the second time Cache-Status says hit"),
        (format!("{curl} -i {base}/static/demo.css"), "the second time"),
        (format!("{curl} -N {base}/events"), "server-sent events, each when it is sent"),
        (format!("{curl} {base}/api/echo"), "the request as the backend sees it"),
        (format!("{curl} -i {base}/.env"), "404 by the path filter"),
        // One curl for all: processes of their own would not be fast enough to run into the limit.
        (
            format!("{curl} -s -o /dev/null -w '%{{http_code}}\\n' '{base}/api/echo?[1-400]' | sort | uniq -c"),
            "400 requests; those over the rate limit get 429",
        ),
        (websocket, "a WebSocket that sends back what it gets; the page has one, too"),
    ];

    let mut text = format!("rproxy demo: {base}/\n\nTry\n");
    for (command, shows) in tries {
        // Infallible for a String.
        let _ = writeln!(text, "  {command}  # {shows}");
    }
    if let Some(ca) = ca.filter(|_| tls) {
        let ca = quoted(&ca.display().to_string());
        let _ = write!(
            text,
            "\nThe certificate is from a local CA of your own. To do without -k, name the CA\n  \
             curl --cacert {ca} {base}/\nor import that file where your browser keeps its authorities.\n"
        );
    }
    text.push_str("\nCtrl-C ends it.\n");
    text
}

/// As a shell takes it for one word.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%:".contains(c);
    match !path.is_empty() && path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_goes_to_the_base_with_the_certificate_unchecked() {
        let text = banner("https://localhost:8443/", Some(Path::new("/state/local/ca.pem")));
        for line in [
            "rproxy demo: https://localhost:8443/\n",
            "  curl -k https://localhost:8443/  # ",
            "  curl -k -N https://localhost:8443/events  # ",
            "  curl -k https://localhost:8443/api/echo  # ",
            "  curl -k -i https://localhost:8443/.env  # ",
            "'%{http_code}\\n' 'https://localhost:8443/api/echo?[1-400]'",
            "  npx wscat --no-check -c wss://localhost:8443/ws  # ",
            "  curl --cacert /state/local/ca.pem https://localhost:8443/\n",
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

    #[test]
    fn a_path_is_one_word_to_the_shell() {
        for (path, word) in
            [("/a/ca.pem", "/a/ca.pem"), ("/a b/ca.pem", "'/a b/ca.pem'"), ("/it's", r"'/it'\''s'"), ("", "''")]
        {
            assert_eq!(quoted(path), word);
        }
    }
}
