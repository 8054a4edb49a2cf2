//! The settings of the pages that replace error responses.

use std::path::Path;

use rproxy_problem::{ErrorPages, ErrorPagesError, StatusSet, StatusSetError};

use crate::error_response::{ErrorHooks, ErrorResponseLayer};
use crate::setting::settings;
use crate::values::parsed::Parsed;
use crate::values::value::optional;

settings! {
    /// The settings of the pages that replace error responses.
    ErrorPagesSettings, "Error pages"

    "error_pages" => pages: Option<Parsed<ErrorPages>> {
        value: "FOLDER",
        default: "none, the built-in page" => None,
        help: "Folder with HTML pages for browsers, which replace the built-in error page: 404.html (any error status), 4xx.html, 5xx.html, maintenance.html",
        accepted: "the path of a folder with pages of at most 1 MiB each, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, pages),
        show: |s| s.pages.as_ref().map(|pages| pages.text().to_owned()),
    }

    "error_pages_for" => statuses: Parsed<StatusSet> {
        value: "STATUS,...",
        default: "none" => Parsed::default(),
        help: "Statuses of error responses of the backend whose content a page of error_pages replaces, for browsers",
        accepted: "comma-separated statuses from 400 to 599, ranges such as 502-504, 4xx and 5xx; or none",
        scope: Route,
        reload: Live,
        parse: statuses,
        show: |s| (!s.statuses.is_empty()).then(|| s.statuses.text().to_owned()),
    }

    idle {
        ["error_pages_for"] => |s, _| s.pages.is_none().then(|| "error_pages is not set".to_owned()),
    }
}

fn pages(text: &str) -> Result<Parsed<ErrorPages>, ErrorPagesError> {
    Ok(Parsed::new(text, ErrorPages::read(Path::new(text))?))
}

fn statuses(text: &str) -> Result<Parsed<StatusSet>, StatusSetError> {
    match text {
        "none" => Ok(Parsed::default()),
        _ => text.parse(),
    }
}

impl ErrorPagesSettings {
    /// Returns the layer that formats error responses, or closes connections on blocked paths.
    pub(crate) fn layer(&self, closes_on_blocked_path: bool) -> ErrorResponseLayer {
        let layer = ErrorResponseLayer::with_hooks(ErrorHooks::default()).discard_by_hooks(closes_on_blocked_path);
        match &self.pages {
            Some(pages) => layer.pages(pages.value().clone()).replace_errors(*self.statuses.value()),
            None => layer,
        }
    }

    /// Returns whether the folder is the same, but its pages have other content.
    pub(crate) fn has_changed_pages(&self, before: &Self) -> bool {
        let (Some(pages), Some(before)) = (&self.pages, &before.pages) else { return false };
        pages.text() == before.text() && pages.value() != before.value()
    }

    pub(crate) fn describe(&self) -> String {
        let formats = "ErrorResponse    HTML page, application/problem+json, text or gRPC status";
        let Some(pages) = &self.pages else { return formats.to_owned() };
        let names: Vec<String> = pages.names().collect();
        let replaced = match self.statuses.is_empty() {
            true => String::new(),
            false => format!(", also for {} of the backend", self.statuses.text()),
        };
        format!("{formats}; pages {} of {}{replaced}", names.join(", "), pages.text())
    }
}
