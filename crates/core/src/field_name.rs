//! Parsing of field names, with a fast path for common names.

use http::header::{self, HeaderName, InvalidHeaderName};

/// Parses a field name (RFC 9110 §5.1). Equivalent to `HeaderName::from_bytes`, but faster for common names.
///
/// A common name is recognised in lower case and in its usual spelling, such as `Content-Type`. It is never allocated.
///
/// # Errors
///
/// If the name is not a token, or longer than 64 KiB.
///
/// # Examples
///
/// ```
/// use rproxy_core::field_name;
///
/// assert_eq!(field_name(b"Sec-Fetch-Mode").unwrap(), "sec-fetch-mode");
/// assert!(field_name(b"not a token").is_err());
/// ```
#[inline]
pub fn field_name(name: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    match common_name(name) {
        Some(name) => Ok(name),
        None => HeaderName::from_bytes(name),
    }
}

/// Declares [`common_name`], and the list of common names for its test.
macro_rules! common_names {
    (standard { $($spelling:literal $lower:literal $name:ident,)+ } other { $($other:literal $other_lower:literal,)+ }) => {
        fn common_name(name: &[u8]) -> Option<HeaderName> {
            Some(match name {
                $($spelling | $lower => header::$name,)+
                $($other | $other_lower => {
                    const NAME: HeaderName = HeaderName::from_static(match std::str::from_utf8($other_lower) {
                        Ok(name) => name,
                        Err(_) => panic!("a common field name is not ASCII"),
                    });
                    NAME
                })+
                _ => return None,
            })
        }

        #[cfg(test)]
        const COMMON_NAMES: &[(&[u8], &[u8])] = &[$(($spelling, $lower),)+ $(($other, $other_lower),)+];
    };
}

common_names! {
    standard {
        b"Accept" b"accept" ACCEPT,
        b"Accept-Encoding" b"accept-encoding" ACCEPT_ENCODING,
        b"Accept-Language" b"accept-language" ACCEPT_LANGUAGE,
        b"Accept-Ranges" b"accept-ranges" ACCEPT_RANGES,
        b"Authorization" b"authorization" AUTHORIZATION,
        b"Cache-Control" b"cache-control" CACHE_CONTROL,
        b"Connection" b"connection" CONNECTION,
        b"Content-Encoding" b"content-encoding" CONTENT_ENCODING,
        b"Content-Length" b"content-length" CONTENT_LENGTH,
        b"Content-Type" b"content-type" CONTENT_TYPE,
        b"Cookie" b"cookie" COOKIE,
        b"Date" b"date" DATE,
        b"ETag" b"etag" ETAG,
        b"Expires" b"expires" EXPIRES,
        b"Host" b"host" HOST,
        b"If-Modified-Since" b"if-modified-since" IF_MODIFIED_SINCE,
        b"If-None-Match" b"if-none-match" IF_NONE_MATCH,
        b"Last-Modified" b"last-modified" LAST_MODIFIED,
        b"Location" b"location" LOCATION,
        b"Origin" b"origin" ORIGIN,
        b"Referer" b"referer" REFERER,
        b"Server" b"server" SERVER,
        b"Set-Cookie" b"set-cookie" SET_COOKIE,
        b"Transfer-Encoding" b"transfer-encoding" TRANSFER_ENCODING,
        b"Upgrade-Insecure-Requests" b"upgrade-insecure-requests" UPGRADE_INSECURE_REQUESTS,
        b"User-Agent" b"user-agent" USER_AGENT,
        b"Vary" b"vary" VARY,
    }
    other {
        b"Keep-Alive" b"keep-alive",
        b"Priority" b"priority",
        b"Sec-Fetch-Dest" b"sec-fetch-dest",
        b"Sec-Fetch-Mode" b"sec-fetch-mode",
        b"Sec-Fetch-Site" b"sec-fetch-site",
        b"Sec-Fetch-User" b"sec-fetch-user",
        b"Sec-CH-UA" b"sec-ch-ua",
        b"Sec-CH-UA-Mobile" b"sec-ch-ua-mobile",
        b"Sec-CH-UA-Platform" b"sec-ch-ua-platform",
        b"X-Forwarded-For" b"x-forwarded-for",
        b"X-Forwarded-Host" b"x-forwarded-host",
        b"X-Forwarded-Proto" b"x-forwarded-proto",
        b"X-Powered-By" b"x-powered-by",
        b"X-Real-IP" b"x-real-ip",
        b"X-Request-ID" b"x-request-id",
        b"X-Requested-With" b"x-requested-with",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_field_names_equal_their_parsed_forms() {
        for (spelling, lower) in COMMON_NAMES {
            assert_eq!(spelling.to_ascii_lowercase(), *lower);
            for name in [spelling, lower] {
                let common = common_name(name).unwrap();
                assert_eq!(common.as_str().as_bytes(), *lower);
                assert_eq!(common, HeaderName::from_bytes(name).unwrap());
            }
        }
    }

    #[test]
    fn parses_uncommon_field_names_and_rejects_invalid_ones() {
        assert_eq!(field_name(b"hOST").unwrap(), header::HOST);
        assert_eq!(field_name(b"X-Own").unwrap(), "x-own");
        for name in [&b""[..], b"a b", b"host:", b"h\xf6st", b"Host\r"] {
            assert!(field_name(name).is_err(), "{name:?}");
        }
    }
}
