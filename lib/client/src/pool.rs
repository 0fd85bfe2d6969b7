//! Connections to nodes' data ports: one request in flight on each, idle ones kept for a while.

use crate::body::ShardBody;
use crate::data::DataSettings;
use crate::error::{DataError, DataFault, chain};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use megalith_identity::{Role, TlsMaterial, connect_within};
use megalith_model::ids::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// hyper's read buffer: room for several cells, so that their bytes arrive in few pieces.
const READ_BUFFER_LEN_MAX: usize = 512 * 1024;

type Key = (NodeId, String);

/// All idle connections.
pub(crate) struct Pool {
    material: Arc<TlsMaterial>,
    settings: DataSettings,
    idle: Mutex<HashMap<Key, Vec<Connection>>>,
}

/// A connection; closed when dropped.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<ShardBody>,
    task: AbortHandle,
    key: Key,
    idle_since: Instant,
    /// Whether it has served before: then it may have been closed without our knowing.
    pub(crate) reused: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pool {
    pub(crate) fn new(material: Arc<TlsMaterial>, settings: DataSettings) -> Self {
        Self {
            material,
            settings,
            idle: Mutex::new(HashMap::new()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Key, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an idle connection that seems to be alive, or a new one.
    pub(crate) async fn take(&self, node: NodeId, address: &str) -> Result<Connection, DataError> {
        let key = (node, address.to_owned());
        while let Some(mut connection) = self.pop(&key) {
            if connection.sender.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        self.connect(node, address).await
    }

    fn pop(&self, key: &Key) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.idle();
        let connections = idle.get_mut(key)?;
        connections.retain(|connection| {
            let silent = now.saturating_duration_since(connection.idle_since);
            !connection.sender.is_closed() && silent < self.settings.idle_max
        });
        let newest = connections.pop();
        if connections.is_empty() {
            idle.remove(key);
        }
        newest
    }

    /// Makes a new connection.
    pub(crate) async fn connect(
        &self,
        node: NodeId,
        address: &str,
    ) -> Result<Connection, DataError> {
        let failed = |error: &dyn std::error::Error| DataError {
            node,
            fault: DataFault::Unreachable,
            message: chain(error),
        };
        let expected = Some((Role::Storage, node.0));
        let limit = self.settings.connect_deadline;
        let stream = connect_within(address, &self.material, expected, limit)
            .await
            .map_err(|error| failed(&error))?;
        let (sender, connection) = Builder::new()
            .max_buf_size(READ_BUFFER_LEN_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        // When it ends, the request in flight or the next user of the connection sees it.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    node = node.0,
                    error = chain(&error),
                    "data connection ended"
                );
            }
        });
        Ok(Connection {
            sender,
            task: task.abort_handle(),
            key: (node, address.to_owned()),
            idle_since: Instant::now(),
            reused: false,
        })
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        connection.reused = true;
        let mut idle = self.idle();
        let connections = idle.entry(connection.key.clone()).or_default();
        if connections.len() < self.settings.idle_connections_max {
            connections.push(connection);
        }
    }
}
