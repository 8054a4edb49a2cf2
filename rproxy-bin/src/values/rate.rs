//! A request rate per second, minute or hour.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use rproxy_rate_limit::Quota;

use super::value::{ParseError, rate};

/// A number of requests per second, minute or hour, such as `100`, `5/min` or `1000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    requests: NonZeroU32,
    period: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// Creates a rate of `requests` requests per second.
    pub const fn per_second(requests: NonZeroU32) -> Self {
        Self { requests, period: Period::Second }
    }

    /// Returns the number of requests per period.
    pub fn requests(self) -> NonZeroU32 {
        self.requests
    }

    /// Returns the default burst: ten times a rate per second, or the number of a rate per minute or hour.
    pub fn default_burst(self) -> NonZeroU32 {
        match self.period {
            Period::Second => self.requests.saturating_mul(TEN),
            Period::Minute | Period::Hour => self.requests,
        }
    }

    /// Returns the quota of this rate, whose burst equals the number of requests per period.
    pub(crate) fn quota(self) -> Quota {
        match self.period {
            Period::Second => Quota::per_second(self.requests.get()),
            Period::Minute => Quota::per_minute(self.requests.get()),
            Period::Hour => Quota::per_hour(self.requests.get()),
        }
    }
}

const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

impl FromStr for Rate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (requests, period) = match text.split_once('/') {
            None => (text, Period::Second),
            Some((requests, period)) => (
                requests.trim_end(),
                match period.trim_start() {
                    "s" | "sec" | "second" => Period::Second,
                    "m" | "min" | "minute" => Period::Minute,
                    "h" | "hour" => Period::Hour,
                    _ => return Err(ParseError::new("rate", text, "the period of the rate is not s, min or h")),
                },
            ),
        };
        Ok(Self { requests: rate(requests)?, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Second => "",
            Period::Minute => "/min",
            Period::Hour => "/h",
        };
        write!(f, "{}{period}", self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_rates_per_second_minute_and_hour() {
        for (text, shown, burst) in [
            ("100", "100", 1000),
            ("5/s", "5", 50),
            ("5/min", "5/min", 5),
            ("5 / minute", "5/min", 5),
            ("1000/h", "1000/h", 1000),
            ("4294967295", "4294967295", u32::MAX),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.to_string().as_str(), rate.default_burst().get()), (shown, burst));
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn rejects_invalid_rate_with_reason() {
        for (text, reason) in [
            ("0", "bad number \"0\": must be 1 or more"),
            ("0/min", "bad number \"0\": must be 1 or more"),
            ("5/day", "bad rate \"5/day\": the period of the rate is not s, min or h"),
            ("/min", "bad number \"\": not a whole number"),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap_err().to_string(), reason);
        }
    }
}
