//! What a policy speaks of.

use std::fmt;

/// A directive that takes a list of sources (CSP Level 3 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Directive {
    /// `child-src`: frames and workers, where `frame-src` and `worker-src` say nothing.
    ChildSrc,
    /// `connect-src`: what scripts may ask: fetch, WebSockets, server-sent events.
    ConnectSrc,
    /// `default-src`: whatever the others that load something say nothing of.
    DefaultSrc,
    /// `font-src`
    FontSrc,
    /// `frame-src`: what the page may frame.
    FrameSrc,
    /// `img-src`
    ImgSrc,
    /// `manifest-src`
    ManifestSrc,
    /// `media-src`
    MediaSrc,
    /// `object-src`: plug-ins.
    ObjectSrc,
    /// `script-src`
    ScriptSrc,
    /// `script-src-attr`: event handlers in attributes.
    ScriptSrcAttr,
    /// `script-src-elem`: script elements.
    ScriptSrcElem,
    /// `style-src`
    StyleSrc,
    /// `style-src-attr`: style attributes.
    StyleSrcAttr,
    /// `style-src-elem`: style elements and stylesheets.
    StyleSrcElem,
    /// `worker-src`
    WorkerSrc,
    /// `base-uri`: what `<base>` may say.
    BaseUri,
    /// `form-action`: where forms may go.
    FormAction,
    /// `frame-ancestors`: who may frame the page.
    FrameAncestors,
}

impl Directive {
    /// As a policy has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChildSrc => "child-src",
            Self::ConnectSrc => "connect-src",
            Self::DefaultSrc => "default-src",
            Self::FontSrc => "font-src",
            Self::FrameSrc => "frame-src",
            Self::ImgSrc => "img-src",
            Self::ManifestSrc => "manifest-src",
            Self::MediaSrc => "media-src",
            Self::ObjectSrc => "object-src",
            Self::ScriptSrc => "script-src",
            Self::ScriptSrcAttr => "script-src-attr",
            Self::ScriptSrcElem => "script-src-elem",
            Self::StyleSrc => "style-src",
            Self::StyleSrcAttr => "style-src-attr",
            Self::StyleSrcElem => "style-src-elem",
            Self::WorkerSrc => "worker-src",
            Self::BaseUri => "base-uri",
            Self::FormAction => "form-action",
            Self::FrameAncestors => "frame-ancestors",
        }
    }

    /// Whether keywords for scripts and styles mean something in it: where one may be inline.
    pub(super) fn is_about_code(self) -> bool {
        match self {
            Self::DefaultSrc
            | Self::ScriptSrc
            | Self::ScriptSrcAttr
            | Self::ScriptSrcElem
            | Self::StyleSrc
            | Self::StyleSrcAttr
            | Self::StyleSrcElem
            // A worker's script falls under the script's rules (§6.1.16).
            | Self::WorkerSrc => true,
            Self::ChildSrc
            | Self::ConnectSrc
            | Self::FontSrc
            | Self::FrameSrc
            | Self::ImgSrc
            | Self::ManifestSrc
            | Self::MediaSrc
            | Self::ObjectSrc
            | Self::BaseUri
            | Self::FormAction
            | Self::FrameAncestors => false,
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a page in the sandbox may do all the same (HTML §4.8.5, `sandbox`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sandbox {
    /// `allow-downloads`
    AllowDownloads,
    /// `allow-forms`
    AllowForms,
    /// `allow-modals`
    AllowModals,
    /// `allow-popups`
    AllowPopups,
    /// `allow-popups-to-escape-sandbox`
    AllowPopupsToEscapeSandbox,
    /// `allow-presentation`
    AllowPresentation,
    /// `allow-same-origin`: together with scripts, there is hardly a sandbox left.
    AllowSameOrigin,
    /// `allow-scripts`
    AllowScripts,
    /// `allow-top-navigation-by-user-activation`
    AllowTopNavigationByUserActivation,
}

impl Sandbox {
    /// As a policy has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowDownloads => "allow-downloads",
            Self::AllowForms => "allow-forms",
            Self::AllowModals => "allow-modals",
            Self::AllowPopups => "allow-popups",
            Self::AllowPopupsToEscapeSandbox => "allow-popups-to-escape-sandbox",
            Self::AllowPresentation => "allow-presentation",
            Self::AllowSameOrigin => "allow-same-origin",
            Self::AllowScripts => "allow-scripts",
            Self::AllowTopNavigationByUserActivation => "allow-top-navigation-by-user-activation",
        }
    }
}
