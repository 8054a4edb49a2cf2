//! Connections that have made one request, and wait for another.

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use anyhow::{Result, ensure};

use super::Target;
use super::http1::{Connection, Socket};

/// How many are opened at the same time.
const AT_ONCE: usize = 32;

/// Open connections, each of which has had an answer.
pub(crate) struct Idle(Vec<Connection<Box<dyn Socket>>>);

impl Idle {
    pub(crate) async fn open(target: &Target, connections: usize) -> Result<Self> {
        let connector = target.connector()?;
        let mut openers = JoinSet::new();
        for opener in 0..AT_ONCE {
            let (target, connector) = (target.clone(), connector.clone());
            openers.spawn(async move {
                let mut open = Vec::new();
                for number in (opener..connections).step_by(AT_ONCE) {
                    let mut connection = Connection::new(target.socket(number, connector.as_ref()).await?);
                    connection.ask(&target.get()).await?;
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

    /// An error when the proxy has closed one: what it no longer holds costs it nothing.
    pub(crate) fn are_all_open(&mut self) -> Result<()> {
        let total = self.0.len();
        let quiet = |connection: &mut Connection<Box<dyn Socket>>| {
            connection.get_mut().read(&mut [0; 1]).now_or_never().is_none()
        };
        let open = self.0.iter_mut().map(quiet).filter(|open| *open).count();
        ensure!(open == total, "{} of {total} connections were closed", total - open);
        Ok(())
    }

    /// One more request on one of them in `of`: they are not only open, they work.
    pub(crate) async fn still_answer(&mut self, target: &Target, of: usize) -> Result<()> {
        for connection in self.0.iter_mut().step_by(of) {
            connection.ask(&target.get()).await?;
        }
        Ok(())
    }
}
