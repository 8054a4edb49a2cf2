//! Bar charts of the comparison, as SVG.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Figure;
use super::outcome::Outcome;
use super::programs::Program;
use super::proxies::Proxy;
use super::scenario::Scenario;
use super::statistics::Spread;

/// A bar chart with one group per scenario and one bar per program.
#[derive(Debug, Default)]
struct Bars {
    title: String,
    programs: Vec<Arc<Program>>,
    /// The name of each group, and its bars as indexes into `programs` with their values.
    groups: Vec<(String, Vec<(usize, Spread)>)>,
}

/// Writes each plot that has figures into the directory `folder`. Returns the file names.
pub(crate) fn all(programs: &[Arc<Program>], outcomes: &[Outcome], folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, bars) in [
        ("processor.svg", processor(programs, outcomes)),
        ("latency.svg", latency(programs, outcomes)),
        ("idle.svg", memory(programs, outcomes, Figure::PerConnection, "Memory per idle connection, kB")),
        ("empty.svg", memory(programs, outcomes, Figure::Proportional, "Memory before the first request, MB")),
    ] {
        if !bars.groups.is_empty() {
            bars.draw(&folder.join(name)).map_err(|error| anyhow!("{name}: {error}"))?;
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns processor times relative to nginx, because the scenarios differ by orders of magnitude.
fn processor(programs: &[Arc<Program>], outcomes: &[Outcome]) -> Bars {
    let groups = outcomes.iter().filter_map(|outcome| {
        let nginx = programs.iter().find(|program| program.proxy == Proxy::Nginx)?;
        let unit = outcome.spread(nginx, Figure::Processor)?.median;
        let bars = bars(programs, outcome, Figure::Processor).into_iter().map(|(program, spread)| {
            let Spread { median, low, high } = spread;
            (program, Spread { median: median / unit, low: low / unit, high: high / unit })
        });
        Some((outcome.scenario.plan().title.to_owned(), bars.collect()))
    });
    let title = "Processor time per request, nginx = 1 (less is better)".to_owned();
    Bars { title, programs: programs.to_vec(), groups: groups.collect() }
}

fn latency(programs: &[Arc<Program>], outcomes: &[Outcome]) -> Bars {
    let groups = outcomes.iter().filter(|outcome| outcome.scenario == Scenario::Latency).flat_map(|outcome| {
        let figures = [Figure::Median, Figure::P99, Figure::P999];
        figures.map(|figure| (figure.title().to_owned(), bars(programs, outcome, figure)))
    });
    let groups = groups.filter(|(_, bars)| !bars.is_empty()).collect();
    let title = "Latency at 5,000 requests per second of 20 kB, ms".to_owned();
    Bars { title, programs: programs.to_vec(), groups }
}

fn memory(programs: &[Arc<Program>], outcomes: &[Outcome], figure: Figure, title: &str) -> Bars {
    let about = outcomes.iter().filter(|outcome| outcome.scenario.plan().headline == figure);
    let groups = about.map(|outcome| (outcome.scenario.plan().title.to_owned(), bars(programs, outcome, figure)));
    let groups = groups.filter(|(_, bars)| !bars.is_empty()).collect();
    Bars { title: title.to_owned(), programs: programs.to_vec(), groups }
}

fn bars(programs: &[Arc<Program>], outcome: &Outcome, figure: Figure) -> Vec<(usize, Spread)> {
    let bar = |(number, program): (usize, &Arc<Program>)| Some((number, outcome.spread(program, figure)?));
    programs.iter().enumerate().filter_map(bar).collect()
}

const WIDTH: u32 = 1000;
/// The x coordinate of the left edge of the bars.
const LEFT: i32 = 330;
const RIGHT: i32 = 880;
const TOP: i32 = 70;
const BAR: i32 = 14;
const GAP: i32 = 12;
/// The distance between the names of two programs in the legend.
const LEGEND: i32 = 108;

impl Bars {
    fn draw(&self, path: &Path) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let count: usize = self.groups.iter().map(|(_, bars)| bars.len()).sum();
        let height =
            TOP + BAR * i32::try_from(count).unwrap_or(0) + GAP * i32::try_from(self.groups.len()).unwrap_or(0);
        let area = SVGBackend::new(path, (WIDTH, height.unsigned_abs() + 10)).into_drawing_area();
        area.fill(&WHITE)?;
        let font = |size: i32| TextStyle::from(("sans-serif", size).into_font());
        let left = |size| font(size).pos(Pos::new(HPos::Left, VPos::Center));
        let right = |size| font(size).pos(Pos::new(HPos::Right, VPos::Center));

        area.draw(&Text::new(self.title.as_str(), (20, 20), left(21)))?;
        let mut x = 20;
        for (number, program) in self.programs.iter().enumerate().filter(|(number, _)| self.has(*number)) {
            area.draw(&Rectangle::new([(x, 40), (x + 12, 52)], self.colour(number).filled()))?;
            area.draw(&Text::new(program.name.as_str(), (x + 18, 46), left(15)))?;
            x += LEGEND;
        }

        let longest = self.groups.iter().flat_map(|(_, bars)| bars).map(|(_, spread)| spread.high).fold(0.0, f64::max);
        let at = |value: f64| LEFT + (f64::from(RIGHT - LEFT) * value / longest) as i32;
        let mut y = TOP;
        for (name, bars) in &self.groups {
            let middle = y + BAR * i32::try_from(bars.len()).unwrap_or(0) / 2;
            area.draw(&Text::new(name.as_str(), (LEFT - 10, middle), right(16)))?;
            for (number, spread) in bars {
                let (low, high, centre) = (at(spread.low), at(spread.high), y + BAR / 2);
                area.draw(&Rectangle::new(
                    [(LEFT, y + 1), (at(spread.median), y + BAR - 1)],
                    self.colour(*number).filled(),
                ))?;
                area.draw(&PathElement::new([(low, centre), (high, centre)], BLACK.mix(0.6)))?;
                area.draw(&Text::new(spread.alone(), (high.max(at(spread.median)) + 6, centre), left(15)))?;
                y += BAR;
            }
            y += GAP;
        }
        area.present()
    }

    fn has(&self, number: usize) -> bool {
        self.groups.iter().any(|(_, bars)| bars.iter().any(|(of, _)| *of == number))
    }

    /// Returns the colour of a program, which is the lighter, the more programs of its kind are before it.
    fn colour(&self, number: usize) -> RGBAColor {
        let proxy = self.programs[number].proxy;
        let same = self.programs[..number].iter().filter(|program| program.proxy == proxy).count();
        colour(proxy).mix(0.6_f64.powi(i32::try_from(same).unwrap_or(0)))
    }
}

fn colour(proxy: Proxy) -> RGBColor {
    match proxy {
        Proxy::Rproxy => RGBColor(206, 92, 0),
        Proxy::Nginx => RGBColor(0, 140, 70),
        Proxy::Haproxy => RGBColor(50, 100, 200),
        Proxy::Varnish => RGBColor(130, 70, 160),
        Proxy::Envoy => RGBColor(190, 30, 100),
        Proxy::Traefik => RGBColor(0, 150, 170),
        Proxy::Caddy => RGBColor(110, 110, 110),
    }
}
