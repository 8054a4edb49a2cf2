//! A plot of the resources that the proxy uses over time, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::Report;
use super::watch::{Level, Sample};

type Line = (&'static str, RGBColor, fn(&Level) -> f64);

const PANELS: [(&str, &[Line]); 4] = [
    ("Memory (resident), MiB", &[("", RED, |level| level.resident / (1 << 20) as f64)]),
    (
        "Descriptors, connections",
        &[("descriptors", BLUE, |level| level.descriptors), ("connections", GREEN, |level| level.connections)],
    ),
    ("Tasks, tunnels", &[("tasks", BLUE, |level| level.tasks), ("tunnels", GREEN, |level| level.tunnels)]),
    ("Requests, thousands", &[("", RED, |level| level.requests / 1000.0)]),
];

const RED: RGBColor = RGBColor(206, 92, 0);
const BLUE: RGBColor = RGBColor(50, 100, 200);
const GREEN: RGBColor = RGBColor(0, 140, 70);

const WIDTH: u32 = 900;
const LEFT: i32 = 60;
const RIGHT: i32 = 880;
const TOP: i32 = 50;
const PANEL: i32 = 130;
const GAP: i32 = 40;

/// Draws a panel for each resource, with marks for reloads and outages.
pub(super) fn draw(report: &Report, path: &Path) -> Result<()> {
    try_draw(report, path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn try_draw(report: &Report, path: &Path) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let height = TOP + PANELS.len() as i32 * (PANEL + GAP);
    let area = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    let font = |size: i32, side| TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(side, VPos::Center));
    let duration = report.load.as_secs_f64().max(1.0);
    let x = |at: f64| LEFT + (f64::from(RIGHT - LEFT) * at / duration) as i32;
    let marks = "grey: a backend killed or stopped for 1.5 s; dotted ticks: reloads";
    area.draw(&Text::new(marks, (LEFT, 16), font(14, HPos::Left)))?;

    for (number, (title, lines)) in PANELS.iter().enumerate() {
        let top = TOP + number as i32 * (PANEL + GAP);
        let bottom = top + PANEL;
        for (at, is_reload) in &report.disturbed.marks {
            let (from, colour) = if *is_reload { (bottom - 6, BLACK.mix(0.5)) } else { (top, BLACK.mix(0.12)) };
            area.draw(&PathElement::new([(x(*at), from), (x(*at), bottom)], colour))?;
        }
        area.draw(&PathElement::new([(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], BLACK))?;
        area.draw(&Text::new(*title, (LEFT, top - 12), font(15, HPos::Left)))?;
        let highest = maximum(&report.samples, lines);
        area.draw(&Text::new(format!("{highest:.0}"), (LEFT - 6, top), font(13, HPos::Right)))?;
        area.draw(&Text::new("0", (LEFT - 6, bottom), font(13, HPos::Right)))?;
        for (place, (name, colour, figure)) in lines.iter().enumerate() {
            let y = |value: f64| bottom - (f64::from(PANEL) * value / highest) as i32;
            let points: Vec<_> = report.samples.iter().map(|(at, level)| (x(*at), y(figure(level)))).collect();
            area.draw(&PathElement::new(points, colour.stroke_width(2)))?;
            let legend = font(14, HPos::Left).color(colour);
            area.draw(&Text::new(*name, (LEFT + 250 + 120 * place as i32, top - 12), legend))?;
        }
    }
    let minutes = format!("{:.0} minutes", duration / 60.0);
    area.draw(&Text::new(minutes, (RIGHT, height - GAP + 14), font(14, HPos::Right)))?;
    area.present()
}

/// Returns the upper end of the value axis of a panel.
fn maximum(samples: &[Sample], lines: &[Line]) -> f64 {
    let all = lines.iter().flat_map(|(_, _, figure)| samples.iter().map(|(_, level)| figure(level)));
    (all.fold(0.0, f64::max) * 1.1).max(1.0)
}
