//! Applications behind the default settings, over plain HTTP and TLS: the programs are in `tests/applications`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::clients::{Application, Browser, START, has_node, node, run, tls};
use crate::support::upstream::responding;
use crate::support::{Proxy, has};

const ACCESS_LOG: (&str, &str) = ("RPROXY_ACCESS_LOG", "json");

/// Returns whether Debian's package of a Python module is installed.
fn has_python(module: &str) -> bool {
    let is_installed = Path::new("/usr/lib/python3/dist-packages").join(module).is_dir();
    assert!(
        is_installed || std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(),
        "the Python module {module} is required and not installed"
    );
    if !is_installed {
        eprintln!("skipped: the Python module {module} is not installed");
    }
    is_installed
}

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/applications").join(script));
    command
}

/// Returns the lines of the access log as objects.
fn logged(proxy: &Proxy) -> Vec<Value> {
    proxy.outputs("\"status\"").iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn django_admin_accepts_login_and_forms() {
    if !has_python("django") {
        return;
    }
    let authority = tempfile::tempdir().unwrap();
    for (scheme, settings) in [("http", &[][..]), ("https", &tls(&authority)[..])] {
        let application = Application::run(&mut python("django_site.py"));
        let proxy = application.proxy(&[settings, &[ACCESS_LOG]].concat());
        let url = format!("{scheme}://localhost:{}", proxy.address.port());
        assert_eq!(run(python("django_admin.py").arg(url)), "logged in, added a group, logged out");
        assert!(logged(&proxy).iter().all(|line| line["refused"].is_null()), "{:?}", logged(&proxy));
    }
}

#[test]
fn grpc_stream_survives_a_client_that_is_silent_for_longer_than_the_body_timeout() {
    if !has_python("grpc") {
        return;
    }
    let authority = tempfile::tempdir().unwrap();
    let application = Application::run(&mut python("grpc_server.py"));
    let upstream = format!("h2c://{}", application.address());
    for (ca, settings) in [("-".into(), &[][..]), (authority.path().join("local/ca.pem"), &tls(&authority)[..])] {
        let basic =
            [("RPROXY_UPSTREAM", &*upstream), ("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_BODY_TIMEOUT", "300ms")];
        let proxy = Proxy::run(&[], &[&basic, settings].concat());
        let target = format!("localhost:{}", proxy.address.port());
        let output = run(python("grpc_client.py").arg(target).arg(ca).arg("1"));
        assert_eq!(output, "stream, ticks and errors");
    }
}

#[test]
fn chromium_loads_700_modules_of_vite() {
    if !has_node() || !has("chromium") {
        return;
    }
    let (authority, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, content: &str| std::fs::write(site.path().join(name), content).unwrap();
    let mut main = String::new();
    for number in 0..MODULES {
        write(&format!("m{number}.js"), &format!("export default {number};\n"));
        writeln!(main, "import m{number} from './m{number}.js';").unwrap();
    }
    let names: Vec<_> = (0..MODULES).map(|number| format!("m{number}")).collect();
    write("main.js", &format!("{main}fetch('/loaded?sum=' + [{}].reduce((a, b) => a + b));\n", names.join(", ")));
    write("index.html", "<!doctype html><link rel=icon href=data:,><script type=module src=/main.js></script>");
    for (scheme, settings) in [("http", &[][..]), ("https", &tls(&authority)[..])] {
        let application = Application::run(node("vite-server.mjs").arg(site.path()));
        let proxy = application.proxy(&[settings, &[ACCESS_LOG]].concat());
        let _browser = Browser::open(&format!("{scheme}://localhost:{}/", proxy.address.port()));
        let sum = MODULES * (MODULES - 1) / 2;
        proxy.wait_for_output_within(&format!("/loaded?sum={sum}\""), START);
        let lines = logged(&proxy);
        let modules = lines.iter().filter(|line| line["target"].as_str().is_some_and(|it| it.starts_with("/m")));
        assert!(modules.clone().count() > MODULES, "{scheme}");
        let failed: Vec<_> = modules.filter(|line| line["status"] != 200).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

const MODULES: usize = 700;

#[test]
fn login_popup_of_another_origin_reaches_its_opener() {
    if !has("chromium") {
        return;
    }
    let authority = tempfile::tempdir().unwrap();
    for (scheme, settings) in [("http", &[][..]), ("https", &tls(&authority)[..])] {
        let provider = responding(|_| {
            html("<script>if (opener) { opener.postMessage({ token: 'secret' }, '*'); close(); }</script>")
        });
        let provider = Proxy::start(provider, settings);
        // Another origin, by its host and its port.
        let login = format!("{scheme}://127.0.0.1:{}/login", provider.address.port());
        let page = format!(
            "<!doctype html><link rel=icon href=data:,><script>
             addEventListener('message', (event) => fetch('/token?' + event.data.token));
             const popup = open('{login}', 'login', 'width=400,height=400');
             const timer = setInterval(() => {{ if (popup.closed) {{ clearInterval(timer); fetch('/closed'); }} }}, 50);
             </script>"
        );
        let application = responding(move |_| html(&page));
        let proxy = Proxy::start(application, &[settings, &[ACCESS_LOG]].concat());
        let _browser = Browser::open(&format!("{scheme}://localhost:{}/", proxy.address.port()));
        // With its opener cut off, a popup would count as closed and send nothing.
        for target in ["/token?secret\"", "/closed\""] {
            proxy.wait_for_output_within(target, START);
        }
    }
}

fn html(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
