//! Settings of the privileges that the process keeps after its start.

use crate::setting::settings;
use crate::values::sandbox::{SandboxMode, UserName};
use crate::values::value::optional;

settings! {
    /// The settings of the privileges that the process keeps after its start.
    SandboxSettings, "Sandbox"

    "user" => user: Option<UserName> {
        value: "USER[:GROUP]",
        default: "none, the user who starts the process" => None,
        help: "User of the process after a start as root: it binds the listeners, reads the private keys, then drops all privileges",
        accepted: "a user of /etc/passwd or its number, except root, with a group if needed: www-data, www-data:ssl-cert, 65534:65534",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, str::parse),
        show: |s| s.user.as_ref().map(ToString::to_string),
    }

    "sandbox" => mode: SandboxMode {
        value: "MODE",
        default: "off",
        help: "Limits the process to the files and TCP ports of its configuration, with Landlock; auto continues without it on kernels that lack it, on does not start. A reload that needs more requires a restart",
        accepted: "off, auto or on",
        scope: Process,
        reload: Restart,
        parse: str::parse,
        show: |s| Some(s.mode.to_string()),
    }
}
