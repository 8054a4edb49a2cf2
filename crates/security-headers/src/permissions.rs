//! `Permissions-Policy` (W3C Permissions Policy): which of the browser's powers a page and its frames have.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

/// A policy, feature by feature. What it says nothing of is as the browser has it.
///
/// ```
/// use rproxy_security_headers::{Allowlist, Feature, PermissionsError, PermissionsPolicy, SecurityHeadersLayer};
///
/// fn main() -> Result<(), PermissionsError> {
///     let policy = PermissionsPolicy::new()
///         .deny([Feature::CAMERA, Feature::MICROPHONE])
///         .allow(Feature::GEOLOCATION, Allowlist::self_origin().origin("https://maps.example.org")?)
///         .allow(Feature::FULLSCREEN, Allowlist::all());
///     assert_eq!(
///         policy.to_string(),
///         r#"camera=(), microphone=(), geolocation=(self "https://maps.example.org"), fullscreen=*"#
///     );
///     assert_eq!(policy.to_string().parse(), Ok(policy.clone()));
///     let layer = SecurityHeadersLayer::recommended().permissions_policy(policy);
///     # let _ = layer;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct PermissionsPolicy {
    members: Vec<(Feature, Allowlist)>,
}

impl PermissionsPolicy {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `features` away from everybody, the page itself included.
    pub fn deny(self, features: impl IntoIterator<Item = Feature>) -> Self {
        features.into_iter().fold(self, |policy, feature| policy.allow(feature, Allowlist::none()))
    }

    /// Gives `feature` to those on the list only. Of two calls about one feature, the later one counts.
    pub fn allow(mut self, feature: Feature, list: Allowlist) -> Self {
        match self.members.iter_mut().find(|(present, _)| *present == feature) {
            Some((_, present)) => *present = list,
            None => self.members.push((feature, list)),
        }
        self
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        // Names, origins and brackets are visible ASCII.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Display for PermissionsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (Feature(name), list)) in self.members.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={list}")?;
        }
        Ok(())
    }
}

impl FromStr for PermissionsPolicy {
    type Err = PermissionsError;

    /// Reads the header's form: `camera=(), geolocation=(self "https://maps.example.org"), fullscreen=*`.
    fn from_str(text: &str) -> Result<Self, PermissionsError> {
        let member = |member: &str| {
            let (name, list) = member.split_once('=').ok_or_else(|| PermissionsError::Member(member.to_owned()))?;
            Ok((Feature::new(name.trim())?, list.trim().parse()?))
        };
        let members = text.split(',').map(|text| member(text.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(members.into_iter().fold(Self::new(), |policy, (feature, list)| policy.allow(feature, list)))
    }
}

/// One of the browser's powers, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feature(std::borrow::Cow<'static, str>);

impl Feature {
    /// `accelerometer`
    pub const ACCELEROMETER: Self = Self::known("accelerometer");
    /// `autoplay`
    pub const AUTOPLAY: Self = Self::known("autoplay");
    /// `camera`
    pub const CAMERA: Self = Self::known("camera");
    /// `clipboard-read`
    pub const CLIPBOARD_READ: Self = Self::known("clipboard-read");
    /// `clipboard-write`
    pub const CLIPBOARD_WRITE: Self = Self::known("clipboard-write");
    /// `display-capture`: the screen.
    pub const DISPLAY_CAPTURE: Self = Self::known("display-capture");
    /// `encrypted-media`
    pub const ENCRYPTED_MEDIA: Self = Self::known("encrypted-media");
    /// `fullscreen`
    pub const FULLSCREEN: Self = Self::known("fullscreen");
    /// `gamepad`
    pub const GAMEPAD: Self = Self::known("gamepad");
    /// `geolocation`
    pub const GEOLOCATION: Self = Self::known("geolocation");
    /// `gyroscope`
    pub const GYROSCOPE: Self = Self::known("gyroscope");
    /// `hid`: devices such as keyboards, directly.
    pub const HID: Self = Self::known("hid");
    /// `idle-detection`
    pub const IDLE_DETECTION: Self = Self::known("idle-detection");
    /// `magnetometer`
    pub const MAGNETOMETER: Self = Self::known("magnetometer");
    /// `microphone`
    pub const MICROPHONE: Self = Self::known("microphone");
    /// `midi`
    pub const MIDI: Self = Self::known("midi");
    /// `payment`
    pub const PAYMENT: Self = Self::known("payment");
    /// `picture-in-picture`
    pub const PICTURE_IN_PICTURE: Self = Self::known("picture-in-picture");
    /// `publickey-credentials-get`: signing in with passkeys.
    pub const PUBLICKEY_CREDENTIALS_GET: Self = Self::known("publickey-credentials-get");
    /// `screen-wake-lock`
    pub const SCREEN_WAKE_LOCK: Self = Self::known("screen-wake-lock");
    /// `serial`
    pub const SERIAL: Self = Self::known("serial");
    /// `usb`
    pub const USB: Self = Self::known("usb");
    /// `web-share`
    pub const WEB_SHARE: Self = Self::known("web-share");
    /// `xr-spatial-tracking`
    pub const XR_SPATIAL_TRACKING: Self = Self::known("xr-spatial-tracking");

    const fn known(name: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(name))
    }

    /// One that has no name here.
    ///
    /// # Errors
    ///
    /// What can't be a key of a structured field (RFC 9651 §3.1.2): lower-case letters, digits, `-`, `_`.
    pub fn new(name: &str) -> Result<Self, PermissionsError> {
        let is_key = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        match is_key {
            true => Ok(Self(name.to_owned().into())),
            false => Err(PermissionsError::Feature(name.to_owned())),
        }
    }
}

/// Who has a power.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Allowlist(Who);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    All,
    These { self_origin: bool, origins: Vec<String> },
}

impl Allowlist {
    /// `*`: the page, and every frame that it gives the power on to.
    pub const fn all() -> Self {
        Self(Who::All)
    }

    /// `()`: nobody.
    pub const fn none() -> Self {
        Self(Who::These { self_origin: false, origins: Vec::new() })
    }

    /// `(self)`: the page, and frames of its own origin.
    pub const fn self_origin() -> Self {
        Self(Who::These { self_origin: true, origins: Vec::new() })
    }

    /// Frames of `origin` as well, such as `https://maps.example.org`. There are none to add to [`all`](Self::all).
    ///
    /// # Errors
    ///
    /// What is no origin.
    pub fn origin(mut self, origin: &str) -> Result<Self, PermissionsError> {
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-*:[]_".contains(&byte);
        if !matches!(scheme, "https" | "http") || host.is_empty() || !host.bytes().all(is_host) {
            return Err(PermissionsError::Origin(origin.to_owned()));
        }
        if let Who::These { origins, .. } = &mut self.0 {
            origins.push(origin.to_owned());
        }
        Ok(self)
    }
}

impl fmt::Display for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Who::All => f.write_str("*"),
            Who::These { self_origin, origins } => {
                let page = self_origin.then(|| "self".to_owned());
                let origins = origins.iter().map(|origin| format!("\"{origin}\""));
                write!(f, "({})", page.into_iter().chain(origins).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

impl FromStr for Allowlist {
    type Err = PermissionsError;

    fn from_str(text: &str) -> Result<Self, PermissionsError> {
        let bad = || PermissionsError::Allowlist(text.to_owned());
        match text {
            "*" => return Ok(Self::all()),
            "self" => return Ok(Self::self_origin()),
            _ => {}
        }
        let items = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or_else(bad)?;
        items.split_ascii_whitespace().try_fold(Self::none(), |list, item| {
            let origin = item.strip_prefix('"').and_then(|item| item.strip_suffix('"'));
            match (item, origin, list.0) {
                ("*", _, _) => Ok(Self::all()),
                ("self", _, Who::These { origins, .. }) => Ok(Self(Who::These { self_origin: true, origins })),
                ("self", _, Who::All) => Ok(Self::all()),
                (_, Some(origin), who) => Self(who).origin(origin),
                _ => Err(bad()),
            }
        })
    }
}

/// What is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionsError {
    /// Not `feature=allowlist`. So it was written in the days of `Feature-Policy`.
    #[error("bad permission {0:?}: not of the form camera=() or camera=(self \"https://a.example\")")]
    Member(String),
    /// No feature.
    #[error("bad feature {0:?}: not lower-case letters, digits and hyphens")]
    Feature(String),
    /// No list.
    #[error("bad allowlist {0:?}: not *, self, or a list in brackets of self and origins in quotes")]
    Allowlist(String),
    /// No origin.
    #[error("bad origin {0:?}: not of the form https://example.org")]
    Origin(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_written() {
        for (text, written) in [
            ("camera=()", "camera=()"),
            ("camera=(),geolocation=( self )", "camera=(), geolocation=(self)"),
            ("fullscreen=self, usb=(*)", "fullscreen=(self), usb=*"),
            ("usb=(\"https://*.a.example:8443\" self)", "usb=(self \"https://*.a.example:8443\")"),
            ("usb=(), usb=*", "usb=*"),
        ] {
            assert_eq!(text.parse::<PermissionsPolicy>().unwrap().to_string(), written);
        }
        for (text, error) in [
            ("camera 'none'", PermissionsError::Member("camera 'none'".to_owned())),
            ("", PermissionsError::Member(String::new())),
            ("Camera=()", PermissionsError::Feature("Camera".to_owned())),
            ("camera='none'", PermissionsError::Allowlist("'none'".to_owned())),
            ("camera=(https://a.example)", PermissionsError::Allowlist("(https://a.example)".to_owned())),
            ("camera=(\"a.example\")", PermissionsError::Origin("a.example".to_owned())),
        ] {
            assert_eq!(text.parse::<PermissionsPolicy>(), Err(error));
        }
    }
}
