//! The maintenance of the sites, and the reasons for which it is on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rproxy_maintenance::{Maintenance, MaintenanceLayer};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Shared;
use crate::layers::MaintenanceSettings;
use crate::site::SiteNames;

/// The maintenance of one site. It is on while its file exists, or the admin listener has switched it on.
///
/// Clones share their state, and a reload keeps it.
#[derive(Clone, Debug)]
pub(crate) struct SiteMaintenance {
    settings: Shared<MaintenanceSettings>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    site: String,
    /// The switch that the layers of the site read.
    effective: Maintenance,
    reasons: Mutex<Reasons>,
}

/// The reasons for which maintenance is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reasons {
    has_file: bool,
    /// Whether the last check of the file failed, which is logged once.
    is_unreadable: bool,
    is_switched_on: bool,
    /// The time that the admin listener has set instead of the setting.
    retry_after: Option<Duration>,
}

impl SiteMaintenance {
    /// Creates the maintenance of a site, with the state of the `previous` configuration.
    pub(crate) fn new(site: &str, settings: Shared<MaintenanceSettings>, previous: Option<&Self>) -> Self {
        let state = previous.map(|previous| Arc::clone(&previous.state)).unwrap_or_else(|| {
            let (effective, reasons) = (Maintenance::new(), Mutex::default());
            Arc::new(State { site: site.to_owned(), effective, reasons })
        });
        Self { settings, state }
    }

    /// Returns the layer that this turns on and off.
    pub(crate) fn layer(&self) -> MaintenanceLayer {
        self.settings.layer(self.state.effective.clone())
    }

    pub(crate) fn site(&self) -> &str {
        &self.state.site
    }

    /// Returns whether a reload changed only the content of the files with exempt clients.
    pub(crate) fn has_changed_addresses(&self, before: &Self) -> bool {
        self.settings.has_changed_addresses(&before.settings)
    }

    /// Switches maintenance on or off for the admin listener. It stays on while the file exists.
    pub(crate) fn switch(&self, is_on: bool, retry_after: Option<Duration>) {
        self.change(|reasons| {
            reasons.is_switched_on = is_on;
            reasons.retry_after = retry_after.filter(|_| is_on);
        });
    }

    /// Checks whether the file exists, and applies the settings, which a reload can have changed. Blocks for a system call.
    pub(crate) fn check_file(&self) {
        let found = self.settings.file.as_deref().map_or(Ok(false), |file| file.try_exists());
        let is_unreadable = found.is_err();
        let before = self.change(|reasons| {
            reasons.has_file = found.as_ref().copied().unwrap_or(reasons.has_file);
            reasons.is_unreadable = is_unreadable;
        });
        if let (Err(error), false, Some(file)) = (found, before.is_unreadable, &self.settings.file) {
            let site = self.site();
            tracing::warn!(site, %error, "cannot check maintenance_file {}, keeping the state", file.display());
        }
    }

    /// Changes the reasons, applies them, logs what has changed, and returns the previous reasons.
    fn change(&self, change: impl FnOnce(&mut Reasons)) -> Reasons {
        let mut reasons = self.reasons();
        let before = *reasons;
        change(&mut reasons);
        let retry_after = reasons.retry_after.unwrap_or(self.settings.retry_after);
        match reasons.is_on() {
            true => self.state.effective.enable(retry_after),
            false => self.state.effective.disable(),
        }
        let (site, by) = (self.site(), reasons.names().join(", "));
        match (before.is_on(), reasons.is_on()) {
            (false, true) => tracing::info!(site, by, retry_after = retry_after.as_secs(), "maintenance is on"),
            (true, false) => tracing::info!(site, "maintenance is off"),
            (true, true) if before.names() != reasons.names() => tracing::info!(site, by, "maintenance stays on"),
            _ => {}
        }
        before
    }

    /// Returns the current state.
    pub(crate) fn status(&self) -> MaintenanceStatus {
        let reasons = *self.reasons();
        MaintenanceStatus { retry_after: self.state.effective.retry_after(), by: reasons.names() }
    }

    /// Returns the path of the file for which maintenance is on.
    pub(crate) fn present_file(&self) -> Option<String> {
        let file = self.settings.file.as_ref().filter(|_| self.reasons().has_file)?;
        Some(file.display().to_string())
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.state.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reasons {
    fn is_on(self) -> bool {
        self.has_file || self.is_switched_on
    }

    fn names(self) -> Vec<&'static str> {
        let names = [self.has_file.then_some("file"), self.is_switched_on.then_some("admin")];
        names.into_iter().flatten().collect()
    }
}

/// The state of the maintenance of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaintenanceStatus {
    /// The time after which clients may retry, if maintenance is on.
    pub(crate) retry_after: Option<Duration>,
    /// The reasons for which it is on: `file`, `admin`.
    pub(crate) by: Vec<&'static str>,
}

/// The maintenance of all sites.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteMaintenances {
    /// In the order of the table, with the default site as the first.
    sites: Arc<[SiteMaintenance]>,
    names: SiteNames,
    has_default_site: bool,
}

impl SiteMaintenances {
    pub(crate) fn new(sites: Vec<SiteMaintenance>, names: SiteNames) -> Self {
        Self { sites: sites.into(), has_default_site: names.index("default") == Some(0), names }
    }

    /// Returns the maintenance of each site by the name of the site, for a reload.
    pub(crate) fn by_site(&self) -> HashMap<String, SiteMaintenance> {
        self.sites.iter().map(|maintenance| (maintenance.site().to_owned(), maintenance.clone())).collect()
    }

    /// Returns the maintenance of the site that has this name or host.
    pub(crate) fn find(&self, name: &str) -> Option<&SiteMaintenance> {
        self.sites.get(self.names.index(name)?)
    }

    /// Returns the maintenance of all sites that serve requests.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SiteMaintenance> {
        // The first one is that of the default site, which exists if it has a name.
        self.sites.iter().skip(usize::from(!self.has_default_site))
    }

    fn have_files(&self) -> bool {
        self.sites.iter().any(|maintenance| maintenance.settings.file.is_some())
    }

    /// Checks the files of all sites. Blocks for a system call per file.
    pub(crate) fn check_files(&self) {
        self.all().for_each(SiteMaintenance::check_file);
    }
}

/// Checks the files of the current sites once per second, until it is dropped.
pub(crate) async fn watch_files(current: impl Fn() -> SiteMaintenances) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sites = current();
        if !sites.have_files() {
            continue;
        }
        // A file system that does not respond must not block the runtime. The next check waits for this one.
        let _ = tokio::task::spawn_blocking(move || sites.check_files()).await;
    }
}

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn settings(file: Option<&std::path::Path>, retry_after: u64) -> Shared<MaintenanceSettings> {
        let mut settings = Shared::<MaintenanceSettings>::default();
        settings.file = file.map(Into::into);
        settings.retry_after = Duration::from_secs(retry_after);
        settings
    }

    fn seconds(maintenance: &SiteMaintenance) -> Option<u64> {
        maintenance.status().retry_after.map(|time| time.as_secs())
    }

    #[test]
    fn file_and_admin_listener_turn_maintenance_on_independently() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("on");
        let site = SiteMaintenance::new("a.example", settings(Some(&file), 60), None);
        site.check_file();
        assert_eq!((seconds(&site), site.present_file()), (None, None));

        fs::write(&file, "").unwrap();
        site.check_file();
        assert_eq!((seconds(&site), site.status().by), (Some(60), vec!["file"]));
        site.switch(true, Some(Duration::from_secs(7)));
        assert_eq!((seconds(&site), site.status().by), (Some(7), vec!["file", "admin"]));
        site.switch(false, Some(Duration::from_secs(7)));
        assert_eq!((seconds(&site), site.present_file()), (Some(60), Some(file.display().to_string())));

        site.switch(true, None);
        fs::remove_file(&file).unwrap();
        site.check_file();
        assert_eq!((seconds(&site), site.status().by), (Some(60), vec!["admin"]));
        site.switch(false, None);
        assert_eq!(seconds(&site), None);
    }

    #[test]
    fn reload_keeps_the_state_and_applies_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("on");
        fs::write(&file, "").unwrap();
        let before = SiteMaintenance::new("a.example", settings(Some(&file), 60), None);
        before.check_file();
        before.switch(true, None);
        let after = SiteMaintenance::new("a.example", settings(None, 30), Some(&before));
        assert_eq!(seconds(&after), Some(60), "the settings apply when the reload does");
        after.check_file();
        assert_eq!((seconds(&after), after.status().by), (Some(30), vec!["admin"]));
    }

    #[test]
    fn state_is_kept_if_the_file_cannot_be_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("on");
        fs::write(&file, "").unwrap();
        let site = SiteMaintenance::new("a.example", settings(Some(&file), 60), None);
        site.check_file();
        // A path below a file that is not a folder.
        let below = SiteMaintenance::new("a.example", settings(Some(&file.join("x")), 60), Some(&site));
        below.check_file();
        assert_eq!(seconds(&below), Some(60));
    }
}
