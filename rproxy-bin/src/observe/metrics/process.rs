//! Metrics of the process that the kernel reports.

use std::fs;

/// The resource usage of the process; every value is `None` on systems without `/proc`.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<usize>,
}

impl Process {
    pub(super) fn read() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Self {
            cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
            resident_bytes: read("status").as_deref().and_then(resident_bytes),
            // Reading the directory opens a descriptor, too.
            open_descriptors: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1)),
        }
    }
}

/// Returns the CPU time in seconds from fields 14 and 15 of proc_pid_stat(5), which are hundredths of a second on
/// Linux. The name in parentheses may contain any character.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_process_statistics_of_linux_procfs() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 0 0 0 250 125 0 0 20 0 1 0 999 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.75));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1024 kB\nThreads:\t1\n"), Some(1 << 20));
        for nonsense in ["", "12 (a) S", "VmRSS: many kB"] {
            assert_eq!((cpu_seconds(nonsense), resident_bytes(nonsense)), (None, None));
        }
    }
}
