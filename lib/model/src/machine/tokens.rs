//! Makes sure that a command proposed twice is applied once.
//!
//! Refusals are remembered too, by token *and* command: a delayed copy of a refused command must
//! not succeed after its proposer was told no. The same token with other contents (for example,
//! written again to another volume) is judged afresh. A success is the answer to its token whatever
//! the contents.

use super::MachineError;
use super::context::{Machine, damaged, read};
use crate::codec;
use crate::command::{Answer, Command, Envelope};
use crate::ids::Token;
use crate::keys::{KeyError, Meta, RowKey};
use crate::rows::{Digest, TokenRow};
use crate::table::{Overlay, Rows};

/// How long an answer is remembered, by the time of commands.
pub const TOKEN_KEPT_MS: u64 = 15 * 60 * 1_000;
/// How many old tokens one command removes at most.
const REMOVED_MAX: usize = 8;

/// The answer to an envelope that was applied before.
pub(super) fn remembered(
    rows: &Overlay<'_>,
    envelope: &Envelope,
) -> Result<Option<Answer>, MachineError> {
    let Some(token) = envelope.token else {
        return Ok(None);
    };
    let key = RowKey::Token(token);
    let Some(row) = read::<TokenRow>(rows, &key)? else {
        return Ok(None);
    };
    if let Some(refused) = row.refused
        && refused != command_digest(&envelope.command)
    {
        return Ok(None);
    }
    codec::decode(&row.answer)
        .map(Some)
        .map_err(|source| damaged(&key.encode(), source))
}

fn command_digest(command: &Command) -> Digest {
    *blake3::hash(&codec::encode(command)).as_bytes()
}

impl Machine<'_, '_> {
    /// Keeps the answer of a command that has a token.
    pub(super) fn remember(
        &mut self,
        envelope: &Envelope,
        answer: &Answer,
    ) -> Result<(), MachineError> {
        let Some(token) = envelope.token else {
            return Ok(());
        };
        let key = RowKey::Token(token);
        // There may be a refusal of other contents: its entry by time goes as well.
        if let Some(old) = self.read::<TokenRow>(&key)? {
            self.delete(&RowKey::TokenTime {
                time_ms: old.applied_ms,
                token,
            });
        }
        let row = TokenRow {
            applied_ms: self.now_ms,
            answer: codec::encode(answer),
            refused: answer.is_err().then(|| command_digest(&envelope.command)),
        };
        self.write(&key, &row);
        self.write(
            &RowKey::TokenTime {
                time_ms: self.now_ms,
                token,
            },
            &(),
        );
        Ok(())
    }

    /// Removes the oldest expired tokens, a few at a time. Starts from where the last removal
    /// ended: an engine keeps traces of removed rows for a while, and otherwise every command would
    /// step over them.
    pub(super) fn forget_old_tokens(&mut self) -> Result<(), MachineError> {
        let Some(before_ms) = self.now_ms.checked_sub(TOKEN_KEPT_MS) else {
            return Ok(());
        };
        let begin = RowKey::Meta(Meta::TokensFrom);
        let from_ms = self.read::<u64>(&begin)?.unwrap_or(0);
        let from = RowKey::TokenTime {
            time_ms: from_ms,
            token: Token::default(),
        };
        let to = RowKey::TokenTime {
            time_ms: before_ms,
            token: Token::default(),
        };
        let mut old: Vec<Result<(u64, Token), KeyError>> = Vec::new();
        self.rows
            .scan(&from.encode(), &to.encode(), &mut |key, _| {
                old.push(match RowKey::decode(key) {
                    Ok(RowKey::TokenTime { time_ms, token }) => Ok((time_ms, token)),
                    Ok(_) | Err(_) => Err(KeyError),
                });
                old.len() < REMOVED_MAX
            })?;
        let mut last_ms = from_ms;
        for place in old {
            let (time_ms, token) = place.map_err(|KeyError| {
                MachineError::Contradiction("a token's place in time is malformed".into())
            })?;
            self.delete(&RowKey::TokenTime { time_ms, token });
            self.delete(&RowKey::Token(token));
            last_ms = time_ms;
        }
        if last_ms > from_ms {
            self.write(&begin, &last_ms);
        }
        Ok(())
    }
}
