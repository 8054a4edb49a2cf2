//! Measured figures and their units.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::Tally;
use super::memory::Memory;
use super::processor::Used;

/// A measured quantity, shown as a column of the report. The order is that of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Processor,
    User,
    System,
    Rate,
    Upstream,
    Median,
    P99,
    P999,
    PerConnection,
    Proportional,
    Resident,
}

/// The figures of one measurement run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample(BTreeMap<Figure, f64>);

impl Figure {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Processor => "processor time per request",
            Self::User => "user",
            Self::System => "system",
            Self::Rate => "rate",
            Self::Upstream => "requests that reached the origin",
            Self::Median => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::PerConnection => "memory per connection",
            Self::Proportional => "memory",
            Self::Resident => "resident, summed over processes",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Processor | Self::User | Self::System => "us",
            Self::Rate => "/s",
            Self::Upstream => "per object",
            Self::Median | Self::P99 | Self::P999 => "ms",
            Self::PerConnection => "kB",
            Self::Proportional | Self::Resident => "MB",
        }
    }
}

impl Sample {
    pub(crate) fn of_load(used: Used, tally: &Tally) -> Self {
        let requests = tally.requests as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        let mut figures = BTreeMap::from([
            (Figure::Processor, each(used.user + used.system)),
            (Figure::User, each(used.user)),
            (Figure::System, each(used.system)),
            (Figure::Rate, requests / tally.elapsed.as_secs_f64()),
        ]);
        figures.extend(tally.upstream.map(|upstream| (Figure::Upstream, upstream)));
        if let Some(latencies) = &tally.latencies {
            let quantile = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
            figures.extend([
                (Figure::Median, quantile(0.5)),
                (Figure::P99, quantile(0.99)),
                (Figure::P999, quantile(0.999)),
            ]);
        }
        Self(figures)
    }

    /// Returns the memory figures of an idle program.
    pub(crate) fn of_memory(memory: Memory) -> Self {
        Self(BTreeMap::from([
            (Figure::Proportional, memory.proportional as f64 / 1e6),
            (Figure::Resident, memory.resident as f64 / 1e6),
        ]))
    }

    /// Computes the memory per idle connection from the memory use with and without the connections.
    pub(crate) fn of_growth(without: Memory, with: Memory, connections: usize) -> Self {
        let growth = with.proportional as f64 - without.proportional as f64;
        let mut sample = Self::of_memory(with);
        sample.0.insert(Figure::PerConnection, growth / 1e3 / connections as f64);
        sample
    }

    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).copied()
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_divided_by_the_number_of_requests() {
        let used = Used { user: Duration::from_millis(300), system: Duration::from_millis(700) };
        let tally = Tally { requests: 10_000, elapsed: Duration::from_secs(2), latencies: None, upstream: None };
        let sample = Sample::of_load(used, &tally);
        for (figure, value) in [
            (Figure::Processor, Some(100.0)),
            (Figure::User, Some(30.0)),
            (Figure::System, Some(70.0)),
            (Figure::Rate, Some(5000.0)),
            (Figure::P99, None),
        ] {
            assert_eq!(sample.get(figure), value, "{figure:?}");
        }
    }

    #[test]
    fn memory_growth_is_divided_by_the_number_of_connections() {
        let memory = |proportional| Memory { proportional, resident: 9_000_000 };
        let sample = Sample::of_growth(memory(5_000_000), memory(7_500_000), 1000);
        assert_eq!(sample.get(Figure::PerConnection), Some(2.5));
        assert_eq!(sample.get(Figure::Resident), Some(9.0));
    }
}
