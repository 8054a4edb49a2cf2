//! Settings of the process: workers, shutdown, socket handover and the admin listener.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use rproxy_server::ListenAddr;

use crate::setting::{DURATION, settings};
use crate::values::choice::host_names;
use crate::values::listen::{self, collide};
use crate::values::value::{duration, format_duration, joined, optional, path, workers};

settings! {
    /// The settings of workers, shutdown and the admin listener.
    ProcessSettings, "Running"

    "workers" => workers: Option<NonZeroUsize> {
        value: "NUMBER",
        default: "number of cores" => None,
        help: "Number of worker threads, each with its own listeners and upstream connections",
        accepted: "a whole number from 1 to 1024",
        scope: Process,
        reload: Restart,
        parse: |t| workers(t).map(Some),
        show: |s| Some(s.worker_count().to_string()),
    }

    "drain_timeout" => drain_timeout: Duration {
        value: "DURATION",
        default: "30s",
        help: "Maximum time for in-flight requests to finish during a graceful shutdown",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: duration,
        show: |s| Some(format_duration(s.drain_timeout)),
    }

    "handover_socket" => handover_socket: Option<PathBuf> {
        value: "PATH",
        default: "none" => None,
        help: "Unix socket for zero-downtime upgrades: a new process receives the listeners of the running one, which then drains",
        accepted: "a path",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, path),
        show: |s| s.handover_socket.as_ref().map(|path| path.display().to_string()),
    }

    "admin_listen" => admin_listen: Option<ListenAddr> {
        value: "ADDRESS",
        default: "off" => None,
        help: "Address of the admin listener; it serves /healthz, /readyz, /metrics, cache purges, and the switches of maintenance and upstreams",
        accepted: "ADDRESS:PORT, [IPV6]:PORT, unix:/path, or off",
        scope: Process,
        reload: Live,
        parse: listen::optional_address,
        show: |s| s.admin_listen.as_ref().map(ToString::to_string),
    }

    "admin_hosts" => admin_hosts: Vec<String> {
        value: "NAME,...",
        default: "none" => Vec::new(),
        help: "Host names for which the admin listener accepts requests, in addition to IP addresses and localhost; other hosts get 421",
        accepted: "comma-separated host names: rproxy.internal",
        scope: Process,
        reload: Live,
        parse: host_names,
        show: |s| joined(&s.admin_hosts),
    }


    rules {
        ["admin_listen", "listen", "http_port"] => |s, c| {
            let admin = s.admin_listen.as_ref()?;
            let taken = c.listeners.iter().chain(c.redirect_listeners).find(|public| collide(admin, public))?;
            Some(format!("{admin} overlaps with the public listener {taken}"))
        },
    }

    idle {
        ["admin_hosts"] => |s, _| s.admin_listen.is_none().then(|| "admin_listen is off".to_owned()),
    }
}

impl ProcessSettings {
    /// Returns the configured number of workers, or the number of CPU cores by default.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}
