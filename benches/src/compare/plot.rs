//! Bar charts of the comparison, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Figure;
use super::proxies::Proxy;
use super::statistics::Spread;
use super::turns::Outcome;

/// A bar chart with one group per scenario and one bar per proxy.
#[derive(Debug, Default)]
struct Bars {
    title: String,
    groups: Vec<(String, Vec<(Proxy, Spread)>)>,
}

/// Writes each plot that has figures into the directory `folder`. Returns the file names.
pub(crate) fn all(outcomes: &[Outcome], folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, bars) in [
        ("processor.svg", processor(outcomes)),
        ("latency.svg", latency(outcomes)),
        ("idle.svg", memory(outcomes, Figure::PerConnection, "Memory per idle connection, kB")),
        ("empty.svg", memory(outcomes, Figure::Proportional, "Memory before the first request, MB")),
    ] {
        if !bars.groups.is_empty() {
            bars.draw(&folder.join(name)).map_err(|error| anyhow!("{name}: {error}"))?;
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns processor times relative to nginx, because the scenarios differ by orders of magnitude.
fn processor(outcomes: &[Outcome]) -> Bars {
    let groups = outcomes.iter().filter_map(|outcome| {
        let unit = outcome.spread(Proxy::Nginx, Figure::Processor)?.median;
        let bars = bars(outcome, Figure::Processor).into_iter().map(|(proxy, spread)| {
            let Spread { median, low, high } = spread;
            (proxy, Spread { median: median / unit, low: low / unit, high: high / unit })
        });
        Some((outcome.scenario.plan().title.to_owned(), bars.collect()))
    });
    Bars { title: "Processor time per request, nginx = 1 (less is better)".to_owned(), groups: groups.collect() }
}

fn latency(outcomes: &[Outcome]) -> Bars {
    let timed = outcomes.iter().find(|outcome| outcome.spread(Proxy::Rproxy, Figure::P99).is_some());
    let groups = timed.into_iter().flat_map(|outcome| {
        let figures = [Figure::Median, Figure::P99, Figure::P999];
        figures.map(|figure| (figure.title().to_owned(), bars(outcome, figure)))
    });
    Bars { title: "Latency at 5,000 requests per second of 20 kB, ms".to_owned(), groups: groups.collect() }
}

fn memory(outcomes: &[Outcome], figure: Figure, title: &str) -> Bars {
    let about = outcomes.iter().filter(|outcome| outcome.scenario.plan().headline == figure);
    let groups = about.map(|outcome| (outcome.scenario.plan().title.to_owned(), bars(outcome, figure)));
    Bars { title: title.to_owned(), groups: groups.filter(|(_, bars)| !bars.is_empty()).collect() }
}

fn bars(outcome: &Outcome, figure: Figure) -> Vec<(Proxy, Spread)> {
    Proxy::CACHES.iter().filter_map(|proxy| Some((*proxy, outcome.spread(*proxy, figure)?))).collect()
}

const WIDTH: u32 = 900;
/// The x coordinate of the left edge of the bars.
const LEFT: i32 = 330;
const RIGHT: i32 = 780;
const TOP: i32 = 70;
const BAR: i32 = 14;
const GAP: i32 = 12;

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
        for proxy in self.proxies() {
            area.draw(&Rectangle::new([(x, 40), (x + 12, 52)], colour(proxy).filled()))?;
            area.draw(&Text::new(proxy.name(), (x + 18, 46), left(16)))?;
            x += 100;
        }

        let longest = self.groups.iter().flat_map(|(_, bars)| bars).map(|(_, spread)| spread.high).fold(0.0, f64::max);
        let at = |value: f64| LEFT + (f64::from(RIGHT - LEFT) * value / longest) as i32;
        let mut y = TOP;
        for (name, bars) in &self.groups {
            let middle = y + BAR * i32::try_from(bars.len()).unwrap_or(0) / 2;
            area.draw(&Text::new(name.as_str(), (LEFT - 10, middle), right(16)))?;
            for (proxy, spread) in bars {
                let (low, high, centre) = (at(spread.low), at(spread.high), y + BAR / 2);
                area.draw(&Rectangle::new([(LEFT, y + 1), (at(spread.median), y + BAR - 1)], colour(*proxy).filled()))?;
                area.draw(&PathElement::new([(low, centre), (high, centre)], BLACK.mix(0.6)))?;
                area.draw(&Text::new(spread.alone(), (high.max(at(spread.median)) + 6, centre), left(15)))?;
                y += BAR;
            }
            y += GAP;
        }
        area.present()
    }

    fn proxies(&self) -> impl Iterator<Item = Proxy> {
        let drawn = |proxy: &Proxy| self.groups.iter().any(|(_, bars)| bars.iter().any(|(of, _)| of == proxy));
        Proxy::CACHES.iter().copied().filter(drawn)
    }
}

fn colour(proxy: Proxy) -> RGBColor {
    match proxy {
        Proxy::Rproxy => RGBColor(206, 92, 0),
        Proxy::Nginx => RGBColor(0, 140, 70),
        Proxy::Haproxy => RGBColor(50, 100, 200),
        Proxy::Varnish => RGBColor(130, 70, 160),
    }
}
