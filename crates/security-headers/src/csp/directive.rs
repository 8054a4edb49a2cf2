//! CSP directives, and the flags of the `sandbox` directive.

use std::fmt;

/// A CSP directive with a list of sources (CSP Level 3 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CspDirective {
    /// `child-src`: frames and workers, unless `frame-src` or `worker-src` is set.
    ChildSrc,
    /// `connect-src`: connections from scripts, such as `fetch`, WebSockets and server-sent events.
    ConnectSrc,
    /// `default-src`: the fallback for the other `-src` directives.
    DefaultSrc,
    /// `font-src`: the fonts of the page.
    FontSrc,
    /// `frame-src`: pages that this page embeds in frames.
    FrameSrc,
    /// `img-src`: images, including favicons.
    ImgSrc,
    /// `manifest-src`: web app manifests.
    ManifestSrc,
    /// `media-src`: audio, video and subtitles.
    MediaSrc,
    /// `object-src`: plug-ins in `<object>` and `<embed>`.
    ObjectSrc,
    /// `script-src`: inline and external scripts.
    ScriptSrc,
    /// `script-src-attr`: event handlers in attributes.
    ScriptSrcAttr,
    /// `script-src-elem`: script elements.
    ScriptSrcElem,
    /// `style-src`: inline and external styles.
    StyleSrc,
    /// `style-src-attr`: style attributes.
    StyleSrcAttr,
    /// `style-src-elem`: style elements and stylesheets.
    StyleSrcElem,
    /// `worker-src`: web workers and service workers.
    WorkerSrc,
    /// `base-uri`: URLs in the `<base>` element.
    BaseUri,
    /// `form-action`: targets of form submissions.
    FormAction,
    /// `frame-ancestors`: pages that may embed this page in a frame.
    FrameAncestors,
}

impl CspDirective {
    /// Returns the name of the directive, such as `script-src`.
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

    /// Returns whether the directive accepts sources that apply only to scripts and styles.
    pub(super) fn is_for_code(self) -> bool {
        match self {
            Self::DefaultSrc
            | Self::ScriptSrc
            | Self::ScriptSrcAttr
            | Self::ScriptSrcElem
            | Self::StyleSrc
            | Self::StyleSrcAttr
            | Self::StyleSrcElem
            // Scripts of workers are subject to the rules for scripts (§6.1.16).
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

impl fmt::Display for CspDirective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A permission for a sandboxed page (HTML §4.8.5, `sandbox`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SandboxFlag {
    /// `allow-downloads`: the page may start downloads.
    AllowDownloads,
    /// `allow-forms`: the page may submit forms.
    AllowForms,
    /// `allow-modals`: the page may open modal dialogs, such as `alert`.
    AllowModals,
    /// `allow-popups`: the page may open windows.
    AllowPopups,
    /// `allow-popups-to-escape-sandbox`: windows that the page opens are not sandboxed.
    AllowPopupsToEscapeSandbox,
    /// `allow-presentation`: the page may show content on another display.
    AllowPresentation,
    /// `allow-same-origin`: the page keeps its origin.
    ///
    /// Together with `allow-scripts`, it lets the page escape the sandbox.
    AllowSameOrigin,
    /// `allow-scripts`: the page may run scripts.
    AllowScripts,
    /// `allow-top-navigation-by-user-activation`: a click may navigate the outermost page.
    AllowTopNavigationByUserActivation,
}

impl SandboxFlag {
    /// Returns the keyword of the flag, such as `allow-scripts`.
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
