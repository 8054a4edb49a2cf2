//! The files, folders and ports that the sandbox allows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::needs::{Need, Resource};

/// The files, folders and ports that the sandbox allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// The files and folders of the configuration that are readable.
    pub(crate) read: BTreeSet<PathBuf>,
    /// The files and folders of the system that are readable.
    pub(crate) system: BTreeSet<PathBuf>,
    /// The folders that are readable and writable.
    pub(crate) write: BTreeSet<PathBuf>,
    pub(crate) bind: BTreeSet<u16>,
    pub(crate) connect: BTreeSet<u16>,
}

/// The folders of the system that every process may need to read: libraries, name servers, user names, certificate
/// authorities, time zones, and the resources of this process.
///
/// They are folders because other programs replace files such as resolv.conf, and a rule applies to one file or folder
/// of the disk, not to a name.
const SYSTEM: [&str; 9] = [
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/share/ca-certificates",
    "/usr/share",
    "/proc",
    "/sys/fs/cgroup",
];

/// The files of the system that can be symbolic links to other folders.
const SYSTEM_LINKS: [&str; 6] = [
    "/etc/hosts",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
];

/// The variables with the certificate authorities of the system, as in OpenSSL.
const CERTIFICATE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The port of name servers, to which the resolver connects if a response is too large for UDP.
const DNS: u16 = 53;

impl Grants {
    /// Returns what a configuration with these needs may use.
    pub(crate) fn of(needs: &[Need]) -> Self {
        let mut grants = Self { system: system(), connect: BTreeSet::from([DNS]), ..Self::default() };
        for need in needs {
            match &need.resource {
                Resource::Read(path) => grants.read.extend(readable(path)),
                Resource::Write(folder) => drop(grants.write.insert(resolved(folder))),
                Resource::Bind(port) => drop(grants.bind.insert(*port)),
                Resource::Connect(port) => drop(grants.connect.insert(*port)),
            }
        }
        grants.read = without_nested(grants.read);
        grants
    }

    /// Returns whether the resource can be used.
    pub(crate) fn covers(&self, resource: &Resource) -> bool {
        match resource {
            // A missing file is another error.
            Resource::Read(path) => path.canonicalize().map_or(true, |path| self.covers_file(&path)),
            Resource::Write(folder) => covers(self.write.iter().map(PathBuf::as_path), &resolved(folder)),
            Resource::Bind(port) => self.bind.contains(port),
            Resource::Connect(port) => self.connect.contains(port),
        }
    }

    /// Returns whether the file at this path, which has no symbolic links, can be read.
    pub(crate) fn covers_file(&self, path: &Path) -> bool {
        covers(self.read.iter().chain(&self.system).chain(&self.write).map(PathBuf::as_path), path)
    }
}

/// Returns the files and folders of the system to read.
fn system() -> BTreeSet<PathBuf> {
    let linked = SYSTEM_LINKS.iter().map(Path::new).filter(|file| file.exists()).flat_map(readable);
    let variables = CERTIFICATE_VARIABLES.iter().filter_map(std::env::var_os);
    let certificates = variables.flat_map(|path| readable(Path::new(&path)));
    without_nested(SYSTEM.iter().map(PathBuf::from).chain(linked).chain(certificates).collect())
}

/// Removes the files and folders within another folder, which add nothing.
fn without_nested(paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let is_new = |path: &&PathBuf| !path.ancestors().skip(1).any(|ancestor| paths.contains(ancestor));
    paths.iter().filter(is_new).cloned().collect()
}

fn covers<'p>(mut granted: impl Iterator<Item = &'p Path>, path: &Path) -> bool {
    granted.any(|granted| path.starts_with(granted))
}

/// Returns the files and folders to read for a path of the configuration.
///
/// For a file, these are the folders of its name and of its target, because other programs replace the file or the
/// symbolic link. The same is true for a folder that is a symbolic link. The root folder is never one of them: a file in
/// it is readable until it is replaced.
fn readable(path: &Path) -> Vec<PathBuf> {
    let target = resolved(path);
    let name = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = |path: &Path| match path.parent() {
        Some(folder) if folder.parent().is_some() => resolved(folder),
        _ => target.clone(),
    };
    match (target.is_dir(), path.is_symlink()) {
        (true, false) => vec![target],
        (true, true) => vec![parent(&name), target.clone()],
        (false, _) => vec![parent(&name), parent(&target)],
    }
}

/// Returns the absolute path without symbolic links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    match existing {
        Some((folder, target)) => match absolute.strip_prefix(folder) {
            Ok(rest) if !rest.as_os_str().is_empty() => target.join(rest),
            _ => target,
        },
        None => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn grants(resources: impl IntoIterator<Item = Resource>) -> Grants {
        let need = |resource| Need { key: "root", setting: "root".to_owned(), resource };
        Grants::of(&resources.into_iter().map(need).collect::<Vec<_>>())
    }

    #[test]
    fn file_grants_its_folder_and_that_of_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["live", "archive", "other"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("1.pem"), "").unwrap();
        }
        symlink("../archive/1.pem", root.join("live/cert.pem")).unwrap();
        let grants = grants([Resource::Read(root.join("live/cert.pem"))]);
        assert_eq!(grants.read, BTreeSet::from([root.join("archive"), root.join("live")]));
        // As certbot renews a certificate.
        fs::write(root.join("archive/2.pem"), "").unwrap();
        fs::remove_file(root.join("live/cert.pem")).unwrap();
        symlink("../archive/2.pem", root.join("live/cert.pem")).unwrap();
        assert!(grants.covers(&Resource::Read(root.join("live/cert.pem"))));
        assert!(!grants.covers(&Resource::Read(root.join("other/1.pem"))));
        assert!(grants.covers(&Resource::Read(root.join("missing"))));
        assert!(grants.covers(&Resource::Read("/etc/hosts".into())));
    }

    #[test]
    fn folder_grants_itself_and_the_folder_of_its_symbolic_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("site/releases/1")).unwrap();
        symlink("releases/1", root.join("site/current")).unwrap();
        let plain = grants([Resource::Read(root.join("site/releases/1"))]);
        assert_eq!(plain.read, BTreeSet::from([root.join("site/releases/1")]));
        let linked = grants([Resource::Read(root.join("site/current"))]);
        assert_eq!(linked.read, BTreeSet::from([root.join("site")]));
    }

    #[test]
    fn file_in_the_root_folder_does_not_grant_the_root_folder() {
        assert_eq!(grants([Resource::Read("/rproxy.toml".into())]).read, BTreeSet::from(["/rproxy.toml".into()]));
    }

    #[test]
    fn ports_are_those_of_the_configuration_and_of_name_servers() {
        let grants = grants([Resource::Connect(3000), Resource::Bind(443)]);
        for (resource, is_covered) in [
            (Resource::Connect(3000), true),
            (Resource::Connect(53), true),
            (Resource::Connect(22), false),
            (Resource::Connect(443), false),
            (Resource::Bind(443), true),
            (Resource::Bind(80), false),
        ] {
            assert_eq!(grants.covers(&resource), is_covered, "{resource:?}");
        }
    }
}
