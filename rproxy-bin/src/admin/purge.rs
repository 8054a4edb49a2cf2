//! Parses and applies requests to purge the cache.

use rproxy_cache::{CacheStore, Purge};

use super::parameters::{ParameterError, Parameters, decoded};
use crate::site::SiteHosts;

/// A function that returns the hosts of the site with the given name or host.
pub(super) type FindSite = dyn Fn(&str) -> Option<SiteHosts> + Send + Sync;

/// The cache purges that one request to the admin listener specifies. A soft purge makes responses stale instead of
/// removing them.
pub(super) struct PurgeRequest {
    soft: bool,
    selections: Vec<Selection>,
}

/// The stored responses that one parameter of a purge request selects.
enum Selection {
    Purge(Purge),
    Site(SiteHosts),
}

impl PurgeRequest {
    /// Parses the purge parameters. One invalid parameter rejects the whole request.
    pub(super) fn parse(parameters: &Parameters, site: &FindSite) -> Result<Self, ParameterError> {
        let error = |reason| ParameterError::Invalid { reason, accepted: ACCEPTED };
        let (soft, named): (Vec<&str>, Vec<&str>) =
            parameters.pairs().partition(|pair| matches!(*pair, "soft" | "soft=1" | "soft=true"));
        let selections = named.into_iter().map(|pair| selection(pair, site)).collect::<Result<Vec<_>, _>>();
        let selections = selections.map_err(error)?;
        match selections.is_empty() {
            true => Err(error("the request has no purge parameter".to_owned())),
            false => Ok(Self { soft: !soft.is_empty(), selections }),
        }
    }

    /// Purges the selected responses from `store`, and returns the number of purged resources.
    pub(super) fn apply(&self, store: &CacheStore) -> u64 {
        let apply = |selection: &Selection| match (selection, self.soft) {
            (Selection::Purge(purge), false) => store.purge(purge),
            (Selection::Purge(purge), true) => store.soft_purge(purge),
            (Selection::Site(hosts), false) => store.purge_where(|url| hosts.contain(url)),
            (Selection::Site(hosts), true) => store.soft_purge_where(|url| hosts.contain(url)),
        };
        self.selections.iter().map(apply).sum()
    }
}

fn selection(pair: &str, site: &FindSite) -> Result<Selection, String> {
    let (name, value) = decoded(pair)?;
    let purge = match (name, &*value) {
        ("url", url) => Purge::url(url).map_err(|error| error.to_string())?,
        ("prefix", prefix) => Purge::prefix(prefix).map_err(|error| error.to_string())?,
        ("tag", "") => return Err("the tag must not be empty".to_owned()),
        ("tag", tag) => Purge::tag(tag),
        ("site", name) => return site(name).map(Selection::Site).ok_or_else(|| format!("unknown site {name:?}")),
        ("all", "" | "1" | "true") => Purge::All,
        ("all", other) => return Err(format!("bad value {other:?} for the parameter all")),
        _ => return Err(format!("unknown parameter {name:?}")),
    };
    Ok(Selection::Purge(purge))
}

const ACCEPTED: &str =
    "?url=URL, ?prefix=URL, ?tag=TAG, ?site=HOST and ?all, in the query or as a form, and &soft for a soft purge";
