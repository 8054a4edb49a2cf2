//! Settings of the applications that rproxy starts.

use std::time::Duration;

use crate::setting::{DURATION, settings};
use crate::values::command::{ApplicationCommand, RestartPolicy};
use crate::values::value::{duration, format_duration, optional};

settings! {
    /// The settings of the applications that rproxy starts.
    ApplicationSettings, "Application"

    "command" => command: Option<ApplicationCommand> {
        value: "COMMAND",
        default: "none" => None,
        help: "Command that starts the application, which listens on the port of `upstream`, in PORT; as after `rproxy --`",
        accepted: "a program with arguments, quoted as in a shell: node server.js",
        scope: Site,
        reload: Restart,
        parse: |t| optional(t, str::parse),
        show: |s| s.command.as_ref().map(ToString::to_string),
    }

    "command_restart" => restart: RestartPolicy {
        value: "POLICY",
        default: "on-failure",
        help: "Whether an application that ended is started again; otherwise rproxy drains, and exits with its exit code",
        accepted: "on-failure, always or never",
        scope: Site,
        reload: Restart,
        parse: str::parse,
        show: |s| Some(s.restart.to_string()),
    }

    "command_stop_timeout" => stop_timeout: Duration {
        value: "DURATION",
        default: "10s",
        help: "Maximum time for an application to exit after SIGTERM; then it gets SIGKILL",
        accepted: DURATION,
        scope: Site,
        reload: Restart,
        parse: duration,
        show: |s| Some(format_duration(s.stop_timeout)),
    }


    rules {
        ["command", "handover_socket"] => |s, c| {
            (s.command.is_some() && c.has_handover_socket).then(|| {
                "the new process would start the application again, on the port that is in use; remove one of the settings".to_owned()
            })
        },
        ["command", "sandbox"] => |s, c| {
            (s.command.is_some() && c.requires_sandbox).then(|| {
                format!("the application would inherit the sandbox; set {}=off", c.name("sandbox"))
            })
        },
    }

    idle {
        ["command_restart", "command_stop_timeout"] => |s, _| s.command.is_none().then(|| "command is not set".to_owned()),
    }
}

impl ApplicationSettings {
    pub(crate) fn describe(&self) -> Option<String> {
        self.command.as_ref().map(|command| format!("Application      {command}"))
    }
}
