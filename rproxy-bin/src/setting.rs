//! Settings, and the macro that declares the settings of one concern.
//!
//! A setting is declared once, in the file of its concern in `layers/`. The file, the environment, the flags,
//! `--help`, `--check`, the reference page and the reload are made from that declaration.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::values::value::joined;

/// The start of the name of every environment variable.
pub(crate) const PREFIX: &str = "RPROXY_";

/// The description of one setting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The key in the file. The environment variable is `RPROXY_` and the key in capitals, the flag is the key with
    /// hyphens.
    pub key: &'static str,
    /// The heading of its group in the documentation.
    pub heading: &'static str,
    /// The placeholder of the value in `--help`.
    pub placeholder: &'static str,
    /// The value that applies if the setting is not set.
    pub default: DefaultValue,
    /// The effect of the setting, in a few words.
    pub help: &'static str,
    /// The accepted values.
    pub accepted: &'static str,
    /// Whether the value is hidden from all output.
    pub secret: bool,
    /// The scope in which it can be set.
    pub scope: Scope,
    /// Whether a reload applies a change.
    pub reload: Reload,
}

/// The default of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultValue {
    /// A value in the syntax of the setting.
    Literal(&'static str),
    /// A description, for a default that has no syntax or depends on other settings.
    Description(&'static str),
}

/// The scope of a setting: the process, or also a site, or also a route of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// At the top level of the file only, and by environment variable or flag.
    Process,
    /// Also in a `[[site]]` table.
    Site,
    /// Also in a `[[site.route]]` table.
    Route,
}

impl Scope {
    /// Returns the name of the scope for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Site => "site",
            Self::Route => "route",
        }
    }

    /// Returns where in the file a setting of this scope is set.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Process => "set it before the first [[site]] or [[route]]",
            Self::Site => "set it in [[site]], or before the first one",
            Self::Route => "set it in [[site.route]], in [[site]], or before the first one",
        }
    }
}

/// Whether a reload applies a changed setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reload {
    /// A reload applies it.
    Live,
    /// Only a restart applies it.
    Restart,
}

impl Setting {
    /// Returns the name of the environment variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// Returns the flag, without the two hyphens in front.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Returns whether the setting is a switch, whose flag needs no value.
    pub fn is_switch(&self) -> bool {
        self.accepted == SWITCH
    }

    /// Returns whether the setting is a list, whose flag may be repeated.
    pub fn is_list(&self) -> bool {
        self.placeholder.ends_with(",...")
    }
}

/// Returns the environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// Returns the flag of a key.
pub(crate) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// A setting of one concern: its description, its parser and its printer.
pub(crate) struct Entry<S: 'static> {
    pub(crate) setting: Setting,
    pub(crate) set: fn(&mut S, &str) -> Result<(), String>,
    pub(crate) show: fn(&S) -> Option<String>,
}

/// The settings of one concern.
pub(crate) trait Settings: Sized + 'static {
    /// Its settings, in the order of the documentation.
    const ENTRIES: &'static [Entry<Self>];
}

pub(crate) const SWITCH: &str = "true or false (1/0, yes/no, on/off)";
pub(crate) const DURATION: &str = "a duration such as 500ms, 2m or 1h; a bare number is seconds";
pub(crate) const PATHS: &str = "comma-separated globs such as /static/**, **/*.{css,js}";

/// Declares the settings of one concern: a struct with a field for each, its `Default`, and their descriptions.
///
/// The default is text that the parser reads, or a description with `=>` and the value. `parse` reads the text of a
/// value; `show` writes it back, or returns `None` if nothing is set.
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
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $Settings {
            $(
                #[doc = concat!("`", $key, "`: ", $help, ".")]
                pub $field: $Type,
            )+
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self { $($field: $crate::setting::default_value!($default, $parse $(, $initial)?),)+ }
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

/// Parses a default, which is a constant: a test parses all of them.
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

/// Returns a maximum number of connections, with 0 for no limit.
pub(crate) fn connections(number: u32) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number as usize)
}

/// Prints a list of paths.
pub(crate) fn joined_paths(paths: &[PathBuf]) -> Option<String> {
    joined(&paths.iter().map(|path| path.display()).collect::<Vec<_>>())
}
