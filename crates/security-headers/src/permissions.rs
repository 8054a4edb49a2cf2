//! `Permissions-Policy` (W3C Permissions Policy).

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

/// A `Permissions-Policy`, which lists the browser features that a page and its frames may use.
///
/// Features that the policy does not list keep the browser's default.
///
/// # Examples
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
    /// Creates an empty permissions policy, which names no feature.
    pub fn new() -> Self {
        Self::default()
    }

    /// Denies browser features to the page and all its frames.
    pub fn deny(self, features: impl IntoIterator<Item = Feature>) -> Self {
        features.into_iter().fold(self, |policy, feature| policy.allow(feature, Allowlist::none()))
    }

    /// Allows a browser feature only for the origins in `allowlist`. The last call for a feature applies.
    pub fn allow(mut self, feature: Feature, list: Allowlist) -> Self {
        match self.members.iter_mut().find(|(existing, _)| *existing == feature) {
            Some((_, existing)) => *existing = list,
            None => self.members.push((feature, list)),
        }
        self
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        // Always valid: names, origins and brackets are visible ASCII.
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

    /// Parses a header value such as `camera=(), geolocation=(self "https://maps.example.org"), fullscreen=*`.
    fn from_str(text: &str) -> Result<Self, PermissionsError> {
        let member = |member: &str| {
            let (name, list) =
                member.split_once('=').ok_or_else(|| PermissionsError::InvalidMember(member.to_owned()))?;
            Ok((Feature::new(name.trim())?, list.trim().parse()?))
        };
        let members = text.split(',').map(|text| member(text.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(members.into_iter().fold(Self::new(), |policy, (feature, list)| policy.allow(feature, list)))
    }
}

/// The name of a browser feature that a permissions policy controls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feature(std::borrow::Cow<'static, str>);

impl Feature {
    /// `accelerometer`: reading the acceleration of the device.
    pub const ACCELEROMETER: Self = Self::known("accelerometer");
    /// `autoplay`: playing audio and video without a click.
    pub const AUTOPLAY: Self = Self::known("autoplay");
    /// `camera`: capturing video from cameras.
    pub const CAMERA: Self = Self::known("camera");
    /// `clipboard-read`: reading the clipboard.
    pub const CLIPBOARD_READ: Self = Self::known("clipboard-read");
    /// `clipboard-write`: writing to the clipboard.
    pub const CLIPBOARD_WRITE: Self = Self::known("clipboard-write");
    /// `display-capture`: capturing the screen.
    pub const DISPLAY_CAPTURE: Self = Self::known("display-capture");
    /// `encrypted-media`: playing encrypted media (EME).
    pub const ENCRYPTED_MEDIA: Self = Self::known("encrypted-media");
    /// `fullscreen`: showing elements in full screen.
    pub const FULLSCREEN: Self = Self::known("fullscreen");
    /// `gamepad`: reading game controllers.
    pub const GAMEPAD: Self = Self::known("gamepad");
    /// `geolocation`: reading the location of the device.
    pub const GEOLOCATION: Self = Self::known("geolocation");
    /// `gyroscope`: reading the rotation of the device.
    pub const GYROSCOPE: Self = Self::known("gyroscope");
    /// `hid`: accessing input devices such as keyboards directly (WebHID).
    pub const HID: Self = Self::known("hid");
    /// `idle-detection`: detecting whether the user is idle.
    pub const IDLE_DETECTION: Self = Self::known("idle-detection");
    /// `magnetometer`: reading the magnetic field around the device.
    pub const MAGNETOMETER: Self = Self::known("magnetometer");
    /// `microphone`: capturing audio from microphones.
    pub const MICROPHONE: Self = Self::known("microphone");
    /// `midi`: accessing MIDI devices.
    pub const MIDI: Self = Self::known("midi");
    /// `payment`: using the Payment Request API.
    pub const PAYMENT: Self = Self::known("payment");
    /// `picture-in-picture`: showing video in a floating window.
    pub const PICTURE_IN_PICTURE: Self = Self::known("picture-in-picture");
    /// `publickey-credentials-get`: signing in with passkeys.
    pub const PUBLICKEY_CREDENTIALS_GET: Self = Self::known("publickey-credentials-get");
    /// `screen-wake-lock`: keeping the screen on.
    pub const SCREEN_WAKE_LOCK: Self = Self::known("screen-wake-lock");
    /// `serial`: accessing serial ports.
    pub const SERIAL: Self = Self::known("serial");
    /// `usb`: accessing USB devices.
    pub const USB: Self = Self::known("usb");
    /// `web-share`: opening the share dialog of the operating system.
    pub const WEB_SHARE: Self = Self::known("web-share");
    /// `xr-spatial-tracking`: using virtual and augmented reality (WebXR).
    pub const XR_SPATIAL_TRACKING: Self = Self::known("xr-spatial-tracking");

    const fn known(name: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(name))
    }

    /// Creates a feature for which this type has no constant.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not a key of a structured field (RFC 9651 §3.1.2): lower-case letters, digits, `-`
    /// and `_`.
    pub fn new(name: &str) -> Result<Self, PermissionsError> {
        let is_key = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        match is_key {
            true => Ok(Self(name.to_owned().into())),
            false => Err(PermissionsError::InvalidFeature(name.to_owned())),
        }
    }
}

/// The list of origins that may use a browser [`Feature`].
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::{Allowlist, PermissionsError};
///
/// let list = Allowlist::self_origin().origin("https://maps.example.org")?;
/// assert_eq!(list.to_string(), r#"(self "https://maps.example.org")"#);
/// # Ok::<(), PermissionsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Allowlist(Origins);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origins {
    All,
    Listed { self_origin: bool, origins: Vec<String> },
}

impl Allowlist {
    /// Creates the allowlist `*`: the page, and every frame to which it delegates the feature.
    pub const fn all() -> Self {
        Self(Origins::All)
    }

    /// Creates the empty allowlist `()`: no origin.
    pub const fn none() -> Self {
        Self(Origins::Listed { self_origin: false, origins: Vec::new() })
    }

    /// Creates the allowlist `(self)`: the page, and frames of the same origin.
    pub const fn self_origin() -> Self {
        Self(Origins::Listed { self_origin: true, origins: Vec::new() })
    }

    /// Adds an origin, such as `https://maps.example.org`, to the allowlist. It has no effect on [`all`](Self::all).
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not an HTTP or HTTPS origin.
    pub fn origin(mut self, origin: &str) -> Result<Self, PermissionsError> {
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-*:[]_".contains(&byte);
        if !matches!(scheme, "https" | "http") || host.is_empty() || !host.bytes().all(is_host) {
            return Err(PermissionsError::InvalidOrigin(origin.to_owned()));
        }
        if let Origins::Listed { origins, .. } = &mut self.0 {
            origins.push(origin.to_owned());
        }
        Ok(self)
    }
}

impl fmt::Display for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origins::All => f.write_str("*"),
            Origins::Listed { self_origin, origins } => {
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
        let invalid = || PermissionsError::InvalidAllowlist(text.to_owned());
        match text {
            "*" => return Ok(Self::all()),
            "self" => return Ok(Self::self_origin()),
            _ => {}
        }
        let items = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or_else(invalid)?;
        items.split_ascii_whitespace().try_fold(Self::none(), |list, item| {
            let origin = item.strip_prefix('"').and_then(|item| item.strip_suffix('"'));
            match (item, origin, list.0) {
                ("*", _, _) => Ok(Self::all()),
                ("self", _, Origins::Listed { origins, .. }) => {
                    Ok(Self(Origins::Listed { self_origin: true, origins }))
                }
                ("self", _, Origins::All) => Ok(Self::all()),
                (_, Some(origin), origins) => Self(origins).origin(origin),
                _ => Err(invalid()),
            }
        })
    }
}

/// The error type for an invalid [`PermissionsPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionsError {
    /// A member of the policy does not have the form `feature=allowlist`. `Feature-Policy` had another syntax.
    #[error("bad permission {0:?}: expected the form camera=() or camera=(self \"https://a.example\")")]
    InvalidMember(String),
    /// A feature name contains characters other than lower-case letters, digits and hyphens.
    #[error("bad browser feature name {0:?}: expected lower-case letters, digits and hyphens")]
    InvalidFeature(String),
    /// The allowlist of a feature is invalid.
    #[error("bad allowlist {0:?}: expected \"*\", \"self\", or a list such as (self \"https://a.example\")")]
    InvalidAllowlist(String),
    /// An origin in an allowlist is invalid.
    #[error("bad origin {0:?} in an allowlist: expected the form https://example.org")]
    InvalidOrigin(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_permissions_policies() {
        for (text, formatted) in [
            ("camera=()", "camera=()"),
            ("camera=(),geolocation=( self )", "camera=(), geolocation=(self)"),
            ("fullscreen=self, usb=(*)", "fullscreen=(self), usb=*"),
            ("usb=(\"https://*.a.example:8443\" self)", "usb=(self \"https://*.a.example:8443\")"),
            ("usb=(), usb=*", "usb=*"),
        ] {
            assert_eq!(text.parse::<PermissionsPolicy>().unwrap().to_string(), formatted);
        }
        for (text, error) in [
            ("camera 'none'", PermissionsError::InvalidMember("camera 'none'".to_owned())),
            ("", PermissionsError::InvalidMember(String::new())),
            ("Camera=()", PermissionsError::InvalidFeature("Camera".to_owned())),
            ("camera='none'", PermissionsError::InvalidAllowlist("'none'".to_owned())),
            ("camera=(https://a.example)", PermissionsError::InvalidAllowlist("(https://a.example)".to_owned())),
            ("camera=(\"a.example\")", PermissionsError::InvalidOrigin("a.example".to_owned())),
        ] {
            assert_eq!(text.parse::<PermissionsPolicy>(), Err(error));
        }
    }
}
