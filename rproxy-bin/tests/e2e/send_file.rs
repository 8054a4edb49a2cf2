//! Tests of files that a backend names in `X-Accel-Redirect` or `X-Sendfile`.

use crate::static_files::{Files, send};
use crate::support::request;
use crate::support::upstream::{Nginx, ok, responding};

#[test]
fn backend_names_a_file_and_the_client_cannot() {
    let files = Files::new();
    let root = files.path("private");
    let upstream = responding(move |head| {
        let target = head.split(' ').nth(1).unwrap();
        let named = match target {
            "/accel" => "X-Accel-Redirect: /protected/report.pdf".to_owned(),
            "/sendfile" => format!("X-Sendfile: {}", root.join("report.pdf").display()),
            "/up" => "X-Accel-Redirect: /protected/../secret.txt".to_owned(),
            "/passwd" => "X-Sendfile: /etc/passwd".to_owned(),
            "/missing" => "X-Accel-Redirect: /protected/missing".to_owned(),
            _ => return ok(head),
        };
        format!(
            "HTTP/1.1 200 OK\r\n{named}\r\nContent-Type: application/x-report\r\nSet-Cookie: a=1\r\n\
                 Content-Disposition: attachment\r\nCache-Control: private\r\nContent-Length: 4\r\n\r\nnone"
        )
    });
    let proxy = files
        .start(&format!("upstream = '{upstream}'\nsendfile_root = 'FOLDER/private'\nsendfile_prefix = '/protected'"));
    for target in ["/accel", "/sendfile"] {
        let response = send(&proxy, target, "");
        assert_eq!((response.status, response.body.as_str()), (200, "report"), "{}", response.head);
        for (name, value) in [
            ("content-type", "application/x-report"),
            ("content-disposition", "attachment"),
            ("cache-control", "private"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(response.header(name), Some(value), "{}", response.head);
        }
        assert!(!response.head.to_ascii_lowercase().contains("x-accel"), "{}", response.head);
        assert!(!response.head.to_ascii_lowercase().contains("x-sendfile"), "{}", response.head);
        let tag = format!("if-none-match: {}\r\n", response.header("etag").unwrap());
        assert_eq!(send(&proxy, target, &tag).status, 304);
        let part = send(&proxy, target, "range: bytes=2-\r\n");
        assert_eq!((part.status, part.body.as_str()), (206, "port"));
    }
    for (target, status) in [("/up", 502), ("/passwd", 502), ("/missing", 404)] {
        let response = send(&proxy, target, "");
        assert_eq!(response.status, status, "{target}: {}", response.head);
        assert!(!response.body.contains("secret") && !response.body.contains("root:"), "{}", response.body);
    }
    proxy.wait_for_log("a path that is not below");
    let spoofed = "X-Accel-Redirect: /protected/report.pdf\r\nX-Sendfile-Type: X-Accel-Redirect\r\n\
                   X_Accel_Mapping: /=/\r\nX-Sendfile: /etc/passwd\r\nX-Own: 1\r\n";
    let received = send(&proxy, "/echo", spoofed).body.to_ascii_lowercase();
    assert!(received.contains("x-own: 1"), "{received}");
    assert!(!received.contains("accel") && !received.contains("sendfile"), "{received}");
}

#[test]
fn file_of_the_backend_has_the_fields_that_nginx_keeps() {
    let files = Files::new();
    let upstream = responding(|_| {
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /protected/report.pdf\r\nContent-Type: application/x-report\r\n\
         Content-Disposition: attachment\r\nSet-Cookie: a=1\r\nCache-Control: private\r\nExpires: 0\r\n\
         ETag: \"old\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
            .to_owned()
    });
    let private = files.path("private");
    let Some(nginx) = Nginx::start(&format!(
        "location / {{ proxy_pass http://{upstream}; }} location /protected/ {{ internal; alias {}/; }}",
        private.display()
    )) else {
        return;
    };
    let proxy = files.start(&format!(
        "upstream = '{upstream}'\nsendfile_root = '{}'\nsendfile_prefix = '/protected'",
        private.display()
    ));
    for fields in ["", "range: bytes=2-\r\n", "range: bytes=0-0\r\nif-range: \"old\"\r\n", "if-none-match: *\r\n"] {
        let line = format!("GET / HTTP/1.1\r\nhost: a.example\r\n{fields}connection: close\r\n\r\n");
        let (ours, theirs) = (request(proxy.address, &line), request(nginx.address, &line));
        assert_eq!((ours.status, &ours.body), (theirs.status, &theirs.body), "{fields}");
        let all = ["content-disposition", "set-cookie", "cache-control", "expires", "last-modified"];
        let with_content = ["content-type", "content-length", "content-range"];
        let names = all.into_iter().chain(with_content.into_iter().filter(|_| ours.status != 304));
        for name in names {
            assert_eq!(ours.header(name), theirs.header(name), "{name} {fields}: {}", ours.head);
        }
    }
}
