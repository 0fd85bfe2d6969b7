//! The nouns of Megalith as types, and the logic that decides: no input or output, no clock, no
//! randomness, no tokio, tonic or sled.
//!
//! `ids`, `profile`, `shape` and `topology` are the vocabulary. `rows` is what the metadata group
//! stores, `keys` says under which key. `command` and `query` are what the group is asked; `entry`
//! is a command in the log. `claim` is what a storage node says of itself to be registered, `beat`
//! what a gateway says every second. `role` is what a certificate says of its holder, `denied`
//! which certificates are refused. `sealed` is what can be read of what is sealed,
//! `rotation` how all of it gets under a newer key.
//! `instruction` and `question` tie each to its outcome or reply. `kinds` lists every kind of
//! record, `level` says which may be used. `machine` applies commands and `answer` answers queries,
//! both on a `table`. `margin` says how safe the data is, `sum` what a slot holds, `audit` whether
//! the rows agree. `freeing` says when a delete may be
//! done. `restored` prepares the rows of a backup for a cluster that continues from them.

pub mod answer;
pub mod audit;
pub mod beat;
pub mod check;
pub mod claim;
pub mod codec;
pub mod command;
pub mod denied;
pub mod entry;
pub mod freeing;
pub mod ids;
pub mod instruction;
pub mod keys;
pub mod kinds;
pub mod level;
mod lookup;
pub mod machine;
pub mod margin;
pub mod member;
pub mod profile;
pub mod query;
pub mod question;
pub mod restored;
pub mod role;
pub mod rotation;
pub mod rows;
pub mod sealed;
pub mod settings;
pub mod shape;
pub mod shard;
pub mod status;
pub mod sum;
pub mod table;
pub mod topology;
