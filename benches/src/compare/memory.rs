//! The memory use of a program and its child processes.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::processor::process_tree;

/// The memory use of processes, in bytes. `proportional` (PSS) divides a shared page among its processes, so that sums
/// are exact; `resident` (RSS) counts it in each process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) proportional: u64,
    pub(crate) resident: u64,
}

impl Memory {
    pub(crate) fn of(root: u32) -> Result<Self> {
        let mut sum = Self::default();
        let processes = process_tree(root)?;
        ensure!(!processes.is_empty(), "process {root} has exited");
        for (id, _) in processes {
            let path = format!("/proc/{id}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let one = Self::parse(&text).with_context(|| format!("{path} has no Rss and Pss"))?;
            sum.proportional += one.proportional;
            sum.resident += one.resident;
        }
        Ok(sum)
    }

    /// Parses `/proc/PID/smaps_rollup`, in which 1 kB is 1024 bytes.
    fn parse(text: &str) -> Option<Self> {
        let size = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))?;
            Some(line.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { proportional: size("Pss:")?, resident: size("Rss:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_size_matches_only_the_whole_field_name() {
        let text = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:                4820 kB\n\
                    Pss:                1715 kB\nPss_Dirty:           604 kB\nPss_Anon:            604 kB\n";
        let memory = Memory { proportional: 1715 * 1024, resident: 4820 * 1024 };
        assert_eq!(Memory::parse(text), Some(memory));
        assert_eq!(Memory::parse("Pss_Dirty:  604 kB\nRss: 12 kB\n"), None);
    }

    #[test]
    fn reads_the_memory_use_of_this_process() {
        assert!(Memory::of(std::process::id()).unwrap().resident > 0);
    }
}
