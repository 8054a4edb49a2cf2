//! Medians with their range, which indicates the noise of a measurement.

use std::fmt;

/// The median, minimum and maximum of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Returns the median and range of `runs`, or `None` if there are no runs.
    pub(crate) fn of(runs: &[f64]) -> Option<Self> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Self { median, low, high })
    }

    /// Returns the median and range of the ratios of paired runs. A slow phase of the machine affects both runs of a
    /// pair.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios).filter(|spread| spread.median.is_finite())
    }

    /// Returns the median as text.
    pub(crate) fn alone(&self) -> String {
        Self { low: self.median, high: self.median, ..*self }.to_string()
    }
}

/// Formats the median and range, such as `0.93 [0.90-0.97]`. Without a precision there are three significant digits.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or_else(|| digits(self.median));
        let Self { median, low, high } = self;
        write!(f, "{median:.digits$}")?;
        match low == high {
            true => Ok(()),
            false => write!(f, " [{low:.digits$}-{high:.digits$}]"),
        }
    }
}

/// Returns the number of decimal places for three significant digits.
fn digits(figure: f64) -> usize {
    match figure.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_of_runs_is_the_mean_of_the_middle_two() {
        let spread = |median, low, high| Some(Spread { median, low, high });
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]), spread(2.5, 1.0, 4.0));
        assert_eq!(Spread::of(&[5.0]), spread(5.0, 5.0, 5.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn computes_ratios_of_paired_runs() {
        // The machine was half as fast in the second pair, for both.
        let ratio = Spread::of_ratios(&[10.0, 20.0, 11.0], &[20.0, 40.0, 20.0]).unwrap();
        assert_eq!(ratio, Spread { median: 0.5, low: 0.5, high: 0.55 });
    }

    #[test]
    fn ratio_to_zero_or_without_runs_is_none() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }

    #[test]
    fn displays_three_significant_digits() {
        for (runs, text) in [
            (&[1234.5, 1200.0, 1300.0][..], "1234 [1200-1300]"),
            (&[12.34, 12.0, 13.0], "12.3 [12.0-13.0]"),
            (&[1.234, 1.2, 1.3], "1.23 [1.20-1.30]"),
            (&[0.5], "0.500"),
        ] {
            assert_eq!(Spread::of(runs).unwrap().to_string(), text);
        }
        assert_eq!(format!("{:.2}", Spread::of(&[0.5, 0.6, 0.7]).unwrap()), "0.60 [0.50-0.70]");
    }
}
