use std::time::{Duration, SystemTime};

/// The validity period of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// Returns the time at which two thirds of the certificate's lifetime have passed.
    pub(crate) fn renewal_time(&self) -> SystemTime {
        let lifetime = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after - lifetime / 3
    }

    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

/// Converts a Unix timestamp, which may be negative, to a [`SystemTime`]. Returns the epoch if it is out of range.
pub(crate) fn system_time(timestamp: i64) -> SystemTime {
    let distance = Duration::from_secs(timestamp.unsigned_abs());
    let time = if timestamp < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the duration from `now` to `time`, or zero if `time` has passed.
pub(crate) fn until(time: SystemTime, now: SystemTime) -> Duration {
    time.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_after_two_thirds_of_the_lifetime() {
        const DAY: u64 = 86_400;
        for (lifetime, renewal) in [(90 * DAY, 60 * DAY), (6 * DAY, 4 * DAY), (60, 40), (0, 0)] {
            let validity =
                Validity { not_before: system_time(1_000_000), not_after: system_time(1_000_000 + lifetime as i64) };
            assert_eq!(validity.renewal_time(), system_time(1_000_000 + renewal as i64), "lifetime {lifetime}");
        }
    }

    #[test]
    fn renewal_is_due_at_expiry_if_the_validity_ends_before_it_begins() {
        let validity = Validity { not_before: system_time(200), not_after: system_time(100) };
        assert_eq!(validity.renewal_time(), system_time(100));
        assert!(validity.is_expired(system_time(150)));
    }

    #[test]
    fn out_of_range_certificate_timestamps_do_not_panic() {
        for timestamp in [i64::MIN, -1, 0, 1, i64::MAX] {
            system_time(timestamp);
        }
    }
}
