//! The manual page, rproxy(1): what the command line says of itself, and what it does not know.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// The page as roff(7).
///
/// # Errors
///
/// None: memory can be written to.
pub(crate) fn render(command: Command) -> io::Result<String> {
    // Lines of help are sentences of a paragraph here.
    let command = command.mut_args(|argument| match argument.get_help().map(ToString::to_string) {
        Some(help) => argument.help(help.replace('\n', ". ")),
        None => argument,
    });
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(SYNOPSIS.as_bytes());
    man.render_description_section(&mut page)?;
    page.extend_from_slice(SETTINGS.as_bytes());
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    page.extend_from_slice(REST.as_bytes());
    man.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

// One with all options would fill a screen.
const SYNOPSIS: &str = r"
.SH SYNOPSIS
\fBrproxy\fR [\fB\-c\fR \fIFILE\fR] [\fB\-\-check\fR] [\fIOPTIONS\fR]
.br
\fBrproxy\fR \fBdemo\fR|\fBexplain\fR|\fBtrust\fR|\fBcompletions\fR|\fBman\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]
";

const SETTINGS: &str = r"
.SH SETTINGS
Each option but the first four is a setting, which has three spellings: \fB\-\-rate\-limit\fR on the command line,
\fBRPROXY_RATE_LIMIT\fR in the environment, \fBrate_limit\fR in the file. The command line wins over the environment, the
environment over the file. What is not understood is an error that names it, before anything is served.
";

const REST: &str = r#"
.SH FILES
.TP
\fI/etc/rproxy/rproxy.toml\fR
Settings, where the unit of the Debian package looks for them. Without \fB\-\-config\fR no file is read.
.TP
\fI/var/lib/rproxy/certs\fR
The ACME account and certificates.
.SH ENVIRONMENT
.TP
\fBRPROXY_...\fR
Settings.
.TP
\fBRUST_LOG\fR
What is logged, where \fBlog_level\fR is not set.
.TP
\fBLISTEN_FDS\fR, \fBNOTIFY_SOCKET\fR
Sockets of the service manager, and where it wants to be told of start, reload and stop.
.SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Drains: open requests get the drain time to end. A second one ends at once.
.TP
\fBSIGHUP\fR
Reads certificates and settings again. What is bad leaves the old in place.
.SH EXIT STATUS
.TP
\fB0\fR
Drained, or did what it was asked.
.TP
\fB1\fR
What was configured could not be started.
.TP
\fB2\fR
The arguments make no sense, or the configuration can't be honoured.
.SH EXAMPLES
.nf
RPROXY_UPSTREAM=127.0.0.1:3000 rproxy
rproxy \-\-upstream 127.0.0.1:3000 \-\-tls\-domains example.org \-\-tls\-email me@example.org
rproxy \-\-config /etc/rproxy/rproxy.toml \-\-check
rproxy explain '/a/%2e%2e/.env'
.fi
"#;
