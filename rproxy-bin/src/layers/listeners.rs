//! The listeners on which the proxy accepts connections.

use std::num::NonZeroU16;

use rproxy_server::ListenAddr;

use crate::setting::{SWITCH, settings};
use crate::values::listen::{self, HttpPort, collide};
use crate::values::value::{boolean, joined, list, optional, some};

settings! {
    /// The settings of the listeners.
    ListenerSettings, "Listening"

    "listen" => listen: Vec<ListenAddr> {
        value: "ADDRESS,...",
        default: "`[::]:443` with TLS, else `[::]:8080`; `0.0.0.0` on hosts without IPv6" => Vec::new(),
        help: "Addresses of the main listeners",
        accepted: "comma-separated ADDRESS:PORT, [IPV6]:PORT, :PORT or unix:/path",
        scope: Process,
        reload: Restart,
        parse: |t| list(t, listen::address).and_then(|all| some("listen address", t, all)),
        show: |s| joined(&s.listen),
    }

    "http_port" => http_port: HttpPort {
        value: "PORT",
        default: "`80` with TLS, else off" => HttpPort::Auto,
        help: "Port of the plain HTTP listener that redirects to HTTPS, with 301 for GET and HEAD, otherwise 308; 0 disables the listener",
        accepted: "a port from 1 to 65535, or 0 for none",
        scope: Process,
        reload: Restart,
        parse: str::parse,
        show: |s| match s.http_port {
            HttpPort::Auto => None,
            HttpPort::Off => Some("0".to_owned()),
            HttpPort::On(port) => Some(port.to_string()),
        },
    }

    "https_port" => https_port: Option<NonZeroU16> {
        value: "PORT",
        default: "the port of `listen`, or `443` if `Host` has another port than `http_port`" => None,
        help: "Public HTTPS port in redirects of the plain HTTP listener; set it if a router or container maps a port other than 443 to the port in listen",
        accepted: "a port from 1 to 65535",
        scope: Process,
        reload: Live,
        parse: |t| optional(t, listen::public_port),
        show: |s| s.https_port.map(|port| port.to_string()),
    }

    "h2c" => h2c: bool {
        value: "BOOL",
        default: "true",
        help: "Accepts HTTP/2 without TLS (h2c with prior knowledge), for example for gRPC behind a load balancer",
        accepted: SWITCH,
        scope: Process,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.h2c.to_string()),
    }


    rules {
        ["listen"] => |_, c| {
            let (first, second) = pairs(c.listeners).find(|(one, other)| collide(one, other))?;
            Some(match first == second {
                true => format!("{first} is listed twice"),
                false => format!("{first} and {second} overlap"),
            })
        },
        ["http_port", "listen"] => |_, c| {
            let mut redirects = c.redirect_listeners.iter();
            let (plain, taken) = redirects.find_map(|plain| {
                let taken = c.listeners.iter().find(|main| collide(main, plain))?;
                Some((plain, taken))
            })?;
            let ListenAddr::Tcp(plain) = plain else { return None };
            Some(format!(
                "port {} is used by both {taken} of {} and the redirect to HTTPS; \
                 set {}=0 to disable the redirect",
                plain.port(),
                c.name("listen"),
                c.name("http_port"),
            ))
        },
    }

    idle {
        ["https_port"] => |_, c| (!c.has_redirect).then(|| "no listener redirects to HTTPS".to_owned()),
    }
}

fn pairs<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter().enumerate().flat_map(|(index, one)| all[index + 1..].iter().map(move |other| (one, other)))
}
