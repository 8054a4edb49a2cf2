//! The manual page rproxy(1), rendered from the command line and from additional sections.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// Renders the manual page of `command` in roff(7) format.
///
/// # Errors
///
/// Never fails, since writing to memory succeeds.
pub(crate) fn render(command: Command) -> io::Result<String> {
    // The lines of a help text become sentences of a paragraph.
    let command = command.mut_args(|argument| match argument.get_help().map(ToString::to_string) {
        Some(help) => argument.help(help.replace('\n', ". ")),
        None => argument,
    });
    let commands = commands(&command);
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(SYNOPSIS.as_bytes());
    man.render_description_section(&mut page)?;
    page.extend_from_slice(SETTINGS.as_bytes());
    man.render_options_section(&mut page)?;
    page.extend_from_slice(commands.as_bytes());
    page.extend_from_slice(REST.as_bytes());
    man.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Renders the section about commands. clap_mangen refers to a page for each, such as `rproxy-demo(1)`, which does not exist.
fn commands(command: &Command) -> String {
    let mut section = "\n.SH COMMANDS\n".to_owned();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default().replace('-', "\\-");
        section += &format!(".TP\n\\fBrproxy {}\\fR\n{about}\n", command.get_name());
    }
    section + ".PP\n\\fBrproxy\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR prints the options and arguments of a command.\n"
}

// A synopsis with all options would fill a screen.
const SYNOPSIS: &str = r"
.SH SYNOPSIS
\fBrproxy\fR [\fB\-c\fR \fIFILE\fR] [\fB\-\-check\fR] [\fIOPTIONS\fR]
.br
\fBrproxy\fR [\fIOPTIONS\fR] \fB\-\-\fR \fIAPPLICATION\fR [\fIARGUMENTS\fR]
.br
\fBrproxy\fR \fBdemo\fR|\fBexplain\fR|\fBtrust\fR|\fBswitch\fR|\fBcompletions\fR|\fBman\fR|\fBhelp\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]
";

const SETTINGS: &str = r"
.SH SETTINGS
Each option except \fB\-\-config\fR, \fB\-\-check\fR, \fB\-\-quiet\fR, \fB\-\-help\fR and \fB\-\-version\fR is a
setting with three spellings: \fB\-\-rate\-limit\fR on the command line,
\fBRPROXY_RATE_LIMIT\fR in the environment, \fBrate_limit\fR in the file. The command line overrides the
environment, and the environment overrides the file. The proxy does not start with an unknown setting or an invalid value, and
reports all of them.
";

const REST: &str = r#"
.SH FILES
.TP
\fI/etc/rproxy/rproxy.toml\fR
Configuration file of the systemd unit in the Debian package. Without \fB\-\-config\fR, no file is read.
.TP
\fI/var/lib/rproxy/certs\fR
The ACME account and certificates.
.SH ENVIRONMENT
.TP
\fBRPROXY_...\fR
Settings.
.TP
\fBRUST_LOG\fR
Log filter if \fBlog_level\fR is not set.
.TP
\fBLISTEN_FDS\fR, \fBNOTIFY_SOCKET\fR
Listening sockets passed by the service manager, and the socket for notifications about start, reload and stop.
.SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Graceful shutdown: in-flight requests get up to \fBdrain_timeout\fR to finish. Then an application that rproxy has started gets
SIGTERM, and SIGKILL after \fBcommand_stop_timeout\fR. A second signal ends rproxy and the application immediately.
.TP
\fBSIGHUP\fR
Reloads certificates and settings. If they are invalid, the current ones stay in use.
.TP
\fBSIGUSR1\fR, \fBSIGUSR2\fR, \fBSIGQUIT\fR, \fBSIGTTIN\fR, \fBSIGTTOU\fR, \fBSIGWINCH\fR
Forwarded to the application that rproxy has started. Without one, SIGUSR1 and SIGUSR2 are ignored.
.SH EXIT STATUS
.TP
\fB0\fR
Success.
.TP
\fB1\fR
The proxy could not start, or \fBswitch\fR did not switch.
.TP
\fB2\fR
The arguments or the configuration are invalid.
.TP
\fB126\fR
The application cannot be started.
.TP
\fB127\fR
The program of the application does not exist.
.TP
\fB128+\fR\fIn\fR
The signal with the number \fIn\fR ended the application.
.TP
any other
The application ended with this status.
.PP
An application determines the exit status if rproxy has started it and does not start it again (\fBcommand_restart\fR). Its status can
be any of the above.
.SH EXAMPLES
.nf
RPROXY_UPSTREAM=127.0.0.1:3000 rproxy
rproxy \-\-upstream 127.0.0.1:3000 \-\-tls\-domains example.org \-\-tls\-email me@example.org
rproxy \-\-config /etc/rproxy/rproxy.toml \-\-check
rproxy explain '/a/%2e%2e/.env'
rproxy \-\- node server.js
rproxy \-\-upstream 127.0.0.1:4000 \-\- gunicorn \-\-bind 127.0.0.1:4000 app.wsgi
.fi
"#;
