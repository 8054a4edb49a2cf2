//! The cryptographic provider, and functions for hashes and random numbers.

use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::{self, cipher_suite::TLS13_AES_128_GCM_SHA256},
};

/// Returns the aws-lc-rs provider, which this crate always passes to rustls explicitly.
///
/// rustls has no default provider if two are linked, and the ACME client links another one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Returns a random number, or a constant if the random source fails.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    match aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}

/// Returns a hexadecimal SHA-256 digest that is unique to a list of words.
pub(crate) fn digest(words: &[impl AsRef<[u8]>]) -> String {
    let lengths: Vec<_> = words.iter().map(|word| (word.as_ref().len() as u64).to_be_bytes()).collect();
    let parts = lengths.iter().zip(words).flat_map(|(length, word)| [&length[..], word.as_ref()]);
    hex(&sha256(parts))
}

/// Returns the SHA-256 digest of the concatenated parts.
pub(crate) fn sha256<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut sha256 = match TLS13_AES_128_GCM_SHA256 {
        rustls::SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.start(),
        rustls::SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider.start(),
    };
    for part in parts {
        sha256.update(part.as_ref());
    }
    sha256.finish().as_ref().to_vec()
}

/// Formats bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_matches_the_published_test_vector() {
        // FIPS 180-4, the digest of "abc".
        assert_eq!(
            hex(&sha256([b"a", b"b", b"c"])),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
