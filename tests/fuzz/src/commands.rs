//! Commands that a broken gateway, node or leader may propose, applied one after the other.
//!
//! Input: commands, each after its length (2 bytes). Whatever they contain: applying them never
//! gives a fatal error, which would stop every member of the group at the same entry; a refused one
//! changes nothing; and no row contradicts another afterwards.

use crate::edit::Script;
use crate::world::{self, ROWS};
use megalith_model::audit::audit;
use megalith_model::codec::{decode, encode};
use megalith_model::command::Envelope;

/// Commands beyond this number are ignored.
const COMMANDS_MAX: usize = 16;

pub fn target(data: &[u8]) {
    let mut script = Script(data);
    let mut rows = ROWS.clone();
    for _ in 0..COMMANDS_MAX {
        let Some(len) = script.short() else { break };
        let len = len.min(script.0.len());
        let bytes = script.take(len).expect("as long as it is");
        let Ok(envelope) = decode::<Envelope>(bytes) else {
            continue;
        };
        let before = envelope.token.is_none().then(|| rows.clone());
        let answer = world::play(&mut rows, &envelope);
        let answer = answer.unwrap_or_else(|error| panic!("{envelope:?}: {error:?}"));
        if let (Err(refusal), Some(before)) = (answer, before) {
            assert!(
                rows == before,
                "refused ({refusal}), and changed: {envelope:?}"
            );
        }
    }
    let problems = audit(&rows).expect("every row can be read");
    assert!(problems.is_empty(), "{problems:#?}");
}

/// The first inputs: each command alone, and all of them.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (name, command) in world::more_commands() {
        let bytes = encode(&world::envelope(3, command));
        let mut input = (bytes.len() as u16).to_le_bytes().to_vec();
        input.extend_from_slice(&bytes);
        all.extend_from_slice(&input);
        seeds.push((name.to_owned(), input));
    }
    seeds.push(("all-of-them".to_owned(), all));
    seeds
}
