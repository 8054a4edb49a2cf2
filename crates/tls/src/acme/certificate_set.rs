//! The set of ACME certificates of a server, which can change while certificates are ordered and renewed.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use super::{AcmeCertificate, AcmeSource, Challenges, normalized};
use crate::{Error, Source};

/// The ACME certificates of a server, grouped by ACME directory.
#[derive(Debug, Default)]
pub(crate) struct AcmeCertificateSet {
    directories: Vec<Directory>,
    changed: Notify,
}

#[derive(Debug)]
struct Directory {
    source: AcmeSource,
    certificates: Mutex<Vec<Arc<AcmeCertificate>>>,
}

impl AcmeCertificateSet {
    pub(crate) fn add_directory(&mut self, source: AcmeSource, certificates: Vec<Arc<AcmeCertificate>>) {
        self.directories.push(Directory { source, certificates: Mutex::new(certificates) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Reads the folders of all certificates again, and skips the back-off after failed orders.
    pub(crate) fn reload(&self) {
        self.all().iter().for_each(|certificate| certificate.reload());
    }

    /// Replaces the certificates of the first ACME directory. Certificates with the same names stay.
    ///
    /// A certificate with new names is ordered by [`run`](Self::run). Until it is issued, a removed certificate that has
    /// some of the names is served for them.
    ///
    /// # Errors
    ///
    /// If a name is invalid or a folder cannot be used, nothing changes.
    pub(crate) fn replace(&self, names: &[Vec<String>]) -> Result<(), Error> {
        let (first, others) = self.directories.split_first().ok_or(Error::NotConfigured { kind: Source::Acme })?;
        let mut used: HashSet<String> =
            others.iter().flat_map(Directory::current).flat_map(|certificate| certificate.names().to_vec()).collect();
        let names = normalized(names, &mut used)?;
        let mut certificates = first.lock();
        let mut added: Vec<Arc<AcmeCertificate>> = Vec::new();
        for names in &names {
            if certificates.iter().any(|certificate| certificate.names() == names) {
                continue;
            }
            match first.source.open(names.clone()) {
                Ok(certificate) => added.push(Arc::new(certificate)),
                Err(error) => {
                    added.iter().for_each(|certificate| certificate.release());
                    return Err(error);
                }
            }
        }
        let removed: Vec<_> =
            certificates.extract_if(.., |certificate| !names.iter().any(|it| it == certificate.names())).collect();
        for previous in &removed {
            let shares_name =
                |it: &&Arc<AcmeCertificate>| it.names().iter().any(|name| previous.names().contains(name));
            added.iter().filter(shares_name).for_each(|certificate| certificate.succeed(previous));
            previous.release();
        }
        certificates.extend(added);
        drop(certificates);
        self.changed.notify_one();
        Ok(())
    }

    /// Orders and renews the certificates, and serves the ACME challenges of other machines. Never returns.
    pub(crate) async fn run(&self, challenges: &Arc<Challenges>) {
        let mut tasks = JoinSet::new();
        let mut running: Vec<(Arc<AcmeCertificate>, AbortHandle)> = Vec::new();
        let mut peers: Vec<(Vec<String>, AbortHandle)> = vec![];
        loop {
            let current = self.all();
            running.retain(|(certificate, task)| {
                let is_current = current.iter().any(|other| Arc::ptr_eq(other, certificate));
                if !is_current {
                    task.abort();
                }
                is_current
            });
            for certificate in current {
                if running.iter().all(|(other, _)| !Arc::ptr_eq(other, &certificate)) {
                    let task = tasks.spawn(certificate.clone().run());
                    running.push((certificate, task));
                }
            }
            for (index, directory) in self.directories.iter().enumerate() {
                let account = directory.source.account();
                let names: Vec<String> = directory.current().iter().flat_map(|it| it.names().to_vec()).collect();
                let serve = || account.clone().serve_peer_challenges(names.clone(), challenges.clone());
                match peers.get_mut(index) {
                    Some((served, _)) if *served == names => {}
                    Some((served, task)) => {
                        task.abort();
                        *task = tasks.spawn(serve());
                        *served = names;
                    }
                    None => peers.push((names.clone(), tasks.spawn(serve()))),
                }
            }
            tokio::select! {
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended && !error.is_cancelled() {
                        tracing::error!(%error, "certificate task failed, certificates may not be renewed until a restart");
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }

    fn all(&self) -> Vec<Arc<AcmeCertificate>> {
        self.directories.iter().flat_map(Directory::current).collect()
    }
}

impl Directory {
    fn current(&self) -> Vec<Arc<AcmeCertificate>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<AcmeCertificate>>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
