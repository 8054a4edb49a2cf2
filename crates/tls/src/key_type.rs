use std::fmt;

use rustls::{SignatureScheme, sign::SigningKey};

/// The type of a certificate's key, which determines the possible signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// An ECDSA key on the curve P-256.
    EcdsaP256,
    /// An ECDSA key on the curve P-384.
    EcdsaP384,
    /// An ECDSA key on the curve P-521.
    EcdsaP521,
    /// An Ed25519 key.
    Ed25519,
    /// An RSA key of any size.
    Rsa,
    /// A key of a type without its own [`KeyType`] variant.
    Other,
}

impl KeyType {
    pub(crate) fn of(key: &dyn SigningKey) -> Self {
        let types = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, Self::EcdsaP256),
            (SignatureScheme::ECDSA_NISTP384_SHA384, Self::EcdsaP384),
            (SignatureScheme::ECDSA_NISTP521_SHA512, Self::EcdsaP521),
            (SignatureScheme::ED25519, Self::Ed25519),
            (SignatureScheme::RSA_PSS_SHA256, Self::Rsa),
        ];
        let found = types.into_iter().find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some());
        found.map_or(Self::Other, |(_, key_type)| key_type)
    }

    /// Returns the name of the key type for logs and metric labels, such as `ecdsa-p256` or `rsa`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
            Self::Other => "other",
        }
    }

    /// Returns whether a certificate with this key type is preferred to one with an RSA key.
    ///
    /// An RSA signature costs the server about ten times the time of the others, and its chain is longer.
    pub(crate) fn is_preferred(&self) -> bool {
        !matches!(self, Self::Rsa | Self::Other)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    };

    use super::*;
    use crate::testing::self_signed_with;

    #[test]
    fn returns_the_name_of_each_supported_key_type() {
        for (algorithm, key_type) in [
            (&PKCS_ECDSA_P256_SHA256, KeyType::EcdsaP256),
            (&PKCS_ECDSA_P384_SHA384, KeyType::EcdsaP384),
            (&PKCS_ECDSA_P521_SHA512, KeyType::EcdsaP521),
            (&PKCS_ED25519, KeyType::Ed25519),
            (&PKCS_RSA_SHA256, KeyType::Rsa),
        ] {
            assert_eq!(self_signed_with(&["a.test"], algorithm).key_type, key_type);
        }
    }
}
