//! A load of connections that are idle after one request.

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use anyhow::{Result, ensure};

use super::Target;
use super::http1::{Connection, Socket};

/// The number of connections that are opened concurrently.
const CONCURRENCY: usize = 32;

/// The open idle connections, each of which has received one response.
pub(crate) struct Idle(Vec<Connection<Box<dyn Socket>>>);

impl Idle {
    pub(crate) async fn open(target: &Target, connections: usize) -> Result<Self> {
        let connector = target.connector()?;
        let mut openers = JoinSet::new();
        for opener in 0..CONCURRENCY {
            let (target, connector) = (target.clone(), connector.clone());
            openers.spawn(async move {
                let mut open = Vec::new();
                for number in (opener..connections).step_by(CONCURRENCY) {
                    let mut connection = Connection::new(target.socket(number, connector.as_ref()).await?);
                    connection.exchange(&target.get()).await?;
                    connection.shrink();
                    open.push(connection);
                }
                anyhow::Ok(open)
            });
        }
        let mut all = Vec::with_capacity(connections);
        while let Some(some) = openers.join_next().await {
            all.extend(some??);
        }
        Ok(Self(all))
    }

    /// Returns an error if the proxy has closed a connection, which would falsify the memory per connection.
    pub(crate) fn are_all_open(&mut self) -> Result<()> {
        let total = self.0.len();
        let quiet = |connection: &mut Connection<Box<dyn Socket>>| {
            connection.get_mut().read(&mut [0; 1]).now_or_never().is_none()
        };
        let open = self.0.iter_mut().map(quiet).filter(|open| *open).count();
        ensure!(open == total, "{} of {total} connections were closed", total - open);
        Ok(())
    }

    /// Sends another request on every `step`th idle connection.
    pub(crate) async fn check_some(&mut self, target: &Target, step: usize) -> Result<()> {
        for connection in self.0.iter_mut().step_by(step) {
            connection.exchange(&target.get()).await?;
        }
        Ok(())
    }
}
