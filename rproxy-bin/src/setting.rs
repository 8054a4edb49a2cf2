//! Settings, and the macro that declares the settings of one area.
//!
//! A setting is declared once, in the file of its concern in `layers/`. The file, the environment, the flags,
//! `--help`, `--check`, the reference page and the reload are made from that declaration.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rproxy_server::ListenAddr;

use crate::values::rule_list::lines;
use crate::values::value::joined;

/// The prefix of the environment variables of all settings.
pub(crate) const PREFIX: &str = "RPROXY_";

/// The description of a setting: key, default, help text, accepted values and scope.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The key of the setting in the configuration file. The environment variable is `RPROXY_` and the key in capitals,
    /// the flag is the key with hyphens.
    pub key: &'static str,
    /// The heading under which the documentation lists the setting.
    pub heading: &'static str,
    /// The placeholder for the value in the `--help` text.
    pub placeholder: &'static str,
    /// The default value of the setting.
    pub default: DefaultValue,
    /// A short description of the effect of the setting.
    pub help: &'static str,
    /// The values that the setting accepts.
    pub accepted: &'static str,
    /// Whether the value is secret and omitted from all output.
    pub secret: bool,
    /// The scope in which the setting is valid.
    pub scope: Scope,
    /// Whether a reload applies a changed value.
    pub reload: Reload,
}

/// The default value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultValue {
    /// The default is a value in the syntax of the setting.
    Literal(&'static str),
    /// The default is described in words, because it depends on other settings or has no syntax.
    Description(&'static str),
}

/// The scope of a setting: the process, each site, or each route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// The setting is valid at the top level of the file, as an environment variable and as a flag.
    Process,
    /// The setting is also valid in a `[[site]]` table.
    Site,
    /// The setting is also valid in a `[[site.route]]` table.
    Route,
}

impl Scope {
    /// Returns the name of the scope for use in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Site => "site",
            Self::Route => "route",
        }
    }

    /// Returns the place in the configuration file where a setting of this scope is valid.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Process => "set it before the first [[site]] or [[route]]",
            Self::Site => "set it in [[site]], or before the first [[site]] or [[route]]",
            Self::Route => "set it in [[site.route]], in [[site]], or before the first [[site]] or [[route]]",
        }
    }
}

/// Whether a reload or only a restart applies a changed setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reload {
    /// A reload applies the changed setting.
    Live,
    /// Only a restart applies the changed setting.
    Restart,
}

impl Setting {
    /// Returns the name of the setting's environment variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// Returns the name of the setting's flag, without the leading hyphens.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Returns whether the setting is a boolean, so that its flag needs no value.
    pub fn is_switch(&self) -> bool {
        self.accepted == SWITCH
    }

    /// Returns whether the value is the path of a file, whose content the setting has as well.
    pub(crate) fn is_file(&self) -> bool {
        self.accepted == READABLE_FILE
    }

    /// Joins the entries of an array or a repeated flag to the text of the setting.
    pub(crate) fn joined(&self, entries: &[String]) -> String {
        if self.has_lines() { lines(entries) } else { entries.join(",") }
    }

    /// Removes white space around the text of the setting, except the line end that marks a list of lines.
    pub(crate) fn trimmed<'t>(&self, text: &'t str) -> &'t str {
        if self.has_lines() { text } else { text.trim() }
    }

    /// Returns whether the setting is a list whose entries can contain commas, so that line ends separate them.
    fn has_lines(&self) -> bool {
        self.placeholder == "LINE,..."
    }

    /// Returns whether the setting is a list, so that its flag can be repeated.
    pub fn is_list(&self) -> bool {
        self.placeholder.ends_with(",...")
    }
}

/// Returns the name of the environment variable for a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// Returns the name of the flag for a key.
pub(crate) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// The description of a setting, with its parser and its formatter.
pub(crate) struct Entry<S: 'static> {
    pub(crate) setting: Setting,
    pub(crate) set: fn(&mut S, &str) -> Result<(), String>,
    pub(crate) show: fn(&S) -> Option<String>,
}

/// The settings of one area of the configuration.
pub(crate) trait Settings: Sized + 'static {
    /// The settings of this area, in the order of the documentation.
    const ENTRIES: &'static [Entry<Self>];
    /// The rules about combinations of settings. A violation is an error.
    const RULES: &'static [Rule<Self>];
    /// The conditions under which settings have no effect. This is a warning.
    const IDLE: &'static [Rule<Self>];
}

/// The values of all settings of an area, and the content of their files. Equal values build the same layer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct SettingValues {
    shown: Vec<Option<String>>,
    files: Vec<u64>,
}

impl SettingValues {
    pub(crate) fn of<S>(settings: &S) -> Self
    where
        S: Settings,
    {
        let shown: Vec<Option<String>> = S::ENTRIES.iter().map(|entry| (entry.show)(settings)).collect();
        let entries = S::ENTRIES.iter().zip(&shown).filter(|(entry, _)| entry.setting.is_file());
        let hash = |path: &String| {
            let mut hasher = DefaultHasher::new();
            fs::read(path).map_err(|error| error.kind()).hash(&mut hasher);
            hasher.finish()
        };
        let files = entries.filter_map(|(_, path)| path.as_ref()).map(hash).collect();
        Self { shown, files }
    }

    /// Returns the text of the value of a setting.
    pub(crate) fn text<S: Settings>(&self, key: &str) -> Option<&str> {
        let index = S::ENTRIES.iter().position(|entry| entry.setting.key == key)?;
        self.shown.get(index)?.as_deref()
    }

    /// Returns whether the values are equal, except for the content of files.
    pub(crate) fn has_same_text(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

/// Formats no values, because they can be secrets.
impl fmt::Debug for SettingValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingValues").finish_non_exhaustive()
    }
}

/// A rule about settings.
pub(crate) struct Rule<S: 'static> {
    /// The keys of the settings. An error names the first one that was set.
    pub(crate) about: &'static [&'static str],
    /// Returns the reason why the rule is violated.
    pub(crate) broken: fn(&S, &RuleContext<'_>) -> Option<String>,
}

/// The rest of the configuration, as far as rules need it.
pub(crate) struct RuleContext<'c> {
    /// Returns the name of a setting in the source of the reported one.
    pub(crate) name: &'c dyn Fn(&str) -> String,
    /// The main listeners.
    pub(crate) listeners: &'c [ListenAddr],
    /// The plain listeners that redirect to HTTPS.
    pub(crate) redirect_listeners: &'c [ListenAddr],
    /// Whether a plain listener redirects to HTTPS.
    pub(crate) has_redirect: bool,
    /// Whether `handover_socket` is set.
    pub(crate) has_handover_socket: bool,
    /// Whether the process must not start without its sandbox.
    pub(crate) requires_sandbox: bool,
    /// Whether the main listeners use TLS.
    pub(crate) has_tls: bool,
    /// The location of the `redirect` that makes a configured `upstream` of the same site or route unused.
    pub(crate) overriding_redirect: Option<&'c str>,
}

impl RuleContext<'_> {
    /// Returns the name of a setting in the source of the reported one.
    pub(crate) fn name(&self, key: &str) -> String {
        (self.name)(key)
    }
}

pub(crate) const SWITCH: &str = "true or false (1/0, yes/no, on/off)";
pub(crate) const READABLE_FILE: &str = "the path of a readable file";
pub(crate) const DURATION: &str = "a duration such as 500ms, 2m or 1h; a bare number is seconds";
pub(crate) const PATHS: &str = "comma-separated globs such as /static/**, **/*.{css,js}";

/// Declares the settings of one area: a struct with one field per setting, its `Default`, and the descriptions.
///
/// The default is text that the parser reads, or a description with `=>` and the value. `parse` reads the text of a
/// value; `show` writes it back, or returns `None` if nothing is set.
///
/// After the settings, `derived` declares fields that no source sets, `rules` lists combinations that are errors, and `idle` conditions under which settings have no
/// effect. Each is a list of keys and a function that returns the reason.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $Settings:ident, $heading:literal

        $(
            $key:literal => $field:ident: $Type:ty {
                value: $placeholder:literal,
                default: $default:expr $(=> $initial:expr)?,
                help: $help:literal,
                accepted: $accepted:expr,
                $(secret: $secret:literal,)?
                scope: $scope:ident,
                reload: $reload:ident,
                parse: $parse:expr,
                show: $show:expr $(,)?
            }
        )+

        $(derived {
            $($(#[$derived_meta:meta])* $derived:ident: $Derived:ty,)+
        })?

        $(rules {
            $([$($about:literal),+ $(,)?] => $broken:expr,)+
        })?

        $(idle {
            $([$($idle:literal),+ $(,)?] => $because:expr,)+
        })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $Settings {
            $(
                #[doc = concat!("`", $key, "`: ", $help, ".")]
                pub $field: $Type,
            )+
            $($(
                $(#[$derived_meta])*
                pub(crate) $derived: $Derived,
            )+)?
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self {
                    $($field: $crate::setting::default_value!($default, $parse $(, $initial)?),)+
                    $($($derived: <$Derived>::default(),)+)?
                }
            }
        }

        impl $crate::setting::Settings for $Settings {
            const ENTRIES: &'static [$crate::setting::Entry<Self>] = &[$(
                $crate::setting::Entry {
                    setting: $crate::setting::Setting {
                        key: $key,
                        heading: $heading,
                        placeholder: $placeholder,
                        default: $crate::setting::default_description!($default $(, $initial)?),
                        help: $help,
                        accepted: $accepted,
                        secret: false $(|| $secret)?,
                        scope: $crate::setting::Scope::$scope,
                        reload: $crate::setting::Reload::$reload,
                    },
                    set: |settings, text| $crate::setting::assign(&mut settings.$field, text, $parse),
                    show: |settings| $crate::setting::show(settings, $show),
                },
            )+];

            const RULES: &'static [$crate::setting::Rule<Self>] = &[$($(
                $crate::setting::Rule { about: &[$($about),+], broken: $broken },
            )+)?];

            const IDLE: &'static [$crate::setting::Rule<Self>] = &[$($(
                $crate::setting::Rule { about: &[$($idle),+], broken: $because },
            )+)?];
        }
    };
}

macro_rules! default_value {
    ($default:expr, $parse:expr, $initial:expr) => {
        $initial
    };
    ($default:expr, $parse:expr) => {
        $crate::setting::parse_default($default, $parse)
    };
}

macro_rules! default_description {
    ($default:expr, $initial:expr) => {
        $crate::setting::DefaultValue::Description($default)
    };
    ($default:expr) => {
        $crate::setting::DefaultValue::Literal($default)
    };
}

pub(crate) use {default_description, default_value, settings};

/// Parses a constant default and panics if it is invalid; a test parses all defaults.
pub(crate) fn parse_default<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> T
where
    E: ToString,
{
    match parse(text) {
        Ok(value) => value,
        Err(error) => unreachable!("the default {text:?} is not valid: {}", error.to_string()),
    }
}

pub(crate) fn assign<T, E>(field: &mut T, text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<(), String>
where
    E: ToString,
{
    *field = parse(text).map_err(|error| error.to_string())?;
    Ok(())
}

pub(crate) fn show<S>(settings: &S, show: impl FnOnce(&S) -> Option<String>) -> Option<String> {
    show(settings)
}

/// Converts a maximum number of connections; 0 means no limit and is returned as `None`.
pub(crate) fn connections(number: u32) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number as usize)
}

/// Joins paths with commas; returns `None` for an empty list.
pub(crate) fn joined_paths(paths: &[PathBuf]) -> Option<String> {
    joined(&paths.iter().map(|path| path.display()).collect::<Vec<_>>())
}
