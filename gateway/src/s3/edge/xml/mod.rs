//! XML documents: written with [`Xml`], read with [`Reader`].

mod read;
mod write;

pub(in crate::s3) use read::{Malformed, Reader};
pub(in crate::s3) use write::Xml;
