//! Tests of the curated lists, of custom rules, and of the syntax of rule lists.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rproxy_path_filter::PathRules;

#[test]
fn strict_list_blocks_sensitive_paths() {
    let rules = PathRules::strict();
    for path in [
        "/.env",
        "/.env.local",
        "/.env.production",
        "/.env~",
        "/.env.bak",
        "/app/.env",
        "/prod.env",
        "/.git/config",
        "/.git",
        "/.git/HEAD",
        "/.gitignore",
        "/.svn/entries",
        "/.hg/store",
        "/GIT~1/config",
        "/.DS_Store",
        "/.htaccess",
        "/.htpasswd",
        "/.ssh/id_rsa",
        "/id_rsa",
        "/.aws/credentials",
        "/.docker/config.json",
        "/.kube/config",
        "/.npmrc",
        "/.vscode/settings.json",
        "/server.key",
        "/certs/private.pem",
        "/store.p12",
        "/backup.sql",
        "/db.sqlite3",
        "/dump.sql.gz",
        "/backup.zip",
        "/index.php.bak",
        "/index.php~",
        "/config.php.save",
        "/.index.php.swp",
        "/wp-config.php",
        "/wp-config.php.bak",
        "/wp-config.old",
        "/web.config",
        "/appsettings.Production.json",
        "/docker-compose.yml",
        "/docker-compose.override.yml",
        "/Dockerfile",
        "/.gitlab-ci.yml",
        "/.github/workflows/ci.yml",
        "/.circleci/config.yml",
        "/terraform.tfstate",
        "/terraform.tfvars",
        "/composer.lock",
        "/composer.json",
        "/server-status",
        "/phpinfo.php",
        "/actuator/env",
        "/actuator/heapdump",
        "/WEB-INF/web.xml",
        "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
        "/error_log",
        "/.well-known/../.env",
        "/.well-known/.env",
        "/.well-known/.git/config",
        "/remote.php/../.env",
        // Exceptions apply only below folders that cannot be files.
        "/.env/remote.php/x",
        "/.git/config/public.php/x",
        "/wp-config.php/remote.php/dav/x",
        "/.env/.well-known/x",
        "/.env/node_modules/.vite/x",
        "/.nuxt/.env",
        "/_matrix/../../../etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/api/v4/projects/..%2f..%2f..%2f..%2fetc/passwd",
        "/..data/token",
        "/dump.sql.tar.gz",
        "/index.php_bak",
        "/wp-config-sample.php",
        "/wp-config_old.php",
        "/debug/pprof/heap",
        "/elmah.axd",
        "/sftp-config.json",
        "/secring.gpg",
        "/_matrix/../.git/config",
    ] {
        assert!(rules.blocking_rule(path).is_some(), "{path} is allowed: {}", rules.explain(path));
    }
}

#[test]
fn curated_lists_allow_paths_of_real_applications() {
    for path in [
        "/",
        "/index.html",
        "/robots.txt",
        "/favicon.ico",
        "/sitemap.xml",
        "/manifest.json",
        "/sw.js",
        "/package.json",
        // RFC 8615
        "/.well-known/acme-challenge/x_-Y",
        "/.well-known/security.txt",
        "/.well-known/matrix/server",
        "/.well-known/openid-configuration",
        "/.well-known/assetlinks.json",
        "/.well-known/carddav",
        "/.well-known/",
        // Next.js
        "/_next/static/chunks/app/%5Bslug%5D/page-1a2b3c.js",
        "/_next/static/css/0a1b.css",
        "/_next/image",
        "/_next/data/build-id/index.json",
        "/_next/webpack-hmr",
        "/_next/static/media/inter.woff2",
        // Vite, Nuxt, SvelteKit
        "/@vite/client",
        "/@fs/home/user/app/src/main.ts",
        "/@id/__x00__virtual:uno.css",
        "/node_modules/.vite/deps/react.js",
        "/src/App.vue",
        "/@react-refresh",
        "/_nuxt/entry.abc.js",
        "/_app/immutable/entry/start.js",
        // Django
        "/admin/login/",
        "/admin/auth/user/1/change/",
        "/static/admin/css/base.css",
        "/media/photos/me.v2.jpg",
        "/__debug__/",
        // Rails
        "/rails/active_storage/blobs/redirect/eyJfcmFpbHMi--abc/photo.png",
        "/assets/application-0f1e.js",
        "/cable",
        "/up",
        // WordPress
        "/wp-login.php",
        "/wp-admin/",
        "/wp-admin/admin-ajax.php",
        "/wp-content/uploads/2026/11/photo-300x200.jpg",
        "/wp-includes/js/jquery/jquery.min.js",
        "/wp-json/wp/v2/posts",
        "/xmlrpc.php",
        "/wp-cron.php",
        "/2026/11/hello-world/",
        // Nextcloud
        "/index.php/apps/files/",
        "/remote.php/dav/files/alice/.hidden/notes.md",
        "/remote.php/dav/files/alice/backup.sql",
        "/remote.php/webdav/keys/server.key",
        "/status.php",
        "/ocs/v2.php/cloud/capabilities",
        "/core/js/dist/main.js",
        // GitLab, Gitea
        "/group/project.git/info/refs",
        "/group/project/-/blob/main/.gitlab-ci.yml",
        "/group/project/-/raw/main/.env.example",
        "/group/sub/project/-/tree/main/.github",
        "/api/v4/projects/1/repository/files/%2Egitignore/raw",
        "/user/repo/src/branch/main/.gitignore",
        "/user/repo/raw/branch/main/docker-compose.yml",
        "/-/health",
        // Matrix
        "/_matrix/client/v3/sync",
        "/_matrix/media/v3/download/example.org/AbC.env",
        "/_synapse/admin/v1/users",
        "/_matrix/client/v3/rooms/%21abc%3Aexample.org/state/m.room.member/%40user%3Aexample.org",
        "/_matrix/client/v3/directory/room/%23room%3Aexample.org",
        // User files of any name in Rails and GitLab
        "/rails/active_storage/blobs/redirect/eyJf--0a1b/backup.sql",
        "/group/project/uploads/0123456789abcdef0123456789abcdef/backup.sql",
        "/-/project/7/uploads/0123456789abcdef0123456789abcdef/server.key",
        "/-/snippets/1/raw/main/.env",
        "/api/v4/projects/group%2Fproject/repository/files/app%2F.env.example/raw",
        "/user/repo/_edit/main/.gitignore",
        "/nextcloud/remote.php/dav/files/alice/.hidden",
        "/remote.php/dav/files/alice/a%20b/%23x/.env",
        // Development servers
        "/.vitepress/theme/index.ts",
        "/@fs/home/user/app/.svelte-kit/generated/root.js",
        "/@fs/home/user/app/node_modules/.pnpm/react@18/node_modules/react/index.js",
        "/_nuxt/virtual:nuxt:%2Fhome%2Fuser%2Fapp%2F.nuxt%2Fpaths.mjs",
        "/_next/static/chunks/app/(.)photo/%5B...slug%5D/page-1.js",
        // Names and formats that begin with a dot
        "/wiki/.NET",
        "/wiki/.NET_Framework",
        "/wiki/...And_Justice_for_All_(album)",
        "/wiki/%E2%80%A6and",
        "/r/rust/.json",
        "/realms/master/.well-known/openid-configuration",
        // Pages about blocked files
        "/docs/dockerfile/",
        "/blog/wp-config-explained/",
        "/applicationform.yaml",
        // Signatures and public keys
        "/linux/debian/gpg.key",
        "/nodesource-repo.gpg.key",
        "/KEY.gpg",
        "/release.tar.gz.asc",
        // Paths with several decodings, none of which is sensitive
        "/proxy/https%3A%2F%2Fexample.com%2Fa;b%3Fx%3D1%252F2",
        "/caf%E9/menu",
        "/%C0%20la%20carte",
        "/wiki/Who%3F",
        "/wiki/Dr.",
        "/wiki/%E3%83%A2%E3%83%BC%E3%83%8B%E3%83%B3%E3%82%B0%E5%A8%98%E3%80%82",
        "/wiki/Clannad~After~",
        "/search/50%2525",
        "/a::b",
        "/%20/",
        // Grafana and others
        "/api/health",
        "/public/build/runtime.js",
        "/d/abc/dashboard",
        "/metrics",
        "/actuator/health",
        "/swagger/v1/swagger.json",
        "/a.b.c/d",
        "/user/john.doe",
        "/v1.2.3/docs",
        "/files/report.final.pdf",
        "/search/c%2B%2B",
        "/a%2Fb",
        "/caf%C3%A9",
        "/@user",
        "/~user/",
        "/page;v=1",
        "/time/12:30",
        "/keys",
        "/environment",
        "/dotenv",
        "/git/",
        "/backup",
        "/a//b",
        "/certs/site.crt",
        "/download/app.tar.gz",
        "/emoji/%F0%9F%98%80",
        "/%E6%97%A5%E6%9C%AC",
    ] {
        for rules in [PathRules::sensitive(), PathRules::strict()] {
            assert!(rules.blocking_rule(path).is_none(), "{}", rules.explain(path));
        }
    }
}

#[test]
fn default_list_blocks_secrets_in_encoded_and_obfuscated_paths() {
    let rules = PathRules::sensitive();
    for path in [
        "/.ENV",
        "/%2eenv",
        "/%2Eenv",
        "/%252eenv",
        "/%25252eenv",
        "/%u002eenv",
        "/.%65nv",
        "//.env",
        "/./.env",
        "/a/../.env",
        "/a/..%2f.env",
        "/a/%2e%2e/.env",
        "/a/..;/.env",
        "/.env;a=b",
        "/.env;.css",
        "/;/.env",
        "/.env%00",
        "/.env%00.png",
        "/.env%2500.css",
        "/.env.",
        "/.env%20",
        "/.env%20.",
        "/.env/",
        "/.env/.",
        "/.env//",
        "/.env::$DATA",
        "/.env%3a%3a$data",
        "/\u{ff0e}env",
        "/%ef%bc%8eenv",
        "/%c0%aeenv",
        "/%e0%80%aeenv",
        "/%f0%80%80%aeenv",
        "/%E2%80%A4env",
        "/..\\.env",
        "/a%5c.env",
        "/a%255c.env",
        "/static/..%5c.env",
        "/.%2565nv",
        "/.env%09",
        "/.git%2fconfig",
        "/.git%5cconfig",
        "/.g%69t/config",
        "/.git//config",
        "/.git/./config",
        "/.GIT/config",
        "/.git;/config",
        "/.well-known/%2e%2e/.git/config",
        "/.env%0a",
        "/.env%0d%0a",
        "/.env%ff",
        "/%00/.env",
        "/.e%6ev",
        "/%5c.env",
    ] {
        assert!(rules.blocking_rule(path).is_some(), "{path} is allowed: {}", rules.explain(path));
    }
}

#[test]
fn last_matching_rule_decides_for_each_decoding() {
    let rules = PathRules::builder().block("/private/**").unwrap().allow("/private/ok").unwrap().build().unwrap();
    for (path, blocked) in [
        ("/private", true),
        ("/private/", true),
        ("/private/a/b", true),
        ("/PRIVATE/a", true),
        ("/private/ok", false),
        ("/private/ok/", true),
        ("/private/ok/../a", true),
        ("/private/ok%2f..%2fa", true),
        ("/private/ok;/../a", true),
        ("/x/../private/a", true),
        ("/x/%2e%2e/private/a", true),
        ("/x//../private/a", true),
        ("/privately", false),
        ("/public", false),
    ] {
        assert_eq!(rules.blocking_rule(path).is_some(), blocked, "{}", rules.explain(path));
    }
}

#[test]
fn custom_rules_add_paths_and_exemptions_to_the_curated_list() {
    let rules = PathRules::parse_list("default, /private/**, **/*.{xls,doc}, !/.env.example").unwrap();
    for (path, blocked) in
        [("/.env", true), ("/private/x", true), ("/a/b.doc", true), ("/.env.example", false), ("/a", false)]
    {
        assert_eq!(rules.blocking_rule(path).is_some(), blocked, "{}", rules.explain(path));
    }
    assert_eq!(&*rules.blocking_rule("/private/x").unwrap(), "/private/**");
}

#[test]
fn rule_lists_combine_list_names_and_globs_in_order() {
    // `.DS_Store` is in the strict list, `.env` in both.
    for (list, ds_store, env, private) in [
        ("default", false, true, false),
        ("strict", true, true, false),
        ("Strict", true, true, false),
        ("default,strict", true, true, false),
        ("strict,default", true, true, false),
        ("/private/**", false, false, true),
        ("default,/private/**", false, true, true),
        ("strict,/private/**", true, true, true),
        ("strict,!**/.DS_Store", false, true, false),
        ("strict,!/.env", true, false, false),
        ("!/.env,strict", true, true, false),
        ("default,/.DS_Store,!/.env,!/private/**", true, false, false),
    ] {
        let rules = PathRules::parse_list(list).unwrap();
        for (path, blocked) in [("/.DS_Store", ds_store), ("/.env", env), ("/private/x", private)] {
            assert_eq!(rules.blocking_rule(path).is_some(), blocked, "{list}: {}", rules.explain(path));
        }
    }
    let built = PathRules::builder().strict().unwrap().allow("/.ok/**").unwrap().build().unwrap();
    assert!(built.blocking_rule("/.DS_Store").is_some() && built.blocking_rule("/.ok/x").is_none());
    assert!(built.blocking_rule("/.ok/../.env").is_some());
}

#[test]
fn allows_well_known_uris_but_blocks_secrets_below_them() {
    for rules in [PathRules::sensitive(), PathRules::strict()] {
        for path in
            ["/.well-known", "/.well-known/", "/.well-known/new-registration", "/x/.well-known/acme-challenge/a-_b"]
        {
            assert!(rules.blocking_rule(path).is_none(), "{}", rules.explain(path));
        }
        for path in ["/.well-known/.env", "/.well-known/.git/config", "/.well-known/../.env", "/.env/.well-known/x"] {
            assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
        }
    }
}

/// Exemptions do not apply below a secret file, because PHP sends the file `/a` in response to `/a/x.php`.
#[test]
fn exemptions_for_user_files_do_not_apply_to_traversal_or_scripts_below_secrets() {
    let rules = PathRules::sensitive();
    for path in [
        "/user/repo/src/branch/main/../../../../../.env",
        "/user/repo/src/branch/main/..%2f..%2f..%2f..%2f..%2f.env",
        "/api/contents/%2e%2e/%2e%2e/.env",
        "/files/..;/.env",
        "/dav/x/../../.git/config",
        "/.env/user/repo/src/branch/main/x.php",
        "/x/.env/src/branch/main/x.php",
        "/.git/src/branch/main/config",
        "/backup.sql/x.php",
        "/backup.sql/api/contents/x.php",
        "/server.key/user/repo/src/branch/main/x.php",
        "/wp-config.php/remote.php/dav/x",
        "/wp-config.php/job/x/ws/x",
    ] {
        assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
    }
}

#[test]
fn rule_list_errors_contain_the_entry_and_the_accepted_forms() {
    for (list, message) in [
        ("private", "bad path rule \"private\": neither a list (default, strict) nor a glob that begins with / or *"),
        (
            "/a,!strict",
            "bad path rule \"!strict\": neither a list (default, strict) nor a glob that begins with / or *",
        ),
        ("/a/[", "bad path glob \"/a/[\": unclosed character class; missing ']'"),
        ("", "a path filter needs at least one rule"),
    ] {
        assert_eq!(PathRules::parse_list(list).unwrap_err().to_string(), message);
    }
}

#[test]
fn explanation_lists_the_decodings_and_their_deciding_rules() {
    let text = PathRules::sensitive().explain("/a/%2e%2e/.env").to_string();
    assert!(text.starts_with("/a/%2e%2e/.env: blocked\n"), "{text}");
    assert!(text.contains("  /.env  blocked by **/.env\n"), "{text}");
}

proptest! {
    // Without the first letters of the exemptions for viewers of source code, such as `/c/{repository}/**` of Gitiles.
    #[test]
    fn default_list_blocks_a_sensitive_name_after_any_prefix(prefix in "(/[abe-fh-oqrtuyz0-9.%;\\\\]{0,6}){0,4}") {
        let path = format!("{prefix}/.git/config");
        prop_assert!(PathRules::sensitive().blocking_rule(&path).is_some(), "{}", path);
    }
}
