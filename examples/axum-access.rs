//! Access by client address, by password and by an authentication service, around an axum application.
//!
//! ```sh
//! htpasswd -B -c users alice
//! cargo run -p rproxy-examples --bin axum-access -- 127.0.0.1:8080 users http://127.0.0.1:9091/api/authz/forward-auth
//! curl -i http://127.0.0.1:8080/               # for clients of this machine and of private networks
//! curl -i -u alice http://127.0.0.1:8080/staff
//! curl -i http://127.0.0.1:8080/app            # the authentication service decides
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri};
use http_body_util::Empty;
use rproxy_access::{
    AddressFilterLayer, AddressList, AddressRules, Authenticated, BasicAuthLayer, ForwardAuthConfig, ForwardAuthLayer,
    Users,
};
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_upstream::Upstream;
use tokio::net::TcpListener;
use tower::BoxError;

async fn staff(Extension(authenticated): Extension<Authenticated>) -> String {
    format!("hello {}\n", authenticated.user().unwrap_or("stranger"))
}

async fn app(headers: HeaderMap) -> String {
    format!("hello {:?}\n", headers.get("remote-user"))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let users = PathBuf::from(arguments.next().unwrap_or_else(|| "users".to_owned()));
    let auth: Uri =
        arguments.next().unwrap_or_else(|| "http://127.0.0.1:9091/api/authz/forward-auth".to_owned()).parse()?;

    let office = AddressFilterLayer::new(AddressRules::new().allow(AddressList::parse("loopback, private")?));
    let password = BasicAuthLayer::builder(Users::read(&users)?).realm("Staff").build()?;
    let server = format!("{}://{}", auth.scheme_str().unwrap_or("http"), auth.authority().ok_or("no host")?);
    let client: Upstream<Empty<Bytes>> = Upstream::builder().backend(&server)?.build()?;
    let config = ForwardAuthConfig::builder(auth).copy_field(HeaderName::from_static("remote-user")).build()?;

    let router = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/staff", get(staff).layer(password))
        .route("/app", get(app).layer(ForwardAuthLayer::new(client, config)))
        .layer(office)
        // Outside of the others: it inserts the address of the client.
        .layer(ClientIpLayer::new(TrustedProxies::none()));
    let listener = TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
