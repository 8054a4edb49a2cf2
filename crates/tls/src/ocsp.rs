//! A parser of the certificate, status and validity in OCSP responses to staple (RFC 6960).

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use time::{Date, Month, PrimitiveDateTime, Time};
use x509_parser::parse_x509_certificate;

/// The reason that an OCSP response is not stapled.
///
/// Clients treat a bad stapled response worse than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OcspError {
    #[error("the file is not an OCSP response in DER")]
    Malformed,
    #[error("the OCSP responder reported an error (status {0})")]
    Unsuccessful(u8),
    #[error("the OCSP response is for another certificate")]
    WrongCertificate,
    #[error("the OCSP response reports that the certificate is revoked")]
    Revoked,
    #[error("the OCSP responder does not know the certificate")]
    Unknown,
    #[error("the OCSP response is not valid yet; check the clock")]
    NotYetValid,
    #[error("the OCSP response has expired")]
    Expired,
}

/// Checks that the OCSP status of the certificate is good, and returns the expiry of the response, if any.
pub(crate) fn good_until(
    response: &[u8],
    leaf: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Option<SystemTime>, OcspError> {
    let (_, leaf) = parse_x509_certificate(leaf).map_err(|_| OcspError::WrongCertificate)?;
    let single = single_response(response, leaf.raw_serial())?;
    match single.status {
        GOOD => {}
        REVOKED => return Err(OcspError::Revoked),
        _ => return Err(OcspError::Unknown),
    }
    if single.this_update > now {
        return Err(OcspError::NotYetValid);
    }
    match single.next_update {
        Some(next) if next <= now => Err(OcspError::Expired),
        next => Ok(next),
    }
}

/// The status of a certificate in an OCSP response.
struct SingleResponse {
    status: u8,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
}

/// Finds the OCSP status of the certificate with this serial number (RFC 6960 §4.2.1).
///
/// The signature is not verified here, because clients do so.
fn single_response(response: &[u8], serial: &[u8]) -> Result<SingleResponse, OcspError> {
    let mut response = Der(response).expect(SEQUENCE)?;
    match *response.expect(ENUMERATED)?.0 {
        [0] => {}
        [status] => return Err(OcspError::Unsuccessful(status)),
        _ => return Err(OcspError::Malformed),
    }
    let mut bytes = response.expect(context(0))?.expect(SEQUENCE)?;
    bytes.expect(OBJECT_IDENTIFIER)?;
    let mut basic = bytes.expect(OCTET_STRING)?.expect(SEQUENCE)?;
    let mut data = basic.expect(SEQUENCE)?;
    data.optional(context(0))?; // version
    data.next()?; // responderID
    data.expect(GENERALIZED_TIME)?; // producedAt
    let mut responses = data.expect(SEQUENCE)?;
    while !responses.0.is_empty() {
        let mut single = responses.expect(SEQUENCE)?;
        let mut id = single.expect(SEQUENCE)?;
        id.expect(SEQUENCE)?;
        id.expect(OCTET_STRING)?;
        id.expect(OCTET_STRING)?;
        if id.expect(INTEGER)?.0 != serial {
            continue;
        }
        let (status, _) = single.next()?;
        let this_update = single.expect(GENERALIZED_TIME)?.time()?;
        let next_update = match single.optional(context(0))? {
            Some(mut next) => Some(next.expect(GENERALIZED_TIME)?.time()?),
            None => None,
        };
        // Only the tag number is compared: the status "revoked" is a constructed value, the others are primitive.
        return Ok(SingleResponse { status: status & 0x1f, this_update, next_update });
    }
    Err(OcspError::WrongCertificate)
}

/// A DER reader (X.690) over the unread bytes.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Result<(u8, Der<'a>), OcspError> {
        let [tag, first, rest @ ..] = self.0 else { return Err(OcspError::Malformed) };
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // A length of more than four bytes exceeds any real response.
            long @ 0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f)).ok_or(OcspError::Malformed)?;
                (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return Err(OcspError::Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(OcspError::Malformed)?;
        self.0 = rest;
        Ok((*tag, Der(content)))
    }

    fn expect(&mut self, expected: u8) -> Result<Der<'a>, OcspError> {
        match self.next()? {
            (tag, content) if tag == expected => Ok(content),
            _ => Err(OcspError::Malformed),
        }
    }

    fn optional(&mut self, expected: u8) -> Result<Option<Der<'a>>, OcspError> {
        match self.0.first() {
            Some(tag) if *tag == expected => self.expect(expected).map(Some),
            _ => Ok(None),
        }
    }

    /// Parses a time of the form `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5.2).
    fn time(&self) -> Result<SystemTime, OcspError> {
        let text = std::str::from_utf8(self.0).ok().and_then(|text| text.strip_suffix('Z'));
        let text = text.filter(|text| text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit()));
        let text = text.ok_or(OcspError::Malformed)?;
        let number = |at: usize, length: usize| text[at..at + length].parse::<u16>().unwrap_or_default();
        let [month, day, hour, minute, second] = [4, 6, 8, 10, 12].map(|at| number(at, 2) as u8);
        let month = Month::try_from(month).map_err(|_| OcspError::Malformed)?;
        let date = Date::from_calendar_date(number(0, 4).into(), month, day).map_err(|_| OcspError::Malformed)?;
        let time = Time::from_hms(hour, minute, second).map_err(|_| OcspError::Malformed)?;
        Ok(PrimitiveDateTime::new(date, time).assume_utc().into())
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;

/// Returns the DER tag byte of the context-specific value `[number] EXPLICIT`.
const fn context(number: u8) -> u8 {
    0xa0 | number
}

const GOOD: u8 = 0;
const REVOKED: u8 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{OcspResponse, self_signed};

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: i64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(seconds))
    }

    fn response<'a>(leaf: &'a CertificateDer<'a>) -> OcspResponse<'a> {
        OcspResponse { leaf, status: GOOD, this_update: at(-3600), next_update: Some(at(3600)) }
    }

    #[test]
    fn accepts_only_good_and_current_ocsp_responses_for_the_certificate() {
        let [one, other] = [(); 2].map(|()| self_signed(&["a.test"]).key.cert[0].clone());
        let good = response(&one);
        assert_eq!(good_until(&good.der(), &one, at(0)), Ok(Some(at(3600))));
        assert_eq!(good_until(&good.der(), &other, at(0)), Err(OcspError::WrongCertificate));
        assert_eq!(good_until(&good.der(), &one, at(3600)), Err(OcspError::Expired));
        assert_eq!(good_until(&good.der(), &one, at(-3601)), Err(OcspError::NotYetValid));
        let lasting = OcspResponse { next_update: None, ..response(&one) };
        assert_eq!(good_until(&lasting.der(), &one, at(1_000_000)), Ok(None));
        let revoked = OcspResponse { status: REVOKED, ..response(&one) };
        assert_eq!(good_until(&revoked.der(), &one, at(0)), Err(OcspError::Revoked));
        let unknown = OcspResponse { status: 2, ..response(&one) };
        assert_eq!(good_until(&unknown.der(), &one, at(0)), Err(OcspError::Unknown));
        // RFC 6960 §4.2.1: tryLater.
        assert_eq!(good_until(&[0x30, 3, 0x0a, 1, 3], &one, at(0)), Err(OcspError::Unsuccessful(3)));
        assert_eq!(good_until(b"", &one, at(0)), Err(OcspError::Malformed));
    }

    proptest! {
        #[test]
        fn parsing_mutated_ocsp_responses_never_panics(at_byte in 0usize..200, with in any::<Vec<u8>>(), bytes in any::<Vec<u8>>()) {
            let leaf = self_signed(&["a.test"]).key.cert[0].clone();
            let mut der = response(&leaf).der();
            let start = at_byte.min(der.len());
            der.splice(start..(start + with.len()).min(der.len()), with);
            let _ = good_until(&der, &leaf, at(0));
            let _ = good_until(&bytes, &leaf, at(0));
        }
    }
}
