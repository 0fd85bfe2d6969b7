//! Commands that a broken gateway, node or leader may propose, applied one after the other.
//!
//! Input: commands, each after its length (2 bytes). Whatever they contain: applying them never
//! gives a fatal error, which would stop every member of the group at the same entry; a refused one
//! changes nothing; and no row contradicts another afterwards.

use crate::edit::Script;
use crate::world::{self, ROWS};
use megalith_model::audit::audit;
use megalith_model::codec::{decode, encode};
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::{AccountId, BucketId};

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
        // The answer to a command with a key is remembered.
        let before = envelope.key.is_none().then(|| rows.clone());
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
    let mut number = 100;
    let mut input = |command: Command| {
        number += 1;
        let bytes = encode(&world::envelope(number, command));
        let mut input = (bytes.len() as u16).to_le_bytes().to_vec();
        input.extend_from_slice(&bytes);
        input
    };
    let mut seeds = Vec::new();
    for (name, command) in world::more_commands() {
        seeds.push((name.to_owned(), input(command)));
    }
    let all = seeds.iter().flat_map(|(_, input)| input.clone()).collect();
    seeds.push(("all-of-them".to_owned(), all));
    // The world's own bucket is not empty.
    let mut passing = input(Command::CreateBucket {
        id: BucketId(501),
        name: "empty".into(),
        account: AccountId(1),
        sealed_owner: vec![7],
    });
    passing.extend(input(Command::DeleteBucket(BucketId(501))));
    seeds.push(("make-and-delete-a-bucket".to_owned(), passing));
    seeds
}
