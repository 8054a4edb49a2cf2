//! The certificates that the settings describe.

use rproxy_tls::{Acme, Certificates, CertificatesBuilder, ClientAuth, LocalCa};

use super::TlsSettings;
use crate::values::choice::ClientAuthentication;

impl TlsSettings {
    /// Reads the certificates and private keys in files, if TLS is enabled. They may be readable only for root.
    pub(crate) fn read_files(&self) -> Result<Option<CertificatesBuilder>, rproxy_tls::Error> {
        self.is_enabled().then(|| self.with_files(Certificates::builder()).read_files()).transpose()
    }

    /// Adds the other sources of certificates to `files`, and builds the certificates.
    pub(crate) fn certificates(
        &self,
        files: Option<CertificatesBuilder>,
    ) -> Result<Option<Certificates>, rproxy_tls::Error> {
        let Some(files) = files else { return Ok(None) };
        let mut builder = self.with_protocol(files);
        if let Some(path) = &self.key_log {
            builder = builder.key_log(path);
        }
        if self.local {
            let names = self.domains.iter().map(|name| name.as_str().to_owned());
            builder = builder.local(LocalCa::new(&self.cache_dir).names(names));
        }
        if !self.acme_domains().is_empty() {
            let names = self.acme_domains().iter().map(|name| name.as_str().to_owned());
            let acme = Acme::new(&self.cache_dir).directory(self.acme_directory.to_string());
            let acme = self.grouped(names).into_iter().fold(acme, Acme::certificate);
            let mut acme = acme.self_signed_fallback(self.acme_self_signed_fallback);
            if let Some(contact) = &self.email {
                acme = acme.contact(contact);
            }
            if let Some(ca) = &self.acme_ca {
                acme = acme.directory_ca_file(ca);
            }
            if let (Some(kid), Some(key)) = (&self.acme_eab_kid, &self.acme_eab_hmac_key) {
                acme = acme.external_account(kid, key.expose());
            }
            #[cfg(feature = "redis")]
            if let Some(url) = &self.acme_redis {
                acme = acme.redis(url.expose());
            }
            builder = builder.acme(acme);
        }
        builder.build().map(Some)
    }

    /// Applies the names of a reloaded configuration to the certificates of this one.
    ///
    /// New names are certified by the local authority, or ordered from the ACME directory of this configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if a name cannot be certified. The certificates stay as they are.
    pub(crate) fn apply_names(&self, certificates: &Certificates, reloaded: &Self) -> Result<(), rproxy_tls::Error> {
        let names = reloaded.domains.iter().map(|name| name.as_str().to_owned());
        if self.needs_restart_for_names(reloaded) {
            return Ok(());
        }
        match self.local {
            true => certificates.set_local_names(names),
            false if self.acme_domains().is_empty() => Ok(()),
            false => certificates.set_acme_certificates(self.grouped(names)),
        }
    }

    /// Returns whether only a restart can apply the names of a reloaded configuration: they turn TLS, the local authority
    /// or ACME on or off.
    pub(crate) fn needs_restart_for_names(&self, reloaded: &Self) -> bool {
        let turns = |is: fn(&Self) -> bool| is(self) != is(reloaded);
        turns(Self::is_enabled) || turns(|tls| tls.local) || turns(|tls| !tls.acme_domains().is_empty())
    }

    /// Returns the names of each ACME certificate.
    fn grouped(&self, names: impl Iterator<Item = String>) -> Vec<Vec<String>> {
        match self.acme_one_certificate {
            true => vec![names.collect()],
            false => names.map(|name| vec![name]).collect(),
        }
    }

    /// Builds the certificates from files only, which has no side effects.
    pub(crate) fn file_certificates(&self) -> Result<Option<Certificates>, rproxy_tls::Error> {
        let builder = || self.with_protocol(self.with_files(Certificates::builder()));
        (!self.cert.is_empty()).then(|| builder().build()).transpose()
    }

    fn with_files(&self, builder: CertificatesBuilder) -> CertificatesBuilder {
        let responses = self.ocsp.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        self.cert.iter().zip(&self.key).zip(responses).fold(builder, |builder, ((cert, key), ocsp)| match ocsp {
            Some(ocsp) => builder.files_with_ocsp(cert, key, ocsp),
            None => builder.files(cert, key),
        })
    }

    fn with_protocol(&self, builder: CertificatesBuilder) -> CertificatesBuilder {
        let mut builder = builder.min_version(self.min_version);
        if let Some(suites) = &self.ciphers {
            builder = builder.cipher_suites(suites.clone());
        }
        match (self.client_auth, &self.client_ca) {
            (ClientAuthentication::Optional, Some(ca)) => builder.client_auth(ClientAuth::optional(ca)),
            (ClientAuthentication::Required, Some(ca)) => builder.client_auth(ClientAuth::required(ca)),
            _ => builder,
        }
    }
}
