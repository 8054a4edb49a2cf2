//! Parses and applies requests that switch the maintenance of sites.

use std::time::Duration;

use serde_json::{Value, json};

use super::parameters::{ParameterError, Parameters, decoded};
use crate::maintenance::{SiteMaintenance, SiteMaintenances};
use crate::values::value::{boolean, timeout};

/// A request to switch the maintenance of one site or of all sites.
pub(super) struct MaintenanceRequest {
    sites: Vec<SiteMaintenance>,
    is_on: bool,
    retry_after: Option<Duration>,
}

impl MaintenanceRequest {
    /// Parses the parameters. One invalid parameter rejects the whole request.
    pub(super) fn parse(parameters: &Parameters, sites: &SiteMaintenances) -> Result<Self, ParameterError> {
        Self::of(parameters, sites).map_err(|reason| ParameterError::Invalid { reason, accepted: ACCEPTED })
    }

    fn of(parameters: &Parameters, all: &SiteMaintenances) -> Result<Self, String> {
        let (mut sites, mut is_on, mut retry_after) = (None, None, None);
        for pair in parameters.pairs() {
            let (name, value) = decoded(pair)?;
            let is_repeated = match (name, &*value) {
                ("site", name) => {
                    let site = all.find(name).ok_or_else(|| format!("unknown site {name:?}"))?;
                    sites.replace(vec![site.clone()]).is_some()
                }
                ("all", "" | "1" | "true") => sites.replace(all.all().cloned().collect()).is_some(),
                ("on", value) => is_on.replace(boolean(value).map_err(|error| error.to_string())?).is_some(),
                ("retry_after", value) => {
                    retry_after.replace(timeout(value).map_err(|error| error.to_string())?).is_some()
                }
                ("all", other) => return Err(format!("bad value {other:?} for the parameter all")),
                _ => return Err(format!("unknown parameter {name:?}")),
            };
            if is_repeated {
                return Err(format!("the parameter {name} selects a value that another parameter has set"));
            }
        }
        let sites = sites.ok_or("the request has no site")?;
        Ok(Self { sites, is_on: is_on.ok_or("the request has no parameter on")?, retry_after })
    }

    /// Switches the sites, and returns their state, or the reason why one of them stays in maintenance.
    pub(super) fn apply(&self) -> Result<Value, String> {
        for site in &self.sites {
            site.switch(self.is_on, self.retry_after);
        }
        let remaining = self.sites.iter().find_map(|site| Some((site.site(), site.present_file()?)));
        match remaining.filter(|_| !self.is_on) {
            Some((site, file)) => Err(format!("site {site} stays in maintenance while the file {file} exists")),
            None => Ok(status(&self.sites)),
        }
    }
}

/// Returns the state of sites as JSON.
pub(super) fn status<'s>(sites: impl IntoIterator<Item = &'s SiteMaintenance>) -> Value {
    let status = |site: &SiteMaintenance| {
        let status = site.status();
        let retry_after = status.retry_after.map(|time| time.as_secs());
        json!({ "site": site.site(), "on": retry_after.is_some(), "by": status.by, "retry_after": retry_after })
    };
    json!({ "sites": sites.into_iter().map(status).collect::<Vec<_>>() })
}

const ACCEPTED: &str =
    "?site=HOST or ?all, &on=true or &on=false, and &retry_after=DURATION, in the query or as a form";
