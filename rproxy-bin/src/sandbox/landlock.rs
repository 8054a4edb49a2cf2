//! The Landlock rules of the process (landlock(7)).

use std::thread;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use super::grants::Grants;

/// The features of the kernel that a sandbox requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Required {
    /// Files: ABI version 2. Version 1 forbids to move files between folders, which the disk cache does.
    Files,
    /// Files and TCP ports: ABI version 4.
    FilesAndPorts,
}

/// The newest ABI version whose access rights are used.
const NEWEST: ABI = ABI::V5;

/// The first ABI version that limits TCP ports.
pub(super) const VERSION_WITH_PORTS: u32 = 4;

/// Limits this thread, and all threads that it starts, to `grants`. Returns the ABI version of the kernel.
pub(super) fn restrict(grants: &Grants, required: Required) -> Result<u32, RulesetError> {
    let minimum = match required {
        Required::Files => ABI::V2,
        Required::FilesAndPorts => ABI::V4,
    };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(minimum))?;
    if required == Required::FilesAndPorts {
        ruleset = ruleset.handle_access(AccessNet::from_all(minimum))?;
    }
    let ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?;
    let mut ruleset = ruleset
        .create()?
        .add_rules(path_beneath_rules(grants.read.iter().chain(&grants.system), read()))?
        .add_rules(path_beneath_rules(["/dev/null", "/dev/urandom"], read()))?
        .add_rules(path_beneath_rules(&grants.write, write()))?;
    for (ports, access) in [(&grants.bind, AccessNet::BindTcp), (&grants.connect, AccessNet::ConnectTcp)] {
        for port in ports {
            ruleset = ruleset.add_rule(NetPort::new(*port, access))?;
        }
    }
    // A kernel without Landlock does not have the required features.
    Ok(version(&ruleset.restrict_self()?).unwrap_or_default())
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Returns the access to folders of the process, in which it creates files, folders and sockets.
fn write() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

/// Returns the ABI version of the kernel, or `None` if it has no Landlock.
pub(super) fn kernel_version() -> Option<u32> {
    // The library reports it only to a thread that has restricted itself.
    let probe = || -> Result<Option<u32>, RulesetError> {
        Ok(version(&Ruleset::default().handle_access(AccessFs::Execute)?.create()?.restrict_self()?))
    };
    thread::spawn(probe).join().ok()?.ok()?
}

fn version(status: &RestrictionStatus) -> Option<u32> {
    match &status.landlock {
        _ if status.ruleset == RulesetStatus::NotEnforced => None,
        LandlockStatus::Available { kernel_abi: Some(version), .. } => u32::try_from(*version).ok(),
        LandlockStatus::Available { effective_abi, .. } => u32::try_from(*effective_abi as i32).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;

    use crate::sandbox::needs::{Need, Resource};

    /// Runs `test` in a thread that is limited to these resources. Returns false if the kernel cannot limit it.
    fn with(resources: Vec<Resource>, test: impl FnOnce() + Send + 'static) -> bool {
        let need = |resource| Need { key: "root", setting: "root".to_owned(), resource };
        let grants = Grants::of(&resources.into_iter().map(need).collect::<Vec<_>>());
        let thread = thread::spawn(move || {
            let is_limited = restrict(&grants, Required::FilesAndPorts).is_ok();
            if is_limited {
                test();
            }
            is_limited
        });
        let is_limited = thread.join().unwrap();
        if !is_limited {
            eprintln!("skipped: the kernel has no Landlock with TCP ports");
        }
        is_limited
    }

    fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn limits_files_to_the_folders_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let [read, write, other] = ["read", "write", "other"].map(|name| folder.path().join(name));
        for folder in [&read, &write, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
        let resources = vec![Resource::Read(read.join("file")), Resource::Write(write.clone())];
        with(resources, move || {
            let denied = Some(ErrorKind::PermissionDenied);
            assert!(fs::read(read.join("file")).is_ok() && fs::read("/etc/passwd").is_ok());
            assert_eq!(kind(fs::read(other.join("file"))), denied);
            assert_eq!(kind(fs::write(read.join("new"), "")), denied);
            assert_eq!(kind(File::options().append(true).open(read.join("file"))), denied);
            assert_eq!(kind(fs::remove_file(read.join("file"))), denied);
            // As the disk cache stores a response.
            fs::create_dir_all(write.join("a/b")).unwrap();
            fs::write(write.join("temporary"), "").unwrap();
            fs::rename(write.join("temporary"), write.join("a/b/entry")).unwrap();
            fs::remove_file(write.join("file")).unwrap();
            // Another program would keep the access that this process lost.
            assert_eq!(kind(std::process::Command::new("/usr/bin/env").status()), denied);
            // For metrics, also from a thread that starts later.
            let count = || fs::read_dir("/proc/self/fd").map(Iterator::count);
            assert!(thread::spawn(count).join().unwrap().is_ok());
            let read_other = move || kind(fs::read(PathBuf::from(&other).join("file")));
            assert_eq!(thread::spawn(read_other).join().unwrap(), denied);
        });
    }

    #[test]
    fn limits_tcp_ports_to_those_of_the_configuration() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [granted, other] = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap());
        with(vec![Resource::Connect(granted.port())], move || {
            TcpStream::connect(granted).unwrap();
            assert_eq!(kind(TcpStream::connect(other)), Some(ErrorKind::PermissionDenied));
            assert_eq!(kind(TcpListener::bind("127.0.0.1:0")), Some(ErrorKind::PermissionDenied));
        });
    }
}
