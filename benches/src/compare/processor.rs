//! Processor time of a program and its child processes, from the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The processor time of a program and its descendants since they started.
#[derive(Debug)]
pub(crate) struct Usage {
    processes: BTreeMap<u32, Stat>,
}

/// The processor time between two measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Usage {
    pub(crate) fn of(root: u32) -> Result<Self> {
        let processes: BTreeMap<_, _> = process_tree(root)?.into_iter().collect();
        ensure!(!processes.is_empty(), "process {root} has exited");
        Ok(Self { processes })
    }

    /// Returns the processor time since an earlier measurement. The kernel adds the time of exited children to their
    /// parent.
    pub(crate) fn since(&self, earlier: &Self) -> Used {
        let (was, is) = (earlier.total(), self.total());
        Used { user: is.user.saturating_sub(was.user), system: is.system.saturating_sub(was.system) }
    }

    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    pub(crate) fn threads(&self) -> u32 {
        self.processes.values().map(|stat| stat.threads).sum()
    }

    fn total(&self) -> Used {
        let ticks = |of: fn(&Stat) -> u64| self.processes.values().map(of).sum::<u64>();
        Used { user: duration(ticks(|stat| stat.user)), system: duration(ticks(|stat| stat.system)) }
    }
}

/// Returns the process IDs of `root` and its descendants.
pub(crate) fn process_tree(root: u32) -> Result<Vec<(u32, Stat)>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The process may have exited since the folder was read.
        let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        all.insert(id, Stat::parse(&text).with_context(|| format!("/proc/{id}/stat: {text:?}"))?);
    }
    let is_within = |mut id: u32| {
        while id != root {
            match all.get(&id) {
                Some(stat) if stat.parent != 0 => id = stat.parent,
                _ => return false,
            }
        }
        true
    };
    Ok(all.iter().filter(|(id, _)| is_within(**id)).map(|(id, stat)| (*id, *stat)).collect())
}

/// Parsed fields of `/proc/PID/stat`; see proc_pid_stat(5). Times are in clock ticks, and include exited children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    parent: u32,
    user: u64,
    system: u64,
    threads: u32,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name can contain blanks and parentheses: the last `)` ends it.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The manual counts from 1, and the field after the name is number 3.
        let field = |number: usize| fields.get(number - 3);
        let number = |place: usize| field(place)?.parse::<u64>().ok();
        Some(Self {
            parent: field(4)?.parse().ok()?,
            user: number(14)? + number(16)?,
            system: number(15)? + number(17)?,
            threads: field(20)?.parse().ok()?,
        })
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "812 (nginx: (worker) 1) S 811 811 640 0 -1 4194624 1220 7 0 0 1234 5678 1 2 20 0 3 0 88 \
                         11403264 1390 18446744073709551615 1 1 0 0 0 0 0 1073746048 402745863 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn parses_process_names_with_spaces_and_parentheses() {
        // 1234 and 5678 of the process, 1 and 2 of exited children.
        let stat = Stat { parent: 811, user: 1235, system: 5680, threads: 3 };
        assert_eq!(Stat::parse(NGINX), Some(stat));
    }

    #[test]
    fn rejects_truncated_proc_stat_lines() {
        for cut in ["", "812", "812 (nginx) S 811 811", "812 (nginx"] {
            assert_eq!(Stat::parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn processor_usage_sums_the_time_of_all_processes() {
        let stat = |user, system| Stat { parent: 1, user, system, threads: 1 };
        let earlier = Usage { processes: BTreeMap::from([(7, stat(100, 200)), (8, stat(10, 0))]) };
        let later = Usage { processes: BTreeMap::from([(7, stat(150, 260)), (8, stat(10, 40))]) };
        let used = Used { user: duration(50), system: duration(100) };
        assert_eq!(later.since(&earlier), used);
    }

    #[test]
    fn reads_the_processor_usage_of_this_process() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.processes.contains_key(&std::process::id()) && usage.threads() > 0);
    }
}
