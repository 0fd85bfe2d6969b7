//! The front door: handles HTTP, XML, signatures and bodies, so that operations need not.
//!
//! The path of a request: [`face`] takes it, [`target`] finds what it names, [`auth`] verifies who
//! signed it, [`route`] finds its operation, and [`authorise`] permits it. The operation reads
//! [`request`], gets the bytes from [`body`] and [`chunked`], and sends back an [`answer`] or an
//! [`error`].
//!
//! No operation can be reached without a signature: it runs only with a
//! [`Granted`](authorise::Granted), which is made from a [`Verified`](auth::Verified), which only
//! [`auth`] makes.

pub(super) mod answer;
mod audit;
pub(super) mod auth;
pub(super) mod authorise;
pub(super) mod body;
mod chunked;
pub(super) mod dates;
pub(super) mod error;
mod face;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod host;
mod pace;
mod reader;
pub(super) mod request;
pub(super) mod route;
pub(super) mod target;
mod unknown;
mod window;
pub(super) mod words;
pub(super) mod xml;

pub use answer::AnswerBody;
pub use audit::PeerAddress;
pub use face::{Face, FaceParts};
pub use reader::Cut;
pub use window::Window;

use crate::ops::Store;
use std::sync::Arc;

/// What operations work with.
pub(super) struct Core {
    pub(super) store: Store,
    /// The only region.
    pub(super) region: Arc<str>,
}

impl Core {
    /// Returns what the next request works with.
    fn begin(&self) -> Self {
        Self {
            store: self.store.begin(),
            region: Arc::clone(&self.region),
        }
    }
}
