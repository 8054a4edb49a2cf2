//! Medians with what they were taken from, so that a reader sees how much they wander.

use std::fmt;

/// The median of some runs, the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` when there are none.
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

    /// Of `ours / theirs`, pair by pair: what slowed the machine down for a while slowed both of a pair.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios).filter(|spread| spread.median.is_finite())
    }

    /// The median as text, without the others.
    pub(crate) fn alone(&self) -> String {
        Self { low: self.median, high: self.median, ..*self }.to_string()
    }
}

/// `0.93 [0.90-0.97]`, with as many digits as the precision says, by itself as many as the figure deserves.
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

/// Three digits that count.
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
    fn a_median_is_the_middle_or_the_mean_of_the_two_there() {
        let spread = |median, low, high| Some(Spread { median, low, high });
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]), spread(2.5, 1.0, 4.0));
        assert_eq!(Spread::of(&[5.0]), spread(5.0, 5.0, 5.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine was half as fast in the second pair, for both.
        let ratio = Spread::of_ratios(&[10.0, 20.0, 11.0], &[20.0, 40.0, 20.0]).unwrap();
        assert_eq!(ratio, Spread { median: 0.5, low: 0.5, high: 0.55 });
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }

    #[test]
    fn it_is_written_with_the_digits_that_count() {
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
