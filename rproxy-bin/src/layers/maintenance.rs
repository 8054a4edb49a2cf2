//! The settings of the maintenance of a site.

use std::path::PathBuf;
use std::time::Duration;

use rproxy_client_ip::AddressList;
use rproxy_maintenance::{Maintenance, MaintenanceLayer};

use super::access::{ADDRESSES, addresses};
use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, settings};
use crate::values::parsed::Parsed;
use crate::values::value::{format_duration, optional, path, timeout};

/// The rejection of requests during maintenance.
pub(crate) const REJECTIONS: &[KnownRejection] = &[KnownRejection::new("maintenance", "maintenance").explained(
    "the site is in maintenance: the file of RPROXY_MAINTENANCE_FILE exists, or POST /maintenance on RPROXY_ADMIN_LISTEN switched it on; RPROXY_MAINTENANCE_ALLOW exempts clients",
)];

settings! {
    /// The settings of the maintenance of a site.
    MaintenanceSettings, "Maintenance"

    "maintenance_file" => file: Option<PathBuf> {
        value: "PATH",
        default: "none" => None,
        help: "The site is in maintenance while this file exists: clients get 503. Checked once per second",
        accepted: "a path, or none",
        scope: Site,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| s.file.as_ref().map(|path| path.display().to_string()),
    }

    "maintenance_allow" => allow: Option<Parsed<AddressList>> {
        value: "RANGE,...",
        default: "none" => None,
        help: "Addresses of clients that are served during maintenance",
        accepted: ADDRESSES,
        scope: Site,
        reload: Live,
        parse: |t| optional(t, addresses),
        show: |s| s.allow.as_ref().map(|list| list.text().to_owned()),
    }

    "maintenance_retry_after" => retry_after: Duration {
        value: "DURATION",
        default: "5m",
        help: "Time after which clients may retry, in Retry-After of responses during maintenance",
        accepted: DURATION,
        scope: Site,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.retry_after)),
    }
}

impl MaintenanceSettings {
    /// Returns the layer that `maintenance` turns on and off.
    pub(crate) fn layer(&self, maintenance: Maintenance) -> MaintenanceLayer {
        let layer = MaintenanceLayer::new(maintenance);
        match &self.allow {
            Some(allow) => layer.exempt(allow.value().clone()),
            None => layer,
        }
    }

    /// Returns whether the list of exempt clients is the same, but its files have other content.
    pub(crate) fn has_changed_addresses(&self, before: &Self) -> bool {
        let (Some(allow), Some(before)) = (&self.allow, &before.allow) else { return false };
        allow.text() == before.text() && allow.value() != before.value()
    }

    /// Describes the maintenance, if a setting prepares it.
    pub(crate) fn describe(&self) -> Option<String> {
        let file = self.file.as_ref().map(|file| format!("while {} exists", file.display()));
        let allow = self.allow.as_ref().map(|allow| format!("exempt {}", allow.text()));
        let parts: Vec<String> = file.into_iter().chain(allow).collect();
        (!parts.is_empty()).then(|| format!("Maintenance      503 {}", parts.join("; ")))
    }
}
