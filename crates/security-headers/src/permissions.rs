//! `Permissions-Policy` (W3C Permissions Policy).

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

/// A `Permissions-Policy`: the browser features that a page and its frames may use.
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
    /// Creates a policy without features.
    pub fn new() -> Self {
        Self::default()
    }

    /// Denies `features` to the page and all of its frames.
    pub fn deny(self, features: impl IntoIterator<Item = Feature>) -> Self {
        features.into_iter().fold(self, |policy, feature| policy.allow(feature, Allowlist::none()))
    }

    /// Allows `feature` for the origins on the list only. The last call for a feature applies.
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

/// A browser feature that a policy controls, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feature(std::borrow::Cow<'static, str>);

impl Feature {
    /// `accelerometer`: the acceleration of the device.
    pub const ACCELEROMETER: Self = Self::known("accelerometer");
    /// `autoplay`: audio and video that play without a click.
    pub const AUTOPLAY: Self = Self::known("autoplay");
    /// `camera`: video from cameras.
    pub const CAMERA: Self = Self::known("camera");
    /// `clipboard-read`: reading the clipboard.
    pub const CLIPBOARD_READ: Self = Self::known("clipboard-read");
    /// `clipboard-write`: writing to the clipboard.
    pub const CLIPBOARD_WRITE: Self = Self::known("clipboard-write");
    /// `display-capture`: capture of the screen.
    pub const DISPLAY_CAPTURE: Self = Self::known("display-capture");
    /// `encrypted-media`: playback of encrypted media (EME).
    pub const ENCRYPTED_MEDIA: Self = Self::known("encrypted-media");
    /// `fullscreen`: elements that fill the screen.
    pub const FULLSCREEN: Self = Self::known("fullscreen");
    /// `gamepad`: input from game controllers.
    pub const GAMEPAD: Self = Self::known("gamepad");
    /// `geolocation`: the location of the device.
    pub const GEOLOCATION: Self = Self::known("geolocation");
    /// `gyroscope`: the rotation of the device.
    pub const GYROSCOPE: Self = Self::known("gyroscope");
    /// `hid`: direct access to input devices such as keyboards.
    pub const HID: Self = Self::known("hid");
    /// `idle-detection`: whether the user is idle.
    pub const IDLE_DETECTION: Self = Self::known("idle-detection");
    /// `magnetometer`: the magnetic field around the device.
    pub const MAGNETOMETER: Self = Self::known("magnetometer");
    /// `microphone`: audio from microphones.
    pub const MICROPHONE: Self = Self::known("microphone");
    /// `midi`: access to MIDI devices.
    pub const MIDI: Self = Self::known("midi");
    /// `payment`: the Payment Request API.
    pub const PAYMENT: Self = Self::known("payment");
    /// `picture-in-picture`: video in a floating window.
    pub const PICTURE_IN_PICTURE: Self = Self::known("picture-in-picture");
    /// `publickey-credentials-get`: sign-in with passkeys.
    pub const PUBLICKEY_CREDENTIALS_GET: Self = Self::known("publickey-credentials-get");
    /// `screen-wake-lock`: keeping the screen on.
    pub const SCREEN_WAKE_LOCK: Self = Self::known("screen-wake-lock");
    /// `serial`: access to serial ports.
    pub const SERIAL: Self = Self::known("serial");
    /// `usb`: access to USB devices.
    pub const USB: Self = Self::known("usb");
    /// `web-share`: the share dialog of the operating system.
    pub const WEB_SHARE: Self = Self::known("web-share");
    /// `xr-spatial-tracking`: virtual and augmented reality (WebXR).
    pub const XR_SPATIAL_TRACKING: Self = Self::known("xr-spatial-tracking");

    const fn known(name: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(name))
    }

    /// Creates a feature that has no constant here.
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

/// The origins that may use a [`Feature`].
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
    /// Creates the list `*`: the page, and every frame that it delegates the feature to.
    pub const fn all() -> Self {
        Self(Origins::All)
    }

    /// Creates the list `()`: no origin.
    pub const fn none() -> Self {
        Self(Origins::Listed { self_origin: false, origins: Vec::new() })
    }

    /// Creates the list `(self)`: the page, and frames of its own origin.
    pub const fn self_origin() -> Self {
        Self(Origins::Listed { self_origin: true, origins: Vec::new() })
    }

    /// Adds an origin, such as `https://maps.example.org`. It has no effect on [`all`](Self::all).
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

/// The error for an invalid [`PermissionsPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionsError {
    /// A member is not of the form `feature=allowlist`. `Feature-Policy` had another syntax.
    #[error("bad permission {0:?}: not of the form camera=() or camera=(self \"https://a.example\")")]
    InvalidMember(String),
    /// A feature name has other characters than lower-case letters, digits and hyphens.
    #[error("bad feature {0:?}: not lower-case letters, digits and hyphens")]
    InvalidFeature(String),
    /// The allowlist of a feature is invalid.
    #[error("bad allowlist {0:?}: not *, self, or a list such as (self \"https://a.example\")")]
    InvalidAllowlist(String),
    /// An origin in an allowlist is invalid.
    #[error("bad origin {0:?}: not of the form https://example.org")]
    InvalidOrigin(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_policies() {
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
