//! Benchmarks of rproxy: comparison with other proxies, attacks, soak test, and instructions per layer. See
//! `benches/README.md`.

mod cargo;
mod compare;
mod floods;
mod instructions;
mod origin;
mod soak;

use clap::{Parser, Subcommand};

/// Measures rproxy: in comparison with other proxies, under attack, and layer by layer.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compare(compare::Options),
    Floods(floods::Options),
    Instructions(instructions::Options),
    Soak(soak::Options),
    #[command(hide = true)]
    Origin(origin::Options),
    #[command(hide = true)]
    SoakOrigin(soak::OriginOptions),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Floods(options) => floods::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Origin(options) => origin::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::SoakOrigin(options) => soak::serve_origin(&options),
    }
}
